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

from ranp.adapters.mrf._field import Field, Weights, check_iterations, is_readable
from ranp.adapters.mrf._pairwise import Pairwise
from ranp.errors import UsageError, nearest
from ranp.kernels.passing import run
from ranp.kernels.reference import Spec

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
    field = Field.of(unary, pairwise, weights, directions)
    return _passed("isgmr", field, iterations, ties, normalise, return_state)


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
    field = Field.of(unary, pairwise, weights, directions)
    return _passed("trwp", field, iterations, ties, normalise, return_state, float(rho))


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
    check_iterations(iterations)
    field = Field.of(unary, pairwise, weights, directions)
    if is_readable(field.weights) and bool((field.weights < 0).any()):
        raise UsageError(f"weights: expected none below 0 for SGM, got {float(field.weights.min())}")
    growth = len(field.steps) ** iterations
    if growth > 10**280:
        raise UsageError(f"iterations={iterations}: SGM's costs leave float64 with {len(field.steps)} directions")
    wide = field.to(torch.float64) if growth > 10**28 else field
    return _passed("sgm", wide, iterations, ties, normalise, return_state)


def _passed(
    method: str, field: Field, iterations: int, ties: str, normalise: bool, return_state: bool, rho: float = 1.0
) -> Passed:
    """Run a method on a field in the layout of the kernels, where the nodes are numbered and the labels come last."""
    check_iterations(iterations)
    if ties not in TIES:
        raise UsageError(f"ties={ties!r}: expected 'first' or 'last'{nearest(str(ties), TIES)}")
    spatial, last = field.spatial, ties == "last"
    inputs = (field.unary.flatten(2).transpose(1, 2), field.weights, field.matrix)
    record = return_state or (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs))
    spec = Spec(method, spatial, field.steps, iterations, rho, last, normalise, field.window, record)
    result = run(*inputs, spec, keep=return_state)

    def label_first(tensor: Tensor) -> Tensor:
        """Turn (..., N, L) into a view (..., L, *spatial)."""
        return tensor.transpose(-1, -2).reshape(*tensor.shape[:-2], tensor.shape[-1], *spatial)

    labels = result.labels.unflatten(1, spatial)
    if not return_state:
        return Passed(label_first(result.cost), labels)
    q = result.q.unflatten(-1, spatial) if result.q.numel() else result.q
    return Passed(label_first(result.cost), labels, label_first(result.messages), Indices(label_first(result.p), q))
