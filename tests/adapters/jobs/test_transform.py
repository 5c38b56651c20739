"""`ranp transform`, and its runs as a MODEL of the other commands."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from ranp import models
from ranp.adapters.jobs.transform import load_dilated
from ranp.commands.main import app
from ranp.errors import UsageError

SMALL = ("--set", "width=2", "--classes", "3", "--input", "64x48")
MONAI = (
    "monai.networks.nets:ResNet", "--set", "block=basic", "--set", "layers=[1,1,1,1]", "--set", "spatial_dims=2",
    "--set", "block_inplanes=[2,2,4,4]", "--set", "n_input_channels=1", "--set", "num_classes=3", "--input", "32x32",
)  # fmt: skip
FACTORY = """
from torch import nn
from torch.nn.functional import interpolate

def small(channels: int = 1):
    return nn.Sequential(nn.Conv2d(channels, 3, 3, 2, 1), nn.MaxPool2d(2), nn.Conv2d(3, 2, 3, padding=1))

class Resized(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = small(3)

    def forward(self, x):
        return interpolate(self.body(x), size=x.shape[2:])
"""


def call(*words: object, code: int = 0) -> Any:
    result = CliRunner().invoke(app, [*map(str, words), *(["--json"] if code == 0 else [])])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout) if code == 0 else result.stderr.splitlines()[-1]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("own") / "mine.py"
    file.write_text(FACTORY)
    return file


def test_a_built_in_with_its_weights(tmp_path: Path) -> None:
    report = call("transform", "deeplab", *SMALL, "--seed", 3, "--out", tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "config.yaml", "dilated.safetensors", "report.json",
    ]  # fmt: skip
    assert report["verify"]["max_rel_diff"] < 1e-5
    assert report["verify"]["compared"] == 1
    assert not report["verify"]["outputs"]
    full = models.build("deeplab", width=2, classes=3, seed=3)
    kept = load_file(tmp_path / "run" / "dilated.safetensors")
    assert all(torch.equal(kept[name], value) for name, value in full.state_dict().items())
    network = load_dilated(str(tmp_path / "run"))
    assert network.backbone(torch.zeros(1, 3, 64, 64))[-1].shape[2:] == (8, 8)


def test_a_run_is_a_model(own: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    spec = f"{own}:small"
    report = call("transform", spec, "--output-stride", "2x1", "--input", "16x24", "--out", tmp_path / "dense")
    assert report["outputs"] == {"before": [[1, 2, 4, 6]], "after": [[1, 2, 8, 24]]}
    assert report["changed"] == {
        "0": "stride 2x1",
        "1": "stride 1x1, dilation times 1x2",
        "2": "dilation times 2x4",
    }
    words = ("prune", tmp_path / "dense", "--sparsity", 0.3, "--method", "l1", "--out", tmp_path / "slim")
    assert "never make ranp build this network" in call(*words, code=2)
    words = (*words, "--set", f"network={spec}")
    assert call(*words)["verify"]["passed"]
    exported = call("export", tmp_path / "slim", "--model", "ranp.adapters.jobs.transform:load_dilated")
    assert exported["onnx"]["passed"]
    with pytest.raises(UsageError, match=r"is made of .*mine\.py:small, not unet2d"):
        load_dilated(str(tmp_path / "dense"), "unet2d")


def test_a_run_trains(own: Path, tmp_path: Path) -> None:
    spec = f"{own}:Resized"
    call("transform", spec, "--output-stride", "2", "--input", "32x32", "--out", tmp_path / "dense")
    words = ("--set", f"network={spec}", "--data", "phantom", "--classes", 2, "--patch", "32x32", "--steps", 1)
    assert call("train", tmp_path / "dense", *words, "--out", tmp_path / "trained")["steps"] == 1


def test_a_pruned_run_is_copied(tmp_path: Path) -> None:
    call("prune", *MONAI, "--method", "l1", "--sparsity", 0.2, "--out", tmp_path / "slim")
    report = call("transform", tmp_path / "slim", "--output-stride", "4", "--out", tmp_path / "dense")
    assert report["verify"]["outputs"]
    assert report["verify"]["max_rel_diff"] < 1e-5
    assert (tmp_path / "dense" / "network" / "plan.json").is_file()
    assert load_dilated(str(tmp_path / "dense"))(torch.zeros(1, 1, 32, 32)).shape == (1, 3)
    again = ("transform", tmp_path / "slim", "--classes", 4, "--out", tmp_path / "other")
    assert "--classes 4: " in call(*again, code=2)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("deeplab", *SMALL, "--output-stride", "x"), 2, "--output-stride x: expected a size such as"),
        (("deeplab", *SMALL, "--output-stride", "16"), 2, "--output-stride 16x16: no stride is above it"),
        (("deeplab", *SMALL, "--output-stride", "3"), 2, "--output-stride 3x3: the stride at"),
        (("unet2d", "--set", "base_width=2", "--input", "32"), 3, "transposed convolution at decoder.0.upsample: enl"),
        (("psm",), 2, "MODEL psm: takes 2 inputs; expected a network of one image"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(
    words: tuple[str, ...], code: int, said: str, tmp_path: Path
) -> None:
    assert said in call("transform", *words, "--out", tmp_path / "run", code=code)
    assert not (tmp_path / "run").exists()


def test_a_dry_run_says_what_would_be(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["transform", "deeplab", *SMALL, "--dry-run", "--out", str(tmp_path / "run")])
    assert "dry run: nothing written" in result.stdout
    assert "in the features that are resized to a given size" in result.stdout
    assert not (tmp_path / "run").exists()
