"""The problem that the methods solve, read once: what a user gave, checked, and with everything spelled out.

On a grid it is a `Field`. The energy of a labelling x is the sum of unary costs U_i(x_i), and of w[r, i] V(x_j, x_i)
over the even directions r and the nodes i whose neighbour j = i - r lies inside the grid: each pair of neighbours once.
On trees, which only `dynamic` solves, it is a `Forest`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ranp.adapters.mrf._directions import Step, steps
from ranp.adapters.mrf._pairwise import Pairwise, resolve
from ranp.errors import UsageError
from ranp.kernels.passing import LIMIT

PairwiseLike = str | Pairwise | Tensor
Weights = float | Tensor | None


@dataclass(frozen=True)
class Field:
    """A pairwise Markov random field on a grid; all tensors are of one dtype, float32 or float64, and on one device."""

    unary: Tensor  # (B, L, *spatial)
    weights: Tensor  # (B or 1, R, N or 1)
    matrix: Tensor  # V (L, L), label of i - r first for even r, of i first for odd r
    window: int  # label distance from which V is constant and maximal, or 0 where no such is known
    steps: tuple[Step, ...]  # R, opposite ones adjacent

    @classmethod
    def of(
        cls,
        unary: Tensor,
        pairwise: PairwiseLike = "potts",
        weights: Weights = None,
        directions: int = 4,
        *,
        dtype: torch.dtype | None = None,
    ) -> "Field":
        """Check what the user gave and spell it out.

        Args:
            unary: (B, L, H, W) or (B, L, D, H, W) costs.
            pairwise: a name, a `Pairwise`, or an (L, L) tensor.
            weights: None for ones, a number, (R,), (R, *spatial) or (B, R, *spatial).
            directions: 4, 8, 16 in 2D; 6, 18, 26 in 3D.
            dtype: what to compute in; None for that of the unary costs, and float32 for half precision.

        Raises:
            UsageError: anything that does not fit, named.
        """
        costs = _checked_unary(unary)
        if dtype or costs.dtype not in (torch.float32, torch.float64):
            costs = costs.to(dtype or torch.float32)
        table = steps(directions, costs.ndim - 2)
        matrix, window = resolve(pairwise, costs.shape[1], costs)
        if isinstance(pairwise, Tensor):
            _refuse_infinite(matrix, "pairwise")
        return cls(costs, _spread(weights, len(table), costs), matrix, window, table)

    @property
    def spatial(self) -> tuple[int, ...]:
        """Return the sizes of the grid."""
        return tuple(self.unary.shape[2:])

    def weights_of(self, direction: int) -> Tensor:
        """Return (B or 1, *spatial): the weights of the edges of one direction, at their target nodes."""
        weights = self.weights[:, direction]  # (B or 1, N or 1)
        return weights.expand(-1, torch.Size(self.spatial).numel()).reshape(-1, *self.spatial)

    def to(self, dtype: torch.dtype) -> "Field":
        """Return the same field in another precision."""
        unary, weights, matrix = (tensor.to(dtype) for tensor in (self.unary, self.weights, self.matrix))
        return replace(self, unary=unary, weights=weights, matrix=matrix)


@dataclass(frozen=True)
class Forest:
    """Trees: the edge from parent p to child i costs weights[i] * pairwise[x_p, x_i]."""

    unary: Tensor  # (N, L)
    parents: Sequence[int]  # N, -1 for a root
    pairwise: Tensor  # (L, L), label of the parent first
    weights: Tensor  # (N,), those of roots are not read
    order: Sequence[int]  # the nodes so that each comes after its parent

    @classmethod
    def of(cls, unary: Tensor, parents: Sequence[int], pairwise: Tensor, weights: Tensor | None = None) -> "Forest":
        """Check what the user gave and spell it out.

        Raises:
            UsageError: the parents form a cycle or are out of range, or a shape does not fit.
        """
        if unary.ndim != 2 or min(unary.shape) < 1:
            raise UsageError(f"unary: expected (N, L) with at least one node and label, got {tuple(unary.shape)}")
        nodes, labels = unary.shape
        if len(parents) != nodes or not all(-1 <= parent < nodes for parent in parents):
            raise UsageError(f"parents={list(parents)}: expected {nodes} numbers from -1 to {nodes - 1}")
        if pairwise.shape != (labels, labels):
            raise UsageError(f"pairwise: expected ({labels}, {labels}), got {tuple(pairwise.shape)}")
        weights = unary.new_ones(nodes) if weights is None else weights
        if weights.shape != (nodes,):
            raise UsageError(f"weights: expected ({nodes},), one per node, got {tuple(weights.shape)}")
        return cls(unary, parents, pairwise, weights, _parents_first(parents))

    def edge(self, node: int) -> Tensor:
        """Return (L, L): what the edge to a node from its parent costs, label of the parent first."""
        return self.weights[node] * self.pairwise


def check_iterations(iterations: int) -> None:
    """Refuse anything but a whole number of at least 1.

    Raises:
        UsageError: naming the value.
    """
    if isinstance(iterations, bool) or not isinstance(iterations, int) or iterations < 1:
        raise UsageError(f"iterations={iterations!r}: expected a whole number, at least 1")


def is_readable(tensor: Tensor) -> bool:
    """Return whether values may be looked at: not while a graph is captured, and not without storage."""
    return not torch.compiler.is_compiling() and tensor.device.type != "meta" and tensor.numel() > 0


def _checked_unary(unary: Tensor) -> Tensor:
    if not isinstance(unary, Tensor):
        raise UsageError(f"unary: expected a tensor, got {type(unary).__name__}")
    if unary.dim() not in (4, 5):
        raise UsageError(f"unary: expected (B, L, H, W) or (B, L, D, H, W), got shape {tuple(unary.shape)}")
    if not unary.is_floating_point():
        raise UsageError(f"unary: expected floating-point costs, got {unary.dtype}")
    labels = unary.shape[1]
    if not 1 <= labels <= LIMIT:
        raise UsageError(f"unary: expected 1 to {LIMIT} labels (dimension 1), got {labels}")
    if 0 in unary.shape[2:]:
        raise UsageError(f"unary: expected at least one node, got shape {tuple(unary.shape)}")
    _refuse_infinite(unary, "unary")
    return unary


def _spread(weights: Weights, directions: int, like: Tensor) -> Tensor:
    """Return the weights as (B or 1, R, N or 1), of the dtype and device of the costs `like` (B, L, *spatial)."""
    if not isinstance(weights, Tensor):
        weights = torch.full((), _number(weights), dtype=like.dtype, device=like.device)
    if weights.device != like.device:
        raise UsageError(f"weights are on {weights.device}, but unary is on {like.device}: expected one device")
    _refuse_infinite(weights, "weights")
    weights, spatial, batch = weights.to(like.dtype), like.shape[2:], like.shape[0]
    if weights.dim() == 0:
        return weights.expand(1, directions, 1)
    if weights.shape == (directions,):
        return weights.view(1, directions, 1)
    if weights.shape == (directions, *spatial):
        return weights.flatten(1).unsqueeze(0)
    if weights.shape == (batch, directions, *spatial):
        return weights.flatten(2)
    sizes = ", ".join(map(str, (directions, *spatial)))
    expected = f"a number, ({directions},), ({sizes}) or ({batch}, {sizes})"
    raise UsageError(f"weights: expected {expected}, got shape {tuple(weights.shape)}")


def _number(weight: float | None) -> float:
    try:
        return 1.0 if weight is None else float(weight)
    except (TypeError, ValueError):
        raise UsageError(f"weights: expected a number, a tensor or None, got {type(weight).__name__}") from None


def _refuse_infinite(tensor: Tensor, name: str) -> None:
    if not is_readable(tensor):
        return
    low, high = tensor.detach().aminmax()
    if not (low.isfinite() and high.isfinite()):
        raise UsageError(f"{name}: expected finite values, got {'NaN' if low.isnan() else 'an infinity'}")


def _parents_first(parents: Sequence[int]) -> list[int]:
    children: dict[int, list[int]] = {}
    for node, parent in enumerate(parents):
        children.setdefault(parent, []).append(node)
    order = list(children.get(-1, []))
    for node in order:  # grows while it is read: breadth first
        order.extend(children.get(node, []))
    if len(order) != len(parents):
        raise UsageError(f"parents={list(parents)}: expected a forest, found a cycle")
    return order
