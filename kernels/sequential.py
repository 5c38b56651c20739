"""Sequential sweeps over a grid: TRW-S and ICM, one node after the other in row-major order.

Kolmogorov, "Convergent tree-reweighted message passing for energy minimization" (PAMI 2006); Besag, "On the
statistical analysis of dirty pictures" (1986). The native code (src/sequential.h) walks the nodes one by one; the
PyTorch code here takes them in fronts of nodes that don't touch, in an order that gives each node the same neighbours
before it and after it, so that both compute the same thing.

Layout: a grid of N nodes, row-major, of up to three axes; K undirected edges per node, one for each step, from node
i - step to node i, stored at i. All tensors are contiguous float64 on the CPU: unary (B, N, L), weights (B, K, N),
messages (B, K, N, L), pairwise (L, L) with the label of i - step first; labels (B, N) int64.
"""

from collections.abc import Callable
from ctypes import c_int, c_int64, c_void_p
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ranp.kernels.chains import overlap
from ranp.kernels.native import check, function

CHUNK = 1 << 22  # elements of the largest intermediate


@dataclass(frozen=True)
class Grid:
    """Where the neighbours are: the sizes of the axes and one step per undirected edge, each to a later node."""

    size: tuple[int, ...]
    steps: tuple[tuple[int, ...], ...]

    @cached_property
    def nodes(self) -> int:
        """Return how many nodes there are."""
        return torch.Size(self.size).numel()

    @cached_property
    def index(self) -> Tensor:
        """Return the node numbers, in the shape of the grid."""
        return torch.arange(self.nodes).reshape(self.size)

    @cached_property
    def behind(self) -> Tensor:
        """Return (K, N): the node at i - step, or -1."""
        return torch.stack([self._shifted(step) for step in self.steps])

    @cached_property
    def ahead(self) -> Tensor:
        """Return (K, N): the node at i + step, or -1."""
        return torch.stack([self._shifted(tuple(-move for move in step)) for step in self.steps])

    def _shifted(self, step: tuple[int, ...]) -> Tensor:
        sources, targets = overlap(step, self.size)
        found = torch.full(self.size, -1)
        found[targets] = self.index[sources]
        return found.flatten()

    @cached_property
    def gamma(self) -> Tensor:
        """Return (N,): 1 / the larger of the numbers of earlier and of later neighbours."""
        counts = torch.maximum((self.behind >= 0).sum(0), (self.ahead >= 0).sum(0))
        return 1 / counts.clamp(min=1).double()

    @cached_property
    def fronts(self) -> list[Tensor]:
        """Return sets of nodes that don't touch, ordered so that every node at i - step comes in an earlier one."""
        slopes = [1] * len(self.size)
        for axis in reversed(range(len(self.size))):
            climbs = [step for step in self.steps if step[axis] > 0 and not any(step[:axis])]
            back = [-sum(s * m for s, m in zip(slopes[axis + 1 :], step[axis + 1 :], strict=True)) for step in climbs]
            slopes[axis] = 1 + max([0, *back])
        coordinates = torch.meshgrid([torch.arange(size) for size in self.size], indexing="ij")
        time = torch.stack([slope * axis for slope, axis in zip(slopes, coordinates, strict=True)]).sum(0).flatten()
        return list(torch.split(time.argsort(stable=True), torch.bincount(time).tolist()))


def trws_sweep(grid: Grid, unary: Tensor, weights: Tensor, pairwise: Tensor, messages: Tensor) -> tuple[Tensor, Tensor]:
    """Update the messages in place by one forward and one backward pass, and label by a forward sweep.

    Returns:
        labels (B, N) int64, and the lower bound (B,) on the energy of any labelling.
    """
    native = function("cpu", "ranp_trws_sweep", [*_SHAPES, *[c_void_p] * 6, c_int])
    if native is None:
        return reference_trws_sweep(grid, unary, weights, pairwise, messages)
    labels = torch.empty(unary.shape[:2], dtype=torch.int64)
    bound = torch.empty(unary.shape[0], dtype=torch.float64)
    _call(native, grid, [unary, weights, pairwise, messages, labels, bound])
    return labels, bound


def icm_sweep(grid: Grid, unary: Tensor, weights: Tensor, pairwise: Tensor, labels: Tensor) -> None:
    """Give every node, in row-major order and in place, the best label given its neighbours' labels."""
    native = function("cpu", "ranp_icm_sweep", [*_SHAPES, *[c_void_p] * 4, c_int])
    if native is None:
        reference_icm_sweep(grid, unary, weights, pairwise, labels)
    else:
        _call(native, grid, [unary, weights, pairwise, labels])


_SHAPES = [c_int64, c_void_p, c_int64, c_void_p, c_int64]  # batch, size, edges, steps, labels


def _call(native: Callable[..., int], grid: Grid, tensors: list[Tensor]) -> None:
    """Call a native sweep; the first tensor is the unary costs."""
    assert all(tensor.is_contiguous() and tensor.device.type == "cpu" for tensor in tensors)
    batch, _, labels = tensors[0].shape
    lead = [0] * (3 - len(grid.size))
    size = (c_int64 * 3)(*[1 for _ in lead], *grid.size)
    steps = (c_int64 * (3 * len(grid.steps)))(*[entry for step in grid.steps for entry in (*lead, *step)])
    pointers = [tensor.data_ptr() for tensor in tensors]
    check("cpu", native(batch, size, len(grid.steps), steps, labels, *pointers, torch.get_num_threads()))


