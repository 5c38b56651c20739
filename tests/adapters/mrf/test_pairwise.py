import math

import pytest
import torch

from ranp.adapters import mrf
from ranp.adapters.mrf._pairwise import Pairwise, resolve
from ranp.errors import UsageError

LIKE = torch.empty(1, 4, 2, 2)


@pytest.mark.parametrize(
    ("function", "row"),
    [
        (mrf.potts(), [0, 1, 1, 1]),
        (mrf.linear(), [0, 1, 2, 3]),
        (mrf.truncated_linear(1.5), [0, 1, 1.5, 1.5]),
        (mrf.truncated_quadratic(5), [0, 1, 4, 5]),
        (mrf.cauchy(2), [0, 2 * math.log(1.25), 2 * math.log(2), 2 * math.log(3.25)]),
        (mrf.huber(1.5), [0, 0.5, 1.875, 3.375]),
    ],
)
def test_values_by_hand(function: Pairwise, row: list[float]) -> None:
    matrix = function.matrix(4, torch.float64)
    assert torch.allclose(matrix[0], torch.tensor(row, dtype=torch.float64), atol=1e-15)
    assert torch.equal(matrix, matrix.T)
    assert torch.equal(matrix[1, 1:], matrix[0, :3])


@pytest.mark.parametrize("function", [mrf.potts(), *(mrf.truncated_linear(t) for t in (0.5, 1, 2, 2.5, 7))])
def test_v_is_constant_from_the_window_on(function: Pairwise) -> None:
    row, window = function.matrix(20)[0], function.window(20)
    assert bool((row[window:] == row.max()).all())
    assert bool((row[:window] < row.max()).all())


def test_windows() -> None:
    assert mrf.truncated_quadratic(49).window(20) == 7
    assert mrf.truncated_quadratic(49).window(7) == 0
    assert mrf.linear().window(20) == mrf.huber().window(20) == mrf.cauchy().window(20) == 0


def test_names_stand_for_the_defaults() -> None:
    for function in (mrf.potts(), mrf.truncated_linear(), mrf.huber()):
        assert torch.equal(resolve(function.name, 4, LIKE)[0], function.matrix(4))


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("pots", "did you mean 'potts'"),
        (torch.zeros(3, 3), r"expected a matrix of shape \(4, 4\), one row per label, got \(3, 3\)"),
        (torch.zeros(4, 4, device="meta"), "pairwise is on meta, but unary is on cpu"),
        (3.0, "expected a name, a Pairwise or an"),
    ],
)
def test_bad_pairwise_is_one_line(given: object, text: str) -> None:
    with pytest.raises(UsageError, match=text) as caught:
        resolve(given, 4, LIKE)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [0, -1, math.inf, math.nan])
def test_scales_are_positive(value: float) -> None:
    with pytest.raises(UsageError, match=r"cauchy\(s=.*expected a positive number"):
        mrf.cauchy(value)
