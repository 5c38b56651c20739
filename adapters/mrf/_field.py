"""A Markov random field on a grid, with everything a method needs spelled out: the steps, the weights, the matrix.

The energy of a labelling x is the sum of unary costs U_i(x_i), and of w[r, i] V(x_j, x_i) over the even directions r
and the nodes i whose neighbour j = i - r lies inside the grid: each pair of neighbours once.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ranp.adapters.mrf._directions import Step, steps
from ranp.adapters.mrf._pairwise import Pairwise, resolve
from ranp.adapters.mrf._passing import Weights, spread_weights

PairwiseLike = str | Pairwise | Tensor


@dataclass(frozen=True)
class Field:
    """The pairwise part of a Markov random field on a grid of a given size."""

    steps: tuple[Step, ...]
    weights: Tensor  # (B or 1, R, *spatial or ones)
    matrix: Tensor  # (L, L), label of i - r first for even r


def build_field(unary: Tensor, pairwise: PairwiseLike, weights: Weights, directions: int) -> Field:
    """Check what the user gave against the unary costs and spell it out.

    Args:
        unary: (B, L, H, W) or (B, L, D, H, W), float32 or float64 as `checked_unary` returns it.
        pairwise: a name, a `Pairwise`, or an (L, L) tensor.
        weights: None for ones, a number, (R,), (R, *spatial) or (B, R, *spatial).
        directions: 4, 8, 16 in 2D; 6, 18, 26 in 3D.

    Raises:
        UsageError: anything that does not fit, named.
    """
    spatial = unary.shape[2:]
    table = steps(directions, len(spatial))
    matrix, _ = resolve(pairwise, unary.shape[1], unary)
    flat = spread_weights(weights, len(table), unary)  # (B or 1, R, N or 1)
    shape = spatial if flat.shape[2] == spatial.numel() else torch.Size([1] * len(spatial))
    return Field(table, flat.reshape(*flat.shape[:2], *shape), matrix)


def overlap(step: Step, spatial: tuple[int, ...]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return the parts of the grid holding the neighbours i - step and the nodes i, for all pairs inside the grid.

    >>> overlap((1, -1), (3, 4))
    ((slice(0, 2, None), slice(1, 4, None)), (slice(1, 3, None), slice(0, 3, None)))
    """
    nodes = [(max(move, 0), max(size + min(move, 0), 0)) for move, size in zip(step, spatial, strict=True)]
    pairs = list(zip(nodes, step, strict=True))
    neighbours = tuple(slice(max(low - move, 0), max(high - move, 0)) for (low, high), move in pairs)
    return neighbours, tuple(slice(low, high) for low, high in nodes)


def margins(part: tuple[slice, ...], spatial: tuple[int, ...]) -> list[int]:
    """Return the padding that puts a part of the grid back in its place, as `torch.nn.functional.pad` wants it."""
    around = [(where.start, size - where.stop) for where, size in zip(part, spatial, strict=True)]
    return [margin for pair in reversed(around) for margin in pair]
