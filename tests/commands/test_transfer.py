import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from ranp import models, runs
from ranp.commands.main import app
from ranp.pipeline._prune import prune

SETTINGS = {"in_channels": 1, "classes": 2, "base_width": 4, "depth": 2}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = prune(models.build("unet2d", **SETTINGS), torch.zeros(1, 1, 8, 8), rule="random", sparsity=0.3)
    path = tmp_path_factory.mktemp("transfer") / "run"
    return runs.save(path, found.slim, found.plan, {}, {"model": "unet2d", "settings": SETTINGS})


def test_writes_a_run_that_repeats_from_its_config(run: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    asked = ["--in-channels", "4", "--classes", "5", "--input", "16", "--keep-weights", "--seed", "3"]
    result = CliRunner().invoke(app, ["transfer", str(run), *asked, "--out", str(first)])
    assert result.exit_code == 0, result.output
    assert "widths of run (input 1x8x8)" in result.stdout
    assert "batch 1 of 4x16x16" in result.stdout
    assert "verified" in result.stdout
    again = CliRunner().invoke(
        app, ["transfer", "--config", str(first / "config.yaml"), "--out", str(second), "--json"]
    )
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout)["input"] == [[4, 16, 16]]
    for name in ("plan.json", "slim.safetensors"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_dry_run_writes_nothing(run: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app, ["transfer", str(run), "--classes", "5", "--out", str(tmp_path / "new"), "--dry-run"]
    )
    assert result.exit_code == 0, result.output
    assert "the plan fits; dry run" in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_plan_that_does_not_fit_is_one_line_and_exit_code_2(run: Path, tmp_path: Path) -> None:
    asked = ["transfer", str(run), "--set", "depth=3", "--out", str(tmp_path / "new")]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: the plan does not fit: ")
    assert result.stderr.count("\n") == 1
    assert CliRunner().invoke(app, ["transfer", str(run)]).stderr.startswith("error: --out is missing")
