"""The connectivity example runs, on a few small pictures."""

import re
import runpy
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "connectivity.py"


def test_connectivity(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    small = ["--size", "32", "--count", "18", "--steps", "20", "--width", "4"]
    drawn = ["--decoder", str(tmp_path / "d.svg"), "--picture", str(tmp_path / "o.png")]
    runpy.run_path(str(EXAMPLE))["main"]([*small, *drawn])
    text = capsys.readouterr().out
    scores = dict(re.findall(r"^(.+?) +[\d,]+ parameters .* Dice ([\d.]+)$", text, re.MULTILINE))
    assert list(scores) == ["dense", "slim, folded", "slim, trained anew"]
    assert scores["dense"] == scores["slim, folded"]  # twenty steps part no gates
    assert "takes" in text
    assert "<svg" in (tmp_path / "d.svg").read_text()
    assert (tmp_path / "o.png").stat().st_size > 1000
