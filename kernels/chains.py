"""The chains a step cuts a grid into: each node belongs to exactly one, and every edge of the step lies on one.

For the step (0, 1) they are the rows, for (1, 0) the columns, for (1, 1) the diagonals. The kernels walk along chains;
the PyTorch path takes, for each position, the nodes that lie so far along their chains.
"""

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor


def positions(shape: tuple[int, ...], step: tuple[int, ...]) -> Tensor:
    """Return for each node, flattened (N,), how many nodes precede it on its chain.

    >>> positions((2, 3), (0, 1))
    tensor([0, 1, 2, 0, 1, 2])
    """
    before = torch.full(shape, max(shape, default=0))
    for axis, (size, move) in enumerate(zip(shape, step, strict=True)):
        if move:
            place = torch.arange(size) if move > 0 else torch.arange(size).flip(0)
            along = [-1 if other == axis else 1 for other in range(len(shape))]
            before = before.minimum((place // abs(move)).view(along))
    return before.flatten()


def stride(shape: tuple[int, ...], step: tuple[int, ...]) -> int:
    """Return by how much the flat node number grows along the step."""
    flat = 0
    for size, move in zip(shape, step, strict=True):
        flat = flat * size + move
    return flat


@lru_cache(maxsize=256)
def fronts(shape: tuple[int, ...], step: tuple[int, ...], device: torch.device) -> tuple[Tensor, ...]:
    """Return the nodes at positions 1, 2, ... of their chains, one index tensor each; position 0 gets no message."""
    place = positions(shape, step)
    counts = torch.bincount(place).tolist() if place.numel() else []
    return torch.split(place.argsort(stable=True).to(device), counts)[1:] if counts else ()


@lru_cache(maxsize=256)
def chains(shape: tuple[int, ...], step: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Return the first node (C,) and the number of nodes (C,) of each chain, int64, longest first."""
    along = positions(shape, step)
    against = positions(shape, tuple(-move for move in step))
    first = torch.nonzero(along == 0).flatten()
    length = against[first] + 1
    order = length.argsort(descending=True, stable=True)
    return first[order], length[order]


class Axes(NamedTuple):
    """The chains of every axis, a pair of opposite steps, as the native code wants them."""

    first: Tensor  # (C,) on the device: the first nodes, axis after axis, of each the longest chain first
    length: Tensor  # (C,) on the device
    begin: Tensor  # (R / 2 + 1,) where an axis begins in the two above
    longest: Tensor  # (R / 2,) nodes of the longest chain
    stride: Tensor  # (R / 2,)

    @property
    def room(self) -> int:
        """Return the nodes of buffers that give each chain of an axis as many as the longest has."""
        return int((self.longest * self.begin.diff()).max())


@lru_cache(maxsize=256)
def axes(shape: tuple[int, ...], steps: tuple[tuple[int, ...], ...], device: torch.device) -> Axes:
    """Return the chains of the even steps; kept, because a copy to a GPU would wait for it."""
    tables = [chains(shape, step) for step in steps[::2]]
    first, length = (torch.cat([table[part] for table in tables]).to(device) for part in (0, 1))
    counts = torch.tensor([0, *[len(first) for first, _ in tables]])
    longest = torch.tensor([int(length[0]) for _, length in tables])
    strides = torch.tensor([stride(shape, step) for step in steps[::2]])
    return Axes(first, length, counts.cumsum(0), longest, strides)
