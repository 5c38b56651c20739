from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ranp.adapters import mrf
from ranp.errors import UsageError

METHODS = [mrf.trwp, mrf.isgmr, mrf.sgm, mrf.mean_field, mrf.trws, mrf.icm]


def test_the_public_list_is_sorted_and_there() -> None:
    assert mrf.__all__ == sorted(mrf.__all__, key=lambda name: (not name[0].isupper(), name))
    assert all(hasattr(mrf, name) for name in mrf.__all__)


def test_modules_that_only_this_room_uses_are_private() -> None:
    root = Path(__file__).parents[3]
    folders = ("ranp", "commands", "adapters", "examples", "benchmarks", "docs")
    files = [file for folder in folders for file in (root / folder).rglob("*") if file.suffix in (".py", ".md")]
    outside = "".join(file.read_text() for file in files if file.parent != root / "adapters" / "mrf")
    modules = {file.stem for file in (root / "adapters" / "mrf").glob("*.py")} - {"__init__"}
    assert {name for name in modules if not name.startswith("_")} == {"case", "dynamic", "refinement"}
    assert all(f"adapters.mrf.{name}" in outside for name in ("case", "refinement"))
    assert "adapters.mrf._" not in outside


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(0, 2, 3, 3), (1, 1, 2, 2), (1, 3, 1, 1), (2, 2, 1, 4)])
def test_degenerate_shapes(method: Callable[..., Any], shape: tuple[int, ...]) -> None:
    unary = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    found = method(unary)
    assert found.cost.shape == shape
    assert found.labels.shape == (shape[0], *shape[2:])
    if 0 not in shape and (shape[1] == 1 or shape[2] * shape[3] == 1) and method is not mrf.sgm:
        assert torch.equal(found.labels, unary.argmin(1))  # one label, or no neighbour


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": torch.ones(4, device="meta")}, "expected one device"),
        ({"weights": torch.ones(3)}, "weights: expected"),
        ({"pairwise": torch.zeros(3, 3)}, "pairwise: expected a matrix"),
        ({"pairwise": torch.full((2, 2), torch.inf)}, "pairwise: expected finite values, got an infinity"),
        ({"weights": torch.full((4,), torch.nan)}, "weights: expected finite values, got NaN"),
        ({"pairwise": "pots"}, "did you mean 'potts'"),
        ({"directions": 6}, "directions=6"),
        ({"directions": 4.0}, "directions=4.0"),
        ({"iterations": 0}, "iterations=0"),
        ({"iterations": 1.5}, "iterations=1.5: expected a whole number"),
        ({"weights": [1.0] * 4}, "weights: expected a number, a tensor or None, got list"),
        ({"unary": [[0.0]]}, "unary: expected a tensor, got list"),
    ],
)
def test_mistakes_are_named(method: Callable[..., Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        method(**({"unary": torch.zeros(1, 2, 3, 3)} | options))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("unary", "message"),
    [
        (torch.full((1, 2, 3, 3), torch.inf), "infinity"),
        (torch.full((1, 2, 3, 3), torch.nan), "NaN"),
        (torch.zeros(1, 2, 3, 3, dtype=torch.int64), "floating-point"),
        (torch.zeros(2, 3, 3), "expected"),
        (torch.zeros(1, 1025, 1, 1), "1 to 1024 labels"),
    ],
)
def test_costs_that_are_none_are_refused(method: Callable[..., Any], unary: torch.Tensor, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        method(unary)
