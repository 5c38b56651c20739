"""Parallel mean field: every node's distribution from its neighbours' of the iteration before.

Differs from textbook mean field as the published runs do (Xu et al. 2020, tables of ISGMR and TRWP): the neighbours'
costs are averaged over the R directions, not summed, and the average divides by R at the borders too. It is no exact
method, not even on chains, and being parallel it may oscillate.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ranp.adapters.mrf._field import Field, PairwiseLike, Weights, check_iterations
from ranp.kernels.chains import overlap


class MeanField(NamedTuple):
    """The costs of the last iteration, and the label of least cost at each node."""

    cost: Tensor  # (B, L, *spatial)
    labels: Tensor  # (B, *spatial) int64


def mean_field(
    unary: Tensor,
    pairwise: PairwiseLike = "potts",
    weights: Weights = None,
    directions: int = 4,
    iterations: int = 5,
) -> MeanField:
    """Run mean field: q = softmax(-U), then cost = U + mean over r of w[r] V q(neighbour), q = softmax(-cost).

    Differentiable by autograd in unary, weights and a pairwise tensor; memory grows with the iterations.

    Args:
        unary: (B, L, H, W) or (B, L, D, H, W) costs, lower is better; half precision is computed in float32.
        pairwise: a name, a `Pairwise`, or an (L, L) tensor, read as V[u, l] in even directions and V[l, u] in odd ones.
        weights: None for ones, a number, (R,), (R, *spatial) or (B, R, *spatial), at the target node.
        directions: 4, 8, 16 in 2D; 6, 18, 26 in 3D.
        iterations: at least 1.

    Raises:
        UsageError: anything that does not fit, named.
    """
    check_iterations(iterations)
    field = Field.of(unary, pairwise, weights, directions)
    cost = field.unary
    for _ in range(iterations):
        cost = field.unary + _expected_cost(torch.softmax(-cost, 1), field)
    return MeanField(cost, cost.detach().argmin(1))


def _expected_cost(share: Tensor, field: Field) -> Tensor:
    """Return (B, L, *spatial): the mean over the directions of the neighbour's expected pairwise cost."""
    forward = _from_neighbours(share, field, parity=0)
    backward = _from_neighbours(share, field, parity=1)
    total = field.matrix.T @ forward.flatten(2) + field.matrix @ backward.flatten(2)  # (B, L, N)
    return total.reshape(share.shape) / len(field.steps)


def _from_neighbours(share: Tensor, field: Field, parity: int) -> Tensor:
    """Return the weighted sum of the neighbours' distributions over the even or the odd directions."""
    total = torch.zeros_like(share)
    for direction in range(parity, len(field.steps), 2):
        neighbours, nodes = overlap(field.steps[direction], field.spatial)
        weight = field.weights_of(direction)[:, None]  # (B or 1, 1, *spatial)
        total[:, :, *nodes].addcmul_(share[:, :, *neighbours], weight[:, :, *nodes])
    return total
