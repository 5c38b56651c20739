"""Exact minimisation on chains and trees by dynamic programming, in its three classical forms.

- `min_sum`: one pass towards the root that remembers which label each minimum came from, then back-tracing.
- `lazy`: the same pass remembering nothing; each label is searched again once its parent's is known.
- `min_marginals`: a pass towards the root and one back; the least energy of any labelling that gives a node a label.

They are written to be read, in O(N L^2) time, and serve as the oracle of the message-passing methods: on a chain
ISGMR, TRWP with rho = 1 and TRWS must find what they find. Viterbi (1967); for trees and min-marginals Wainwright and
Jordan, "Graphical models, exponential families, and variational inference" (2008), section 2.5.

A tree is given by the parent of each node, -1 for a root. The edge from parent p to child i costs
weights[i] * pairwise[x_p, x_i]: the first index of the matrix belongs to the parent.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ranp.adapters.mrf._field import Forest


class Optimum(NamedTuple):
    """A labelling and its energy."""

    labels: Tensor  # (N,) int64
    energy: Tensor  # scalar, of the dtype of the unary costs


def chain(nodes: int) -> list[int]:
    """Return the parents of a chain whose root is node 0.

    >>> chain(4)
    [-1, 0, 1, 2]
    """
    return list(range(-1, nodes - 1))


def min_sum(unary: Tensor, parents: Sequence[int], pairwise: Tensor, weights: Tensor | None = None) -> Optimum:
    """Return a labelling of least energy, by back-tracing; the smallest label wins a tie.

    Args:
        unary: (N, L) cost of each label at each node.
        parents: the parent of each node, -1 for a root.
        pairwise: (L, L), parent's label first.
        weights: (N,) of the edge to the parent, ones if None; the entries of roots are not read.

    Raises:
        UsageError: the parents form a cycle or are out of range, or a shape does not fit.
    """
    forest = Forest.of(unary, parents, pairwise, weights)
    cost, pointers = list(forest.unary), {}
    for node in reversed(forest.order):
        if (parent := parents[node]) >= 0:
            best, pointers[node] = (cost[node] + forest.edge(node)).min(1)
            cost[parent] = cost[parent] + best
    labels = [0] * len(parents)
    for node in forest.order:
        parent = parents[node]
        labels[node] = int(pointers[node][labels[parent]] if parent >= 0 else cost[node].argmin())
    return _optimum(labels, cost, forest)


def lazy(unary: Tensor, parents: Sequence[int], pairwise: Tensor, weights: Tensor | None = None) -> Optimum:
    """Return what `min_sum` returns, without storing where the minima came from: O(N L) memory less, O(N L) time more.

    Args and errors are those of `min_sum`.
    """
    forest = Forest.of(unary, parents, pairwise, weights)
    cost = _towards_root(forest)
    labels = [0] * len(parents)
    for node in forest.order:
        parent = parents[node]
        edge = forest.edge(node)[labels[parent]] if parent >= 0 else 0
        labels[node] = int((cost[node] + edge).argmin())
    return _optimum(labels, cost, forest)


def min_marginals(unary: Tensor, parents: Sequence[int], pairwise: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return (N, L): the least energy of the node's tree over all labellings that give the node this label.

    The minimum of every row of one tree is that tree's optimum. Where the optimum is unique, the argmin of each row is
    the optimal label; where it is not, the rows may pick labels of different optima.
    Args and errors are those of `min_sum`.
    """
    forest = Forest.of(unary, parents, pairwise, weights)
    cost = _towards_root(forest)
    for node in forest.order:
        if (parent := parents[node]) >= 0:
            edge = forest.edge(node)
            without = cost[parent] - (cost[node] + edge).amin(1)  # the parent's costs but for this branch
            cost[node] = cost[node] + (without[:, None] + edge).amin(0)
    return torch.stack(cost)  # (N, L)


def _towards_root(forest: Forest) -> list[Tensor]:
    """Return for each node the least energy of its subtree, by its own label."""
    cost = list(forest.unary)
    for node in reversed(forest.order):
        if (parent := forest.parents[node]) >= 0:
            cost[parent] = cost[parent] + (cost[node] + forest.edge(node)).amin(1)
    return cost


def _optimum(labels: list[int], cost: list[Tensor], forest: Forest) -> Optimum:
    roots = [cost[node].amin() for node, parent in enumerate(forest.parents) if parent < 0]
    return Optimum(torch.tensor(labels, device=cost[0].device), torch.stack(roots).sum())
