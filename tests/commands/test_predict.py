"""`ranp predict`: files in, files on the same grid out, by torch or by an exported file; `ranp refine` goes on."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import Result

from ranp.data.layouts._pfm import read_pfm

nibabel = pytest.importorskip("nibabel")

AFFINE = np.array([[0.0, -1.5, 0.0, 0.0], [1.0, 0.0, 0.0, 7.0], [0.0, 0.0, 2.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
RUN = ("unet3d", "--set", "base_width=4", "--set", "depth=2", "--patch", "8", "--sparsity", "0.2", "--batches", "1")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two volumes whose labels are 0, 1 and 4, and a run that was pruned on them."""
    from typer.testing import CliRunner

    from ranp.commands.main import app

    root = tmp_path_factory.mktemp("predict")
    rng = np.random.default_rng(0)
    for k in range(2):
        classes = rng.integers(0, 3, (14, 13, 12))
        image = np.array([0, 50, 110])[classes] + rng.normal(size=classes.shape)
        for folder, values in (("images", image.astype(np.int16)), ("labels", np.array([0, 1, 4], np.uint8)[classes])):
            (root / "vol" / folder).mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(values, AFFINE), root / "vol" / folder / f"case{k}.nii.gz")
    made = CliRunner().invoke(
        app, ["prune", *RUN, "--data", str(root / "vol"), "--label-map", "1=1,4=2", "--out", str(root / "run")]
    )
    assert made.exit_code == 0, made.output
    return root


def read(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj)


def test_labels_are_the_values_of_the_map_on_the_grid_of_the_image(
    answer: Callable[..., dict[str, Any]], data: Path, tmp_path: Path
) -> None:
    images = [word for k in (0, 1) for word in ("--images", data / "vol" / "images" / f"case{k}.nii.gz")]
    out = tmp_path / "said"
    found = answer("predict", data / "run", *images, "--out", out, "--probabilities", "--logits")
    assert found["values"] == [0, 1, 4]
    assert json.loads((out / "predictions.json").read_text())["cases"] == found["cases"]
    files = ["case0.nii.gz", "case0_logits.nii.gz", "case0_probabilities.nii.gz"]
    assert found["cases"][0] == {"name": "case0", "files": files}
    logits, odds = (read(out / f"case0_{kind}.nii.gz") for kind in ("logits", "probabilities"))
    labels = nibabel.load(out / "case0.nii.gz")
    assert labels.get_data_dtype() == np.uint8
    np.testing.assert_allclose(labels.affine, AFFINE)
    np.testing.assert_array_equal(np.asarray(labels.dataobj), np.array([0, 1, 4])[logits.argmax(-1)])
    np.testing.assert_allclose(odds, torch.from_numpy(logits).softmax(-1).numpy(), atol=1e-5)


def test_what_is_predicted_is_what_is_evaluated(
    answer: Callable[..., dict[str, Any]], ranp: Callable[..., Result], data: Path, tmp_path: Path
) -> None:
    measured = answer("evaluate", data / "run", "--data", data / "vol", "--spacing", "2")
    ranp("predict", data / "run", "--data", data / "vol", "--spacing", "2", "--out", tmp_path / "said")
    for k, case in enumerate(measured["cases"]):
        said = read(tmp_path / "said" / f"case{k}.nii.gz")
        true = read(data / "vol" / "labels" / f"case{k}.nii.gz")
        assert said.shape == true.shape
        for value, dice in zip((0, 1, 4), case["dice"], strict=True):
            both, either = ((said == value) & (true == value)).sum(), (said == value).sum() + (true == value).sum()
            assert dice is None if not either else dice == pytest.approx(2 * both / either, abs=1e-6)


