import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from ranp import runs
from ranp.files import sha256

SMALL = ["unet3d", "--set", "base_width=4", "--set", "depth=2", "--classes", "3", "--patch", "8"]
Call = Callable[..., Any]


@pytest.fixture
def run(ranp: Call, tmp_path: Path) -> Path:
    ranp("prune", *SMALL, "--method", "l1", "--sparsity", "0.4", "--out", tmp_path / "run")
    return tmp_path / "run"


def test_a_run_verifies(ranp: Call, answer: Call, run: Path) -> None:
    text = ranp("verify", run).stdout
    assert "plan.json: as it was written" in text
    assert "verified: slim = masked" in text
    report = answer("verify", run, "--inputs", "3")
    assert report["passed"]
    assert report["inputs"] == 3
    assert report["hashes"]["plan.json"] == sha256(run / "plan.json")
    assert report["frozen"] == {"network output": 3}


@pytest.mark.parametrize("name", ["plan.json", "slim.safetensors"])
def test_a_changed_file_fails(refused: Call, run: Path, name: str) -> None:
    content = bytearray((run / name).read_bytes())
    content[-3] ^= 1 if name != "plan.json" else 0
    (run / name).write_bytes(content if name != "plan.json" else content.replace(b'"seed": 0', b'"seed": 1'))
    assert f"{name}: changed since it was written" in refused("verify", run, code=1)


def test_other_weights_still_fit_the_plan(answer: Call, run: Path) -> None:
    path = run / "slim.safetensors"
    save_file({name: torch.ones_like(value) for name, value in load_file(path).items()}, path)
    report = json.loads((run / "report.json").read_text())
    report["hashes"]["slim.safetensors"] = sha256(path)
    (run / "report.json").write_text(json.dumps(runs.sealed(report)))
    assert answer("verify", run)["passed"]


def test_what_is_no_run_is_refused(refused: Call, tmp_path: Path, run: Path) -> None:
    assert "no such run folder" in refused("verify", tmp_path / "none")
    (run / "report.json").unlink()
    assert "report.json is missing" in refused("verify", run)


def test_another_model_does_not_fit(refused: Call, run: Path) -> None:
    assert "group" in refused("verify", run, "--model", "unet3d", "--set", "base_width=8", "--set", "depth=2")


@pytest.mark.parametrize("spec", ["os:system", "{file}:make", "monai.networks.blocks:Convolution", "unet4d"])
def test_a_factory_put_into_the_config_is_refused_and_never_called(refused: Call, run: Path, spec: str) -> None:
    mark, file = run.parent / "called", run.parent / "evil.py"
    file.write_text(f"import pathlib\npathlib.Path({str(mark)!r}).touch()\n")
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump({**config, "model": spec.format(file=file)}))
    assert spec.format(file=file) in refused("verify", run)
    assert not mark.exists()


NOTHING = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, in_channels=1):
        super().__init__()
        self.a, self.b = nn.Conv2d(in_channels, 8, 3), nn.Conv2d(8, 2, 1)

    def forward(self, x):
        return self.b(self.a(x)) * 0 + 1
"""


def test_what_proves_nothing_is_kept_and_no_success(
    ranp: Call, answer: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "net.py").write_text(NOTHING)
    monkeypatch.chdir(tmp_path)
    words = ("prune", "net.py:Net", "--patch", "8x8", "--method", "l1", "--sparsity", 0.4, "--out", "run")
    said = ranp(*words, code=1).stdout
    assert "NOT PROVED: no output changes with the input" in said
    assert said.rstrip().endswith("wrote run")
    assert answer(*words, "--force", code=1)["verify"]["passed"] is False
    assert not answer("verify", "run", "--model", "net.py:Net", code=1)["passed"]
    moved = ranp("transfer", "run", "--model", "net.py:Net", "--in-channels", 3, "--out", "moved", code=1)
    assert moved.stdout.rstrip().endswith("wrote moved")
    save_file(load_file("run/slim.safetensors"), "same.safetensors")
    adopted = ranp("adopt", "run", "--model", "net.py:Net", "--weights", "same.safetensors", code=1)
    assert "NOT PROVED" in adopted.stdout
    assert "trained" in json.loads(Path("run/report.json").read_text())
