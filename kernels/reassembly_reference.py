"""The reassembly in plain PyTorch: what the native kernels must compute, and what serves where there are none.

The operator of CARAFE (Wang et al., 2019, https://arxiv.org/abs/1905.02188), which FADE shares, on grids of one to
three axes and of any sizes:

    y[c, p] = sum over taps m of kernels[m, p] x[c, s(p) + o(m)],     s(p) = floor(p coarse / fine) along each axis

Taps are the K_1 x K_2 .. neighbours in row-major order, o(m) from -(K - 1) / 2 to (K - 1) / 2 along each axis; outside
the grid x is 0, and nothing is renormalised there.

Layout: x (B, C, *coarse); kernels (B, M, *fine) with M = K_1 K_2 ..; y (B, C, *fine). The taps are summed in their
order, as the native code does, so that both give the same bits. Memory is that of a few results, whatever M.
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def source(coarse: int, fine: int, device: torch.device) -> Tensor:
    """Return the coarse position (fine,) that each fine one reads around; sizes may be symbolic.

    >>> source(2, 5, torch.device("cpu"))
    tensor([0, 0, 0, 1, 1])
    """
    return torch.arange(fine, device=device) * coarse // fine


def forward(x: Tensor, kernels: Tensor, kernel_size: Sequence[int]) -> Tensor:
    """Return y (B, C, *fine); shapes as in the module's docstring."""
    total = None
    for tap, neighbour in enumerate(neighbours(x, kernel_size, kernels.shape[2:])):
        term = kernels[:, tap : tap + 1] * neighbour
        total = term if total is None else total + term
    assert total is not None
    return total


def neighbours(x: Tensor, kernel_size: Sequence[int], fine: Sequence[int]) -> Iterator[Tensor]:
    """Yield what each tap reads at every fine position, (B, C, *fine)."""
    around = [size // 2 for size in reversed(kernel_size) for _ in range(2)]
    indices = [source(size, wanted, x.device) for size, wanted in zip(x.shape[2:], fine, strict=True)]
    yield from _along(F.pad(x, around), 2, kernel_size, indices)


def _along(padded: Tensor, dim: int, kernel_size: Sequence[int], indices: Sequence[Tensor]) -> Iterator[Tensor]:
    if dim == padded.ndim:
        yield padded
        return
    for offset in range(kernel_size[dim - 2]):
        yield from _along(padded.index_select(dim, indices[dim - 2] + offset), dim + 1, kernel_size, indices)


def gradient_of_x(grad: Tensor, kernels: Tensor, kernel_size: Sequence[int], coarse: Sequence[int]) -> Tensor:
    """Return the gradient of x (B, C, *coarse) from that of y (B, C, *fine)."""
    padded = grad.new_zeros((*grad.shape[:2], *(size + k - 1 for size, k in zip(coarse, kernel_size, strict=True))))
    for tap, offsets in enumerate(_offsets(kernel_size)):
        share = kernels[:, tap : tap + 1] * grad
        for dim, size in enumerate(coarse, 2):
            index = source(size, share.shape[dim], grad.device)
            summed = grad.new_zeros((*share.shape[:dim], size, *share.shape[dim + 1 :]))
            share = summed.index_add_(dim, index, share)
        padded[_window(offsets, coarse)] += share
    return padded[_window([size // 2 for size in kernel_size], coarse)].contiguous()


def gradient_of_kernels(grad: Tensor, x: Tensor, kernel_size: Sequence[int]) -> Tensor:
    """Return the gradient of the kernels (B, M, *fine) from that of y (B, C, *fine)."""
    return torch.stack([(grad * neighbour).sum(1) for neighbour in neighbours(x, kernel_size, grad.shape[2:])], 1)


def _offsets(kernel_size: Sequence[int]) -> list[list[int]]:
    """Return where each tap lies in its window.

    >>> _offsets((1, 2))
    [[0, 0], [0, 1]]
    """
    return torch.cartesian_prod(*map(torch.arange, kernel_size)).view(-1, len(kernel_size)).tolist()


def _window(offsets: Sequence[int], sizes: Sequence[int]) -> tuple[slice, ...]:
    spatial = [slice(offset, offset + size) for offset, size in zip(offsets, sizes, strict=True)]
    return slice(None), slice(None), *spatial
