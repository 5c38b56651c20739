"""Factories of a person's own: channels and classes under any name, classes as settings."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ranp import runs
from ranp.models.spec import resolve

Call = Callable[..., Any]
HEAD = "from typing import Optional, Type, Union\n\nimport torch\nfrom torch import nn\n\n\n"
BODY = "    return nn.Sequential(nn.Conv2d({a}, {w}, 3), nn.ReLU(), nn.Conv2d({w}, {b}, 1))\n"
FACTORIES = {
    "nnU-Net's": ("input_channels=3, width=6, num_classes=2", "input_channels", "num_classes"),
    "odd": ("width=6, bands=3, kinds: int = 2", "bands", "kinds"),
    "usual": ("in_channels=3, out_channels=2, width=6", "in_channels", "out_channels"),
    "a misleading name": ("in_channels=6, bands=3, classes=2", "bands", "classes"),
}


def write(folder: Path, name: str) -> Path:
    arguments, channels, classes = FACTORIES[name]
    width = "in_channels" if name == "a misleading name" else "width"
    path = folder / "net.py"
    path.write_text(f"{HEAD}def net({arguments}):\n{BODY.format(a=channels, w=width, b=classes)}")
    return path


@pytest.mark.parametrize("name", [name for name in FACTORIES if name != "a misleading name"])
def test_a_prune_takes_the_channels_of_the_factory(ranp: Call, name: str, tmp_path: Path) -> None:
    file = write(tmp_path, name)
    words = ["--input", "12x12", "--method", "l1", "--sparsity", "0.4", "--out", tmp_path / "run"]
    ranp("prune", f"{file}:net", *words)
    assert runs.read(tmp_path / "run").report.input == [[3, 12, 12]]


@pytest.mark.parametrize("channels", [3, 2])
def test_a_prune_reads_channels_off_the_images(ranp: Call, refused: Call, channels: int, tmp_path: Path) -> None:
    """Neither the argument called in_channels nor the first convolution is that of the image."""
    nibabel = pytest.importorskip("nibabel")
    (tmp_path / "net.py").write_text(
        f"{HEAD}class Net(nn.Module):\n    def __init__(self, bands=3, in_channels=6):\n        super().__init__()\n"
        "        self.last = nn.Conv2d(in_channels, 2, 1)\n        self.first = nn.Conv2d(bands, in_channels, 1)\n\n"
        "    def forward(self, x):\n        return self.last(self.first(x).relu())\n"
    )
    image, labels = tmp_path / "i.nii.gz", tmp_path / "l.nii.gz"
    volume = np.random.default_rng(0).normal(size=(8, 8, 8, channels)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), image)
    nibabel.save(nibabel.Nifti1Image((np.arange(512).reshape(8, 8, 8) % 2).astype(np.uint8), np.eye(4)), labels)
    data = ["--data", "nifti", "--images", image, "--labels", labels, "--patch", "6x6", "--batches", "1"]
    words = ["prune", f"{tmp_path}/net.py:Net", *data, "--sparsity", "0.3", "--out", tmp_path / "run"]
    if channels != 3:
        assert "expected input[1, 6, 6, 6] to have 3 channels" in refused(*words)
        return
    ranp(*words)
    run = runs.read(tmp_path / "run")
    assert (run.report.input, run.config["in_channels"]) == ([[3, 6, 6]], 3)


@pytest.mark.parametrize("data", [False, True])
@pytest.mark.parametrize("name", FACTORIES)
def test_a_transfer_finds_channels_and_classes_and_says_so(ranp: Call, name: str, data: bool, tmp_path: Path) -> None:
    file = write(tmp_path, name)
    words = ["--in-channels", "3", "--input", "12x12", "--method", "l1", "--sparsity", "0.4"]
    ranp("prune", f"{file}:net", *words, "--out", tmp_path / "run")
    given: list[object] = ["--in-channels", "5", "--classes", "7"]
    if data:
        nibabel = pytest.importorskip("nibabel")
        image, labels = tmp_path / "i.nii.gz", tmp_path / "l.nii.gz"
        volume = np.random.default_rng(0).normal(size=(8, 8, 8, 5)).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), image)
        nibabel.save(nibabel.Nifti1Image((np.arange(512).reshape(8, 8, 8) % 7).astype(np.uint8), np.eye(4)), labels)
        given = ["--data", "nifti", "--images", image, "--labels", labels]
    text = ranp("transfer", tmp_path / "run", "--model", f"{file}:net", *given, "--out", tmp_path / "new").stdout
    _, channels, classes = FACTORIES[name]
    assert f"--in-channels 5 is --set {channels}=5 of {file}:net" in text
    assert f"--classes 7 is --set {classes}=7 of {file}:net" in text
    run = runs.read(tmp_path / "new")
    assert run.config["settings"] == {channels: 5, classes: 7}
    assert run.slim(f"{file}:net")(torch.zeros(1, 5, 12, 12)).shape == (1, 7, 10, 10)


def test_what_no_setting_holds_is_said(refused: Call, ranp: Call, tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_text(f"{HEAD}def net(width=6):\n{BODY.format(a=3, w='width', b=2)}")
    words = ["--input", "12x12", "--method", "l1", "--sparsity", "0.4", "--out", tmp_path / "run"]
    ranp("prune", f"{file}:net", *words)
    words = ["transfer", tmp_path / "run", "--model", f"{file}:net", "--out", tmp_path / "new"]
    assert "--in-channels 5: " in (said := refused(*words, "--in-channels", "5"))
    assert "has no setting in_channels or" in said
    assert "--classes 5: " in refused(*words, "--classes", "5")
    assert not (tmp_path / "new").exists()
    ranp(*words, "--classes", "2", "--in-channels", "3")  # as they are: nothing to set


CLASSES = {
    "annotated": "conv: Type[nn.Module] = nn.Conv2d, norm: Optional[Type[nn.Module]] = None",
    "a union": "conv: Union[None, Type[nn.Module]], norm: Union[Type[nn.Module], None] = None",
    "by its default": "conv=nn.Conv2d, norm=None",
    "unsaid": "conv, norm=None",
}


@pytest.mark.parametrize("name", CLASSES)
def test_classes_are_settings_by_their_dotted_names(ranp: Call, refused: Call, name: str, tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_text(
        f"{HEAD}def net({CLASSES[name]}, word='torch.nn.ReLU'):\n    assert word == 'torch.nn.ReLU'\n"
        "    return nn.Sequential(conv(1, 6, 3), norm(6) if norm else nn.ReLU(), conv(6, 2, 1))\n"
    )
    words = ["--set", "conv=torch.nn.Conv3d", "--set", "norm=torch.nn.InstanceNorm3d"]
    ranp(
        "prune", f"{file}:net", *words, "--input", "8", "--method", "l1", "--sparsity", "0.4", "--out", tmp_path / "run"
    )
    run = runs.read(tmp_path / "run")
    assert run.config["settings"] == {"conv": "torch.nn.Conv3d", "norm": "torch.nn.InstanceNorm3d"}
    ranp("verify", tmp_path / "run", "--model", f"{file}:net")
    if name != "unsaid":
        said = refused("inspect", f"{file}:net", "--set", "conv=torch.nn.Konv3d", "--input", "8")
        assert "--set conv='torch.nn.Konv3d': " in said
        assert "expects a class by its dotted name" in said


def test_a_file_names_no_function_that_is_called(tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_text(f"{HEAD}def net(conv, out):\n    conv('touch ' + out)\n    return nn.Conv2d(1, 2, 3)\n")
    for name in ("os.system", "subprocess.Popen", "builtins.eval", "pathlib.Path", "torch.load"):
        with pytest.raises(ValueError, match="'str' object is not callable"):
            resolve(f"{file}:net", {"conv": name, "out": str(tmp_path / "pwned")})
    assert not (tmp_path / "pwned").exists()
