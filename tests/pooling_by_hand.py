"""Poolings of each window by itself, straight from the definitions, for small inputs in float64."""

import itertools
from collections.abc import Callable

import torch
from hypothesis import strategies as st
from torch import Tensor

from ranp.kernels.windows import Windows


def members(x: Tensor, windows: Windows, place: tuple[int, ...]) -> Tensor:
    """Return the elements (B, C, n) of one window that lie in the input."""
    found = []
    for offset in itertools.product(*map(range, windows.kernel)):
        sides = zip(place, windows.stride, windows.padding, offset, windows.dilation, strict=True)
        at = [window * stride - pad + tap * dilation for window, stride, pad, tap, dilation in sides]
        if all(0 <= index < size for index, size in zip(at, x.shape[2:], strict=True)):
            found.append(x[(slice(None), slice(None), *at)])
    return torch.stack(found, -1) if found else x.new_zeros((*x.shape[:2], 0))


def pooled(x: Tensor, windows: Windows, counts: list[int], of: Callable[[Tensor, tuple[int, ...]], Tensor]) -> Tensor:
    """Return (B, C, *counts): what a function makes of each window's elements and its place, 0 of none."""
    parts = []
    for place in itertools.product(*map(range, counts)):
        elements = members(x, windows, place)
        parts.append(of(elements, place) if elements.shape[-1] else 0 * x.flatten(2).sum(2))
    return torch.stack(parts, -1).reshape(*x.shape[:2], *counts)


def counts_of(size: int, kernel: int, stride: int, padding: int, dilation: int, ceil: bool) -> int:
    """Return how many windows torch's pools make along one axis, one by one."""
    reach, count = dilation * (kernel - 1) + 1, 0
    while True:
        begin = count * stride - padding
        end = begin + reach
        if end > size + padding and not (ceil and begin < size and end < size + padding + stride):
            return count
        count += 1


@st.composite
def geometries(draw: st.DrawFn, largest: int = 6) -> tuple[Windows, list[int]]:
    """Draw windows, and sizes that some of them fit into."""
    dims = draw(st.integers(1, 3))

    def sides(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(low, high)) for _ in range(dims))

    kernel = sides(1, 3)
    padding = tuple(draw(st.integers(0, size // 2)) for size in kernel)
    windows = Windows(kernel, sides(1, 3), padding, sides(1, 2), draw(st.booleans()))
    least = [max(1, reach - 2 * pad) for reach, pad in zip(windows.reach, padding, strict=True)]
    return windows, [draw(st.integers(low, max(low, largest - dims))) for low in least]