def reference_trws_sweep(
    grid: Grid, unary: Tensor, weights: Tensor, pairwise: Tensor, messages: Tensor
) -> tuple[Tensor, Tensor]:
    """Compute `trws_sweep` in PyTorch."""
    for nodes in grid.fronts:
        belief = _belief(grid, nodes, unary, messages)  # (B, F, L)
        for edge in range(len(grid.steps)):
            _send(grid, nodes, belief, edge, weights, pairwise, messages, forward=True)
    bound = unary.new_zeros(unary.shape[0])
    for nodes in reversed(grid.fronts):
        belief = _belief(grid, nodes, unary, messages)
        least = belief.amin(-1, keepdim=True)
        bound += least.sum((1, 2))
        for edge in range(len(grid.steps)):
            bound += _send(grid, nodes, belief - least, edge, weights, pairwise, messages, forward=False)
    return _label(grid, unary, weights, pairwise, messages), bound


def reference_icm_sweep(grid: Grid, unary: Tensor, weights: Tensor, pairwise: Tensor, labels: Tensor) -> None:
    """Compute `icm_sweep` in PyTorch."""
    for nodes in grid.fronts:
        labels[:, nodes] = _conditional(grid, nodes, unary, weights, pairwise, labels).argmin(-1)


def beliefs(grid: Grid, unary: Tensor, messages: Tensor) -> Tensor:
    """Return (B, N, L): the unary costs plus all messages that arrive."""
    return _belief(grid, grid.index.flatten(), unary, messages)


def conditional_costs(grid: Grid, unary: Tensor, weights: Tensor, pairwise: Tensor, labels: Tensor) -> Tensor:
    """Return (B, N, L): the unary costs plus those of the edges to the neighbours' labels."""
    return _conditional(grid, grid.index.flatten(), unary, weights, pairwise, labels)


def _conditional(grid: Grid, nodes: Tensor, unary: Tensor, weights: Tensor, pairwise: Tensor, labels: Tensor) -> Tensor:
    cost = unary[:, nodes] + _edges_behind(grid, nodes, weights, pairwise, labels)
    for edge in range(len(grid.steps)):
        targets = grid.ahead[edge, nodes]
        columns = pairwise.T[labels[:, targets]] * (targets >= 0)[:, None]
        cost = cost + weights[:, edge, targets, None] * columns
    return cost


def _belief(grid: Grid, nodes: Tensor, unary: Tensor, messages: Tensor) -> Tensor:
    total = unary[:, nodes]
    for edge in range(len(grid.steps)):
        total = total + messages[:, edge, nodes]  # from earlier nodes, 0 where there is none
    for edge in range(len(grid.steps)):
        targets = grid.ahead[edge, nodes]
        total = total + messages[:, edge, targets] * (targets >= 0)[:, None]
    return total


def _send(
    grid: Grid,
    nodes: Tensor,
    belief: Tensor,
    edge: int,
    weights: Tensor,
    pairwise: Tensor,
    messages: Tensor,
    forward: bool,
) -> Tensor:
    """Replace the messages of one edge that reached the nodes by those they send back; return the sum of minima."""
    other = (grid.ahead if forward else grid.behind)[edge, nodes]
    there = other >= 0
    slot = other[there] if forward else nodes[there]  # an edge is stored at its later node
    pulled = grid.gamma[nodes[there], None] * belief[:, there] - messages[:, edge, slot]  # (B, F, L)
    sent = _min_plus(pulled, weights[:, edge, slot], pairwise if forward else pairwise.T)
    least = sent.amin(-1, keepdim=True)
    messages[:, edge, slot] = sent - least
    return least.sum((1, 2))


def _min_plus(cost: Tensor, weight: Tensor, pairwise: Tensor) -> Tensor:
    """Return (B, F, L): min over u of cost[u] + weight * pairwise[u, l], in blocks of l."""
    block = max(1, CHUNK // max(1, cost.numel()))
    parts = [
        (cost[..., None] + weight[..., None, None] * columns).amin(-2)
        for columns in torch.split(pairwise, block, dim=1)
    ]
    return torch.cat(parts, -1)


def _label(grid: Grid, unary: Tensor, weights: Tensor, pairwise: Tensor, messages: Tensor) -> Tensor:
    """Label in row-major order: earlier neighbours by their labels, later ones by their messages."""
    labels = torch.zeros(unary.shape[:2], dtype=torch.int64)
    for nodes in grid.fronts:
        cost = unary[:, nodes] + _edges_behind(grid, nodes, weights, pairwise, labels)
        for edge in range(len(grid.steps)):
            targets = grid.ahead[edge, nodes]
            cost = cost + messages[:, edge, targets] * (targets >= 0)[:, None]
        labels[:, nodes] = cost.argmin(-1)
    return labels


def _edges_behind(grid: Grid, nodes: Tensor, weights: Tensor, pairwise: Tensor, labels: Tensor) -> Tensor:
    """Return (B, F, L): the cost of the edges to the earlier neighbours, whose labels are known."""
    cost = torch.zeros((), dtype=pairwise.dtype)
    for edge in range(len(grid.steps)):
        sources = grid.behind[edge, nodes]
        rows = pairwise[labels[:, sources]] * (sources >= 0)[:, None]
        cost = cost + weights[:, edge, nodes, None] * rows
    return cost
