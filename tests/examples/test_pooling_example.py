"""The pooling example runs, on a few small pictures."""

import re
import runpy
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "pooling.py"


@pytest.mark.parametrize("mode", ["predicted", "layer"])
def test_pooling(capsys: pytest.CaptureFixture[str], tmp_path: Path, mode: str) -> None:
    small = ["--size", "16", "--count", "9", "--steps", "30", "--width", "8", "--mode", mode]
    runpy.run_path(str(EXAMPLE))["main"]([*small, "--picture", str(tmp_path / "o.png")])
    text = capsys.readouterr().out
    decibels = {name: float(value) for name, value in re.findall(r"^(\w+) +PSNR ([\d.]+) dB", text, re.MULTILINE)}
    assert list(decibels) == ["maximum", "mean", "polynomial"]
    assert all(5 < value < 40 for value in decibels.values())
    alphas = re.search(r"alpha ([\d.]+) and ([\d.]+)$", text.strip())
    assert alphas is not None
    assert all(1 <= float(alpha) <= 110 for alpha in alphas.groups())
    assert set(alphas.groups()) != {"10.0"}  # it moved from where it began
    assert (tmp_path / "o.png").stat().st_size > 1000
