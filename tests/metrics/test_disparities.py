import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ranp.metrics import disparity_figures, not_occluded


def test_errors_are_counted_as_the_benchmarks_do() -> None:
    true = torch.tensor([[10.0, 10.0, 100.0, 100.0, math.inf]])
    predicted = true.clone()
    predicted[0, :4] += torch.tensor([1.0, -3.5, 4.0, 6.0])  # 4 of 100 is within 5 %
    figures = disparity_figures(predicted, true, true.isfinite())
    assert figures == {"epe": 14.5 / 4, "acc1": 0.25, "acc3": 0.25, "d1": 0.5}


def test_without_a_pixel_that_counts_there_is_no_figure() -> None:
    true = torch.full((2, 3), math.inf)
    assert all(math.isnan(value) for value in disparity_figures(true, true, true.isfinite()).values())


def seen_by_hand(disparity: Tensor) -> Tensor:
    """A pixel is seen if it lands inside, and no pixel that is nearer by more than 1 covers the column it lands in."""
    height, width = disparity.shape
    seen = torch.zeros(height, width, dtype=torch.bool)
    for y in range(height):
        for x in range(width):
            d = float(disparity[y, x])
            if not math.isfinite(d) or x - d < 0:
                continue
            others = [float(v) for k, v in enumerate(disparity[y]) if math.isfinite(float(v)) and k - float(v) == x - d]
            seen[y, x] = all(d >= other - 1 for other in others)
    return seen


@given(st.lists(st.sampled_from([0.0, 1.0, 3.0, 5.0, math.inf]), min_size=1, max_size=12))
def test_what_lies_behind_a_nearer_surface_is_not_seen(row: list[float]) -> None:
    disparity = torch.tensor([row, row[::-1]])
    assert torch.equal(not_occluded(disparity), seen_by_hand(disparity))


def test_a_slanted_surface_hides_nothing_and_a_near_one_hides_what_is_behind() -> None:
    slanted = torch.linspace(0, 4, 40)[None].flip(1)
    assert not_occluded(slanted)[0, 4:].all()
    step = torch.zeros(1, 20)
    step[0, 10:] = 4.0
    assert not_occluded(step)[0].tolist() == [*[True] * 6, *[False] * 4, *[True] * 10]
