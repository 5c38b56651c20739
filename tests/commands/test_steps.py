"""A line for each step where stderr is no terminal."""

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

WORDS = ("prune", "unet2d", "--classes", 2, "--set", "base_width=4", "--set", "depth=2", "--patch", 16, "--batches", 1)
STEPS = [f"step: {step}" for step in ("trace", "score", "select", "slim", "verify")]


@pytest.mark.parametrize(
    ("more", "shown"), [((), STEPS), (("--quiet",), []), (("--json",), []), (("--quiet", "--json"), [])]
)
def test_lines_of_steps(more: tuple[str, ...], shown: list[str], tmp_path: Path, ranp: Callable[..., Result]) -> None:
    result = ranp(*WORDS, "--sparsity", 0.3, "--out", tmp_path / "run", *more)
    assert result.stderr.splitlines() == shown
    assert "step:" not in result.stdout
