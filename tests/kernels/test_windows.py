import pytest
import torch
from hypothesis import given, settings
from pooling_by_hand import counts_of, geometries, members
from torch import nn

from ranp.kernels.windows import Windows


@settings(max_examples=150)
@given(geometries(largest=9))
def test_sizes_are_those_of_max_pool_and_of_the_rule_one_by_one(drawn: tuple[Windows, list[int]]) -> None:
    windows, sizes = drawn
    counts = windows.counts(sizes)
    sides = zip(sizes, windows.kernel, windows.stride, windows.padding, windows.dilation, strict=True)
    assert counts == [counts_of(*side, windows.ceil) for side in sides]
    pool = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)[windows.dims - 1]
    assert list(pool(*windows.settings[:4], ceil_mode=windows.ceil)(torch.zeros(1, 1, *sizes)).shape[2:]) == counts


@settings(max_examples=60)
@given(geometries())
def test_taps_are_the_elements_of_every_window(drawn: tuple[Windows, list[int]]) -> None:
    windows, sizes = drawn
    x = torch.arange(1, 1 + torch.Size(sizes).numel(), dtype=torch.float64).reshape(1, 1, *sizes)
    counts = windows.counts(sizes)
    taps = torch.stack(list(windows.taps(windows.padded(x), counts)), -1)  # (1, 1, *counts, k^n), 0 outside
    inside = windows.inside(x, counts)
    for place in torch.cartesian_prod(*(torch.arange(n) for n in counts)).reshape(-1, windows.dims).tolist():
        found = taps[(0, 0, *place)]
        assert found[found > 0].tolist() == members(x, windows, tuple(place))[0, 0].tolist()
        if windows.leaves_input:
            assert [bool(tap[tuple(place)]) for tap in inside if tap is not None] == (found > 0).tolist()
    torch.testing.assert_close(windows.cropped(windows.padded(x), x), x)


@pytest.mark.parametrize("padding", [0, 1])
def test_a_tap_is_a_view_that_may_be_written_into(padding: int) -> None:
    windows = Windows((3,), (1,), (padding,), (1,))
    x = torch.zeros(1, 1, 5)
    padded = windows.padded(x)
    for tap in windows.taps(padded, windows.counts([5])):
        tap += 1
    expected = [1, 2, 3, 2, 1] if padding == 0 else [1, 2, 3, 3, 3, 2, 1]
    assert padded.flatten().tolist() == expected
    assert (x.sum() > 0) == (padding == 0)  # nothing is copied where every window lies inside
