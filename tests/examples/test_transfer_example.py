"""The transfer example runs, on a few generated volumes."""

import re
import runpy
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "transfer.py"


def test_transfer(capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--size", "8", "--width", "4", "--steps", "2", "--batches", "2", "--sparsity", "0.3"]
    runpy.run_path(str(EXAMPLE))["main"](small)
    rows = re.findall(r"^(A|B|nothing) +(A|B) +([\d,]+) .*?(\d\.\d+)$", capsys.readouterr().out, re.MULTILINE)
    assert [row[:2] for row in rows] == [
        ("A", "A"),
        ("B", "A"),
        ("nothing", "A"),
        ("B", "B"),
        ("A", "B"),
        ("nothing", "B"),
    ]
    sizes = [int(row[2].replace(",", "")) for row in rows]
    assert max(sizes[:2]) < sizes[2]
    assert max(sizes[3:5]) < sizes[5]
    assert all(0 <= float(row[3]) <= 1 for row in rows)
