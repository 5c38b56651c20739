"""The MRF examples run, on small generated data."""

import re
import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name: str, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"](arguments)
    return capsys.readouterr().out


def test_stereo(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = run("stereo", capsys, "--labels", "12", "--iterations", "3", "--picture", str(tmp_path / "o.png"))
    energies = {name.strip(): float(value) for name, value in re.findall(r"^(.+?) +energy +(\d+)", text, re.MULTILINE)}
    assert len(energies) == 7
    assert min(energies, key=lambda name: energies[name]) in ("trwp", "trws", "isgmr")
    assert max(energies, key=lambda name: energies[name]) == "winner takes all"
    assert "regressed" in text
    assert (tmp_path / "o.png").exists()


def test_stereo_of_two_pictures(capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(__file__).parents[1] / "published" / "stereo"
    views = ["--left", str(folder / "synth_left.png"), "--right", str(folder / "synth_right.png")]
    text = run("stereo", capsys, *views, "--labels", "16", "--iterations", "1", "--strength", "20")
    assert "mean error" not in text
    assert re.search(r"^trwp +energy", text, re.MULTILINE)


def test_denoise(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    small = ["--size", "48", "--levels", "32", "--strength", "2", "--truncation", "5"]
    text = run("denoise", capsys, *small, "--picture", str(tmp_path / "o.png"))
    decibels = {name: float(value) for name, value in re.findall(r"^(\w+) .*PSNR ([\d.]+) dB", text, re.MULTILINE)}
    assert decibels["trwp"] > decibels["noisy"] + 2
    assert (tmp_path / "o.png").exists()


def test_refine_segmentation(capsys: pytest.CaptureFixture[str]) -> None:
    text = run("refine_segmentation", capsys, "--size", "24", "--steps", "8", "--width", "4")
    assert len(re.findall(r"Dice 0\.\d+ +edge F 0\.\d+", text)) == 3
