"""The examples that make volumes and train on them run, and the network learns."""

import re
import runpy
from pathlib import Path

import numpy as np
import pytest

nibabel = pytest.importorskip("nibabel")
pytest.importorskip("scipy")

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / "volumes.py"))["main"](["--size", "24", "--noise", "20", "--cases", "3"])
    return tmp_path


def test_volumes(folder: Path) -> None:
    for name, count in (("SCANS", 3), ("TEST", 1)):
        images, labels = (sorted((folder / name / kind).iterdir()) for kind in ("images", "labels"))
        assert len(images) == count
        assert [path.name for path in images] == [path.name for path in labels]
        for image, label in zip(map(nibabel.load, images), map(nibabel.load, labels), strict=True):
            assert image.shape == label.shape == (24, 24, 24)
            assert np.array_equal(image.affine, label.affine)
            voxels, classes = np.asanyarray(image.dataobj), np.asanyarray(label.dataobj)
            assert sorted(np.unique(classes)) == [0, 1, 2]
            bright = [voxels[classes == k].mean() for k in range(3)]
            assert bright[0] < bright[1] < bright[2]
            assert voxels[classes == 0].max() > bright[2]  # the structure that brightness alone does not tell apart


def test_an_own_loop(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from typer.testing import CliRunner

    from ranp.commands.main import app

    small = ["--set", "base_width=4", "--set", "depth=2", "--patch", "16", "--batches", "1", "--sparsity", "0.2"]
    assert CliRunner().invoke(app, ["prune", "unet3d", "--data", "SCANS", *small, "--out", "slim"]).exit_code == 0
    runpy.run_path(str(EXAMPLES / "train_loop.py"))["main"](
        ["slim", "SCANS", "--size", "16", "--steps", "40", "--lr", "0.01"]
    )
    text = capsys.readouterr().out
    losses = [float(value) for value in re.findall(r"^step \d+: loss (\S+)$", text, re.MULTILINE)]
    assert len(losses) == 6
    assert losses[-1] < 0.8 * losses[0]
    assert CliRunner().invoke(app, ["adopt", "slim", "--weights", "trained.safetensors"]).exit_code == 0


def test_by_train(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["SCANS", "--test", "TEST", "--size", "16", "--width", "8", "--sparsity", "0.3", "--steps", "100"]
    runpy.run_path(str(EXAMPLES / "train_slim.py"))["main"](words)
    text = capsys.readouterr().out
    before, after = (int(number.replace(",", "")) for number in re.findall(r"([\d,]+) (?:before|after)", text))
    assert after < before
    first, last = map(float, re.findall(r"^loss: (\S+) at first, (\S+) at last$", text, re.MULTILINE)[0])
    assert last < 0.8 * first
    assert 0 <= float(re.findall(r"^score: (\S+)$", text, re.MULTILINE)[0]) <= 1
