import json
from pathlib import Path

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from ranp import models, runs
from ranp.commands.main import app
from ranp.graph.build import trace
from ranp.selection import select
from ranp.surgery import slim

pytest.importorskip("onnxruntime")

SETTINGS = {"in_channels": 1, "classes": 2, "base_width": 4, "depth": 2}

FACTORY = """
from torch import nn

def net(width=4):
    return nn.Sequential(nn.Conv2d(1, width, 3), nn.ReLU(), nn.Conv2d(width, 2, 1))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model, image = models.build("unet2d", **SETTINGS), torch.zeros(1, 1, 8, 8)
    plan = select(trace(model, image), None, rule="random", sparsity=0.3)
    path = tmp_path_factory.mktemp("export") / "run"
    return runs.save(path, slim(model, plan), plan, {}, {"model": "unet2d", "settings": SETTINGS})


def test_exports_into_the_run_and_prints_the_parity(run: Path) -> None:
    result = CliRunner().invoke(app, ["export", str(run)])
    assert result.exit_code == 0, result.output
    assert "slim.onnx: " in result.stdout
    assert "1x1x8x8" in result.stdout
    assert "100.00%" in result.stdout
    assert runs.read(run).values["onnx"]["passed"]
    again = CliRunner().invoke(app, ["export", str(run)])
    assert again.exit_code == 2
    assert again.stderr.count("\n") == 1
    assert "replace it with --force" in again.stderr


def test_json_is_one_object_and_torch_export_alone_writes_no_onnx(run: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["export", str(run), "--torch-export", str(tmp_path / "slim.pt2"), "--json"])
    assert result.exit_code == 0, result.output
    assert list(json.loads(result.stdout)) == ["torch_export"]
    assert [path.name for path in tmp_path.iterdir()] == ["slim.pt2"]


def test_dry_run_writes_nothing(run: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["export", str(run), "--onnx", str(tmp_path / "net.onnx"), "--dry-run"])
    assert result.exit_code == 0, result.output
    assert "dry run: would write" in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_foreign_factory_is_built_only_when_it_is_given(tmp_path: Path) -> None:
    factory = tmp_path / "mine.py"
    factory.write_text(FACTORY)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 2, 1))
    plan = select(trace(model, torch.zeros(1, 1, 8, 8)), None, rule="random", sparsity=0.3)
    spec = f"{factory}:net"
    run = runs.save(tmp_path / "run", slim(model, plan), plan, {}, {"model": spec, "settings": {"width": 6}})
    refused = CliRunner().invoke(app, ["export", str(run)])
    assert refused.exit_code == 2
    assert f"repeat it with --model {spec}" in refused.stderr
    given = CliRunner().invoke(app, ["export", str(run), "--model", spec])
    assert given.exit_code == 0, given.output
    assert (run / "slim.onnx").is_file()