def test_an_exported_file_says_the_same(ranp: Callable[..., Result], data: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    ranp("export", data / "run", "--onnx", tmp_path / "net.onnx")
    image = data / "vol" / "images" / "case1.nii.gz"
    for name, more in (("torch", []), ("onnx", ["--onnx", tmp_path / "net.onnx"])):
        ranp("predict", data / "run", "--images", image, "--logits", "--mirror", "--out", tmp_path / name, *more)
    one, other = (read(tmp_path / name / "case1_logits.nii.gz") for name in ("torch", "onnx"))
    np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
    assert np.ptp(one) > 100 * np.abs(one - other).max()
    assert json.loads((tmp_path / "onnx" / "predictions.json").read_text())["onnx"].endswith("net.onnx")


@pytest.mark.parametrize("kind", ["probabilities", "logits"])
@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
def test_refine_takes_the_scores_as_they_are(
    ranp: Callable[..., Result], data: Path, tmp_path: Path, kind: str, ending: str
) -> None:
    sitk = pytest.importorskip("SimpleITK")
    image = data / "vol" / "images" / "case0.nii.gz"
    if ending != ".nii.gz":
        other = tmp_path / f"case0{ending}"
        sitk.WriteImage(sitk.ReadImage(str(image)), str(other))
        image = other
    out = tmp_path / "said"
    ranp("predict", data / "run", "--images", image, f"--{kind}", "--out", out)
    scores = out / f"case0_{kind}{ending}"
    more = ["--probabilities"] if kind == "probabilities" else []
    ranp("refine", scores, *more, "--image", image, "--iterations", "1", "--out", tmp_path / "refined.nii.gz")
    refined = nibabel.load(tmp_path / "refined.nii.gz")
    assert refined.shape == (14, 13, 12)
    np.testing.assert_allclose(refined.affine, AFFINE, atol=1e-5)


def test_a_folder_is_replaced_only_if_it_is_one_of_predictions(
    ranp: Callable[..., Result], refused: Callable[..., str], data: Path, tmp_path: Path
) -> None:
    words = ["predict", data / "run", "--images", data / "vol" / "images" / "case0.nii.gz", "--out"]
    ranp(*words, tmp_path / "said")
    assert "exists" in refused(*words, tmp_path / "said")
    ranp(*words, tmp_path / "said", "--force")
    (tmp_path / "said" / "notes.txt").write_text("mine")
    assert "holds notes.txt, which is not of the predictions" in refused(*words, tmp_path / "said", "--force")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    assert "not a folder of `ranp predict`" in refused(*words, tmp_path / "other", "--force")
    assert "holds the input" in refused(*words, data / "vol" / "images", "--force")


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ([], "--images is missing"),
        (["--images", "no.nii.gz"], "--images no.nii.gz: no such file"),
        (["--data", "phantom"], "--data phantom: expected files"),
        (["--images", "pyproject.toml"], "--images pyproject.toml: "),
    ],
)
def test_mistakes_are_a_line_and_nothing_is_written(
    refused: Callable[..., str], data: Path, tmp_path: Path, more: list[str], line: str
) -> None:
    assert refused("predict", data / "run", *more, "--out", tmp_path / "said").startswith(line)
    assert not (tmp_path / "said").exists()


def test_pictures_are_labelled_and_told(ranp: Callable[..., Result], tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 255, (21, 30, 3), dtype=np.uint8)
    image.fromarray(pixels).save(tmp_path / "a.png")
    (tmp_path / "nets.py").write_text(
        "import torch\nfrom torch import nn\n"
        "def labels():\n    return nn.Conv2d(3, 4, 3, padding=1)\n"
        "def told():\n    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 5))\n"
    )
    words = ["--images", tmp_path / "a.png", "--in-channels", "3", "--patch", "16x16"]
    ranp("predict", f"{tmp_path / 'nets.py'}:labels", *words, "--probabilities", "--out", tmp_path / "p")
    scores = np.load(tmp_path / "p" / "a_probabilities.npy")
    assert scores.shape == (4, 21, 30)
    np.testing.assert_array_equal(np.asarray(image.open(tmp_path / "p" / "a.png")), scores.argmax(0))
    ranp("refine", tmp_path / "p" / "a_probabilities.npy", "--probabilities", "--image", tmp_path / "a.png",
         "--iterations", "1", "--out", tmp_path / "refined.npy")  # fmt: skip
    assert np.load(tmp_path / "refined.npy").shape == (21, 30)
    ranp("predict", f"{tmp_path / 'nets.py'}:told", *words, "--out", tmp_path / "c")
    (row,) = csv.DictReader((tmp_path / "c" / "classes.csv").read_text().splitlines())
    assert (row["case"], row["name"]) == ("a", f"class {row['class']}")
    assert 0.2 <= float(row["probability"]) <= 1


def test_a_stereo_pair_becomes_a_map_of_its_size(ranp: Callable[..., Result], tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    for side in ("left", "right"):
        (tmp_path / "pairs" / side).mkdir(parents=True)
        pixels = np.random.default_rng(0).integers(0, 255, (50, 70, 3), dtype=np.uint8)
        image.fromarray(pixels).save(tmp_path / "pairs" / side / "a.png")
    ranp("predict", "psm", "--set", "maxdisp=16", "--set", "width=4", "--set", "pools=[8,4,2,1]", "--patch", "64x64",
         "--data", tmp_path / "pairs", "--out", tmp_path / "said")  # fmt: skip
    disparity = read_pfm(tmp_path / "said" / "left" / "a.pfm")
    assert disparity.shape == (50, 70)
    assert np.isfinite(disparity).all()
