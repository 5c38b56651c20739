"""Coarse maps on the fine grid: exactly the positions that the definition names, also where float32 is one off."""

import doctest

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from ranp.adapters.upsampling import _carafe, _fade, _sizes
from ranp.adapters.upsampling._sizes import upsample_nearest


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 5), st.integers(0, 4))
def test_positions_are_those_of_whole_numbers(height: int, width: int, scale: int, extra: int) -> None:
    coarse = torch.arange(height * width).view(1, 1, height, width)
    fine = (height * scale, width * scale + extra)
    rows, columns = (torch.tensor([p * h // f for p in range(f)]) for h, f in zip((height, width), fine, strict=True))
    assert torch.equal(upsample_nearest(coarse, fine), coarse[..., rows, :][..., columns])


@pytest.mark.parametrize(("coarse", "fine"), [(2250, 4499), (2916, 5831), (41, 82), (41, 41 * 41)])
def test_long_rows(coarse: int, fine: int) -> None:
    values = torch.arange(coarse)[None, None]
    assert upsample_nearest(values, [fine])[0, 0].tolist() == [p * coarse // fine for p in range(fine)]


def test_whole_multiples_are_what_interpolate_gives() -> None:
    x = torch.randn(2, 3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(upsample_nearest(x, (8, 10, 12)), F.interpolate(x, scale_factor=2, mode="nearest"))


@pytest.mark.parametrize("module", [_carafe, _fade, _sizes])
def test_the_examples_in_docstrings_hold(module: object) -> None:
    outcome = doctest.testmod(module)  # type: ignore[arg-type]
    assert outcome.attempted
    assert not outcome.failed
