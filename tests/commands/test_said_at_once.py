"""Mistakes that are said before any network is built."""

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("ranp.models.request.Request.network", None)
    shape = (16, 16, 16)
    values = {
        "image": np.random.default_rng(0).normal(size=shape).astype(np.float32),
        "empty": np.zeros(shape, np.uint8),
        "labels": np.indices(shape)[0].astype(np.uint8) % 2,
    }
    for name, array in values.items():
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / f"{name}.nii")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nifti", "image", "empty"), "--labels {}/empty.nii: holds no label but 0, the background; expected"),
        (("nifti", "image", "none"), "--labels {}/none.nii: no such file"),
        (("nifti", "none", "labels"), "--images {}/none.nii: no such file"),
        (("niftii", "image", "labels"), "--data niftii: expected"),
        (("phantom", "image", "labels"), "--images and --labels: need --data nifti"),
    ],
)
def test_data(words: tuple[str, str, str], said: str, files: Path, refused: Callable[..., str]) -> None:
    data, image, labels = words
    found = refused(
        "prune", "unet3d", "--classes", 2, "--sparsity", 0.3, "--data", data, "--images", files / f"{image}.nii",
        "--labels", files / f"{labels}.nii", "--out", files / "run",
    )  # fmt: skip
    assert found.startswith(said.format(files))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--device", "gpu"), "--device gpu: expected cpu, cuda or cuda:1; did you mean 'cuda'?"),
        (("--device", "cdua"), "--device cdua: expected cpu, cuda or cuda:1; did you mean 'cuda'?"),
        (("--device", "xpu"), "--device xpu: not here; `ranp doctor` lists what is ("),
    ],
)
def test_devices(words: tuple[str, str], said: str, files: Path, refused: Callable[..., str]) -> None:
    assert refused("prune", "unet3d", "--sparsity", 0.3, *words, "--out", files / "run").startswith(said)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("bad.py:", "MODEL bad.py:: names nothing behind the colon"),
        ("plans.json", ".json files hold no network that ranp could build"),
        ("weights.pth", ".pth files hold no network that ranp could build"),
    ],
)
def test_what_is_no_model(model: str, said: str, tmp_path: Path, refused: Callable[..., str]) -> None:
    assert said in refused("inspect", model)


def test_no_folder_is_made_for_a_picture(tmp_path: Path, refused: Callable[..., str]) -> None:
    said = refused("inspect", "unet3d", "--input", 16, "--svg", tmp_path / "no" / "a.svg")
    assert said == f"--svg {tmp_path}/no/a.svg: no folder {tmp_path}/no"
    assert not (tmp_path / "no").exists()
