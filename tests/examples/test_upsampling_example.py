"""The upsampling example runs, on small generated pictures."""

import re
import runpy
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "upsampling.py"


def test_upsampling(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    small = ["--size", "24", "--steps", "2", "--width", "4", "--picture", str(tmp_path / "edges.png")]
    runpy.run_path(str(EXAMPLE))["main"](small)
    row = r"^(.+?) +([\d,]+) parameters +mIoU (\d\.\d+) +edge F (\d\.\d+)"
    lines = re.findall(row, capsys.readouterr().out, re.MULTILINE)
    assert [name for name, *_ in lines] == ["bilinear", "bilinear, added", "carafe", "fade-lite", "fade"]
    plain, added, carafe, lite, full = (int(count.replace(",", "")) for _, count, *_ in lines)
    assert plain == added < lite < full < carafe
    assert all(0 < float(value) <= 1 for *_, iou, edge in lines for value in (iou, edge))
    assert (tmp_path / "edges.png").stat().st_size > 5000
