"""Networks of one output channel (sigmoid), from the command line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

UNET = ("unet3d", "--classes", 1, "--set", "base_width=8", "--patch", 16, "--batches", 1, "--sparsity", 0.4)
CLASSIFIER = """
from torch import nn

def factory(classes=1):
    body = nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3)
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 1))
"""


def test_the_loss_is_chosen_by_the_channels(tmp_path: Path, answer: Callable[..., dict[str, Any]]) -> None:
    report = answer("prune", *UNET, "--out", tmp_path / "run")
    assert report["sparsity"]["achieved"] >= 0.3
    assert report["slim"]["params"] < report["full"]["params"]
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["loss"] == "bce"


def test_a_classifier_of_one_logit(tmp_path: Path, answer: Callable[..., dict[str, Any]]) -> None:
    (tmp_path / "net.py").write_text(CLASSIFIER)
    model = f"{tmp_path}/net.py:factory"
    report = answer("prune", model, "--patch", "12x12", "--sparsity", 0.4, "--batches", 2, "--out", tmp_path / "run")
    assert report["sparsity"]["achieved"] >= 0.3
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["loss"] == "bce"


@pytest.mark.parametrize("loss", ["ce", "ce-dice"])
def test_a_loss_without_a_gradient_is_refused_before_anything_is_run(
    loss: str, tmp_path: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ranp.jobs.prune.prune", None)
    said = refused("prune", *UNET, "--loss", loss, "--out", tmp_path / "run")
    fits = loss.replace("ce", "bce", 1)
    assert said.startswith(f"--loss {loss}: the network gives one channel")
    assert said.endswith(f"expected {fits}")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("classes", [(), ("--classes", 1), ("--classes", 2)])
def test_labels_of_a_file(classes: tuple[Any, ...], tmp_path: Path, answer: Callable[..., dict[str, Any]]) -> None:
    nibabel = pytest.importorskip("nibabel")
    labels = np.zeros((16, 16, 16), np.uint8)
    labels[4:10, 4:10, 4:10] = 1
    image = np.random.default_rng(0).normal(size=labels.shape).astype(np.float32) + 2 * labels
    for name, values in (("image", image), ("labels", labels)):
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / f"{name}.nii")
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\ndef net():\n    return nn.Sequential("
        "nn.Conv3d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv3d(8, 1, 3, padding=1))\n"
    )
    report = answer(
        "prune", f"{tmp_path}/net.py:net", "--data", "nifti", "--images", tmp_path / "image.nii", "--labels",
        tmp_path / "labels.nii", *classes, "--patch", 12, "--batches", 2, "--loss", "bce-dice", "--sparsity", 0.4,
        "--out", tmp_path / "run",
    )  # fmt: skip
    assert report["sparsity"]["achieved"] >= 0.3
