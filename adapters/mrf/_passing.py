"""Parallel message passing on grids: ISGMR, TRWP and SGM, differentiable in the costs, the weights and V.

Xu, Ajanthan, Vineet and Hartley, "Fast and Differentiable Message Passing on Pairwise Markov Random Fields" (2020,
https://arxiv.org/abs/1910.10892); Hirschmueller, "Stereo Processing by Semiglobal Matching and Mutual Information"
(PAMI 2008). They minimise the energy of `_energies.py`, approximately: only on chains are ISGMR, and TRWP with rho = 1,
exact after one iteration. The gradients are those of the computation itself, with its minima held fixed; they correct
several misprints of the published algorithms. Volumes, batches and weights per edge go beyond the paper.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ranp.adapters.mrf._directions import Step, steps
from ranp.adapters.mrf._pairwise import Pairwise, resolve
from ranp.errors import UsageError, nearest
from ranp.kernels.passing import LIMIT, run
from ranp.kernels.reference import Spec

Weights = float | Tensor | None
TIES = ("first", "last")


class Indices(NamedTuple):
    """What the backward needs, K R N (L + 1) entries: the minimising source labels and the subtracted labels."""

    p: Tensor  # (K, R, B, L, *spatial)
    q: Tensor  # (K, R, B, *spatial); empty where nothing is subtracted


class Passed(NamedTuple):
    """What a message passing returns.

    Args:
        cost: (B, L, *spatial), lower is better; its argmin over the labels is `labels`.
        labels: (B, *spatial) int64, the smallest label among equals.
        messages: (R, B, L, *spatial) after the last iteration, without gradient; None unless asked for.
        indices: the recorded indices; None unless asked for.
    """

    cost: Tensor
    labels: Tensor
    messages: Tensor | None = None
    indices: Indices | None = None


def isgmr(
    unary: Tensor,
    pairwise: str | Pairwise | Tensor = "potts",
    weights: Weights = None,
    directions: int = 4,
    iterations: int = 5,
    *,
    ties: str = "first",
    normalise: bool = True,
    return_state: bool = False,
) -> Passed:
    """Iterative semi-global matching revised: all directions at once, from the messages of the last iteration.

    Args:
        unary: costs (B, L, H, W) or (B, L, D, H, W), lower is better; half precision is computed in float32.
        pairwise: a name, a `Pairwise`, or an (L, L) tensor V(a, b) with a the label of the node before, in the even
            directions; odd ones read it transposed.
        weights: None (1), a number, (R,), (R, *spatial) or (B, R, *spatial): the factor of V for the edge that a
            message of direction r takes to the node it is stored at. Opposite directions are not tied.
        directions: R, 4, 8 or 16 for images, 6, 18 or 26 for volumes.
        iterations: at least 1.
        ties: among equal candidates the gradient flows to the `first` or the `last` label; values don't change.
        normalise: subtract from each message its minimum.
        return_state: return the messages and indices as well.

    Raises:
        UsageError: one line that names the argument.
    """
    grid = _Grid.of(unary, pairwise, weights, directions, iterations, ties)
    return grid.passed("isgmr", 1.0, normalise, return_state)


def trwp(
    unary: Tensor,
    pairwise: str | Pairwise | Tensor = "potts",
    weights: Weights = None,
    directions: int = 4,
    iterations: int = 5,
    rho: float = 0.5,
    *,
    ties: str = "first",
    normalise: bool = True,
    return_state: bool = False,
) -> Passed:
    """Parallel tree-reweighted message passing: direction after direction, each from the newest messages.

    Args:
        rho: in (0, 1], the share of a node's cost that one direction carries; 0.5 is what the paper uses for any
            number of directions.
        unary, pairwise, weights, directions, iterations, ties, normalise, return_state: as for `isgmr`.

    Raises:
        UsageError: one line that names the argument.
    """
    if not 0 < rho <= 1:
        raise UsageError(f"rho={rho!r}: expected a number above 0 and up to 1")
    grid = _Grid.of(unary, pairwise, weights, directions, iterations, ties)
    return grid.passed("trwp", float(rho), normalise, return_state)


def sgm(
    unary: Tensor,
    pairwise: str | Pairwise | Tensor = "potts",
    weights: Weights = None,
    directions: int = 4,
    iterations: int = 1,
    *,
    ties: str = "first",
    normalise: bool = True,
    return_state: bool = False,
) -> Passed:
    """Semi-global matching; an iteration takes the aggregated cost of the last one as its unary cost.

    Not exact, even on chains. The first node of a chain contributes nothing in that direction. Costs grow about R-fold
    per iteration: where R^K leaves float32 the computation and the cost returned are float64.

    Args:
        unary, pairwise, directions, iterations, ties, normalise, return_state: as for `isgmr`.
        weights: as for `isgmr`, and not negative.

    Raises:
        UsageError: one line that names the argument.
    """
    grid = _Grid.of(unary, pairwise, weights, directions, iterations, ties)
    if _readable(grid.weights) and bool((grid.weights < 0).any()):
        raise UsageError(f"weights: expected none below 0 for SGM, got {float(grid.weights.min())}")
    return grid.widened().passed("sgm", 1.0, normalise, return_state)


class _Grid(NamedTuple):
    """The checked arguments that the methods share, in the layout of the kernels."""

    unary: Tensor  # (B, N, L)
    weights: Tensor  # (B or 1, R, N or 1)
    pairwise: Tensor  # (L, L)
    window: int
    spatial: tuple[int, ...]
    steps: tuple[Step, ...]
    iterations: int
    ties: str

    @classmethod
    def of(
        cls,
        unary: Tensor,
        pairwise: str | Pairwise | Tensor,
        weights: Weights,
        directions: int,
        iterations: int,
        ties: str,
    ) -> "_Grid":
        unary = checked_unary(unary)
        spatial = tuple(unary.shape[2:])
        table = steps(directions, len(spatial))
        if ties not in TIES:
            raise UsageError(f"ties={ties!r}: expected 'first' or 'last'{nearest(str(ties), TIES)}")
        check_iterations(iterations)
        matrix, window = resolve(pairwise, unary.shape[1], unary)
        if isinstance(pairwise, Tensor):
            _refuse_infinite(matrix, "pairwise")
        edges = spread_weights(weights, len(table), unary)
        return cls(unary.flatten(2).transpose(1, 2), edges, matrix, window, spatial, table, iterations, ties)

    def widened(self) -> "_Grid":
        """Go to float64 where the costs of an iterated SGM, which grow R-fold each time, would leave float32."""
        growth = len(self.steps) ** self.iterations
        if growth > 10**280:
            raise UsageError(
                f"iterations={self.iterations}: SGM's costs leave float64 with {len(self.steps)} directions"
            )
        if growth <= 10**28:
            return self
        return self._replace(unary=self.unary.double(), weights=self.weights.double(), pairwise=self.pairwise.double())

    def passed(self, method: str, rho: float, normalise: bool, return_state: bool) -> Passed:
        inputs = (self.unary, self.weights, self.pairwise)
        record = return_state or (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs))
        spec = Spec(
            method, self.spatial, self.steps, self.iterations, rho, self.ties == "last", normalise, self.window, record
        )
        found = run(*inputs, spec, keep=return_state)
        state = self._state(found.messages, found.p, found.q) if return_state else (None, None)
        labels = found.labels.reshape(-1, *self.spatial)
        return Passed(self._label_first(found.cost), labels, *state)

    def _label_first(self, tensor: Tensor) -> Tensor:
        """Turn (..., N, L) into a view (..., L, *spatial)."""
        return tensor.transpose(-1, -2).reshape(*tensor.shape[:-2], tensor.shape[-1], *self.spatial)

    def _state(self, messages: Tensor, p: Tensor, q: Tensor) -> tuple[Tensor, Indices]:
        kept = q.reshape(*q.shape[:-1], *self.spatial) if q.numel() else q
        return self._label_first(messages), Indices(self._label_first(p), kept)


def check_iterations(iterations: int) -> None:
    """Refuse anything but a whole number of at least 1.

    Raises:
        UsageError: naming the value.
    """
    if isinstance(iterations, bool) or not isinstance(iterations, int) or iterations < 1:
        raise UsageError(f"iterations={iterations!r}: expected a whole number, at least 1")


def checked_unary(unary: Tensor) -> Tensor:
    """Return the costs in float32 or float64, or say what is wrong with them.

    Raises:
        UsageError: not (B, L, H, W) or (B, L, D, H, W), not floating point, no or too many labels, NaN or infinite.
    """
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
    return unary if unary.dtype in (torch.float32, torch.float64) else unary.float()


def spread_weights(weights: Weights, directions: int, like: Tensor) -> Tensor:
    """Return the weights as (B or 1, R, N or 1), of the dtype and device of the costs `like` (B, L, *spatial).

    Raises:
        UsageError: another shape, another device, NaN or infinite.
    """
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


def _readable(tensor: Tensor) -> bool:
    """Return whether values may be looked at: not while a graph is captured, and not without storage."""
    return not torch.compiler.is_compiling() and tensor.device.type != "meta" and tensor.numel() > 0


def _refuse_infinite(tensor: Tensor, name: str) -> None:
    if not _readable(tensor):
        return
    low, high = tensor.detach().aminmax()
    if not (low.isfinite() and high.isfinite()):
        raise UsageError(f"{name}: expected finite values, got {'NaN' if low.isnan() else 'an infinity'}")
