"""The message passing as the last layer of a network: logits in, logits out."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from ranp.adapters.mrf._field import PairwiseLike, check_iterations
from ranp.adapters.mrf._meanfield import mean_field
from ranp.adapters.mrf._pairwise import Pairwise, resolve
from ranp.adapters.mrf._passing import isgmr, sgm, trwp
from ranp.adapters.mrf._pruning import labels_stay as labels_stay  # registers the rule: see there
from ranp.errors import UsageError, nearest

METHODS: dict[str, Callable[..., Any]] = {"isgmr": isgmr, "trwp": trwp, "sgm": sgm, "mean_field": mean_field}


class MRFLayer(nn.Module):
    """Refine logits by a few iterations of message passing: unary = -log_softmax(logits), result = -cost.

    The result ranks the labels as the refined costs do and may go into a cross entropy like any logits; its scale
    differs from that of the input (SGM's grows with the directions). float16 and bfloat16 logits, and anything under
    autocast, are taken to float32 inside, and the result is float32; float64 stays float64.

    Args:
        method: `isgmr`, `trwp`, `sgm` or `mean_field`.
        labels: L, the channels of the logits.
        pairwise: a name, a `Pairwise`, or an (L, L) tensor.
        strength: factor of the pairwise costs, positive.
        directions: 4, 8, 16 for images; 6, 18, 26 for volumes.
        iterations: at least 1.
        rho: TRWP's factor; the other methods ignore it.
        learn_weights: learn one positive factor per pair of opposite directions, as its logarithm, from `strength`.
        learn_pairwise: learn the (L, L) matrix, from `pairwise`; nothing keeps it symmetric or positive, and it takes
            the general path through the kernels.

    Raises:
        UsageError: an unknown method, a strength that is not positive, or a pairwise matrix of the wrong size.
    """

    log_weights: Tensor  # (R / 2,)
    matrix: Tensor | None  # (L, L) where it is learned or was given as a tensor

    def __init__(
        self,
        method: str = "trwp",
        labels: int = 2,
        *,
        pairwise: PairwiseLike = "potts",
        strength: float = 1.0,
        directions: int = 4,
        iterations: int = 5,
        rho: float = 0.5,
        learn_weights: bool = False,
        learn_pairwise: bool = False,
    ) -> None:
        super().__init__()
        _check(method, labels, strength, iterations)
        self.method, self.labels = method, labels
        self.directions, self.iterations, self.rho = directions, iterations, rho
        weights = torch.full((directions // 2,), math.log(strength))
        matrix, _ = resolve(pairwise, labels, weights)
        self.pairwise = pairwise if isinstance(pairwise, str | Pairwise) and not learn_pairwise else None
        if learn_weights:
            self.log_weights = nn.Parameter(weights)
        else:
            self.register_buffer("log_weights", weights)
        if learn_pairwise:
            self.matrix = nn.Parameter(matrix.detach().clone())
        else:
            self.register_buffer("matrix", None if self.pairwise is not None else matrix.detach().clone())

    def forward(self, logits: Tensor, edge_weights: Tensor | None = None) -> Tensor:
        """Return refined logits of the shape of `logits`.

        Args:
            logits: (B, L, H, W) or (B, L, D, H, W).
            edge_weights: (R, *spatial) or (B, R, *spatial) factors, from `contrast_weights` for instance.

        Raises:
            UsageError: the channels are not the layer's labels, or what the method raises.
        """
        if logits.ndim < 2 or logits.shape[1] != self.labels:
            raise UsageError(f"logits: expected {self.labels} channels, the layer's labels, got {tuple(logits.shape)}")
        with _without_autocast(logits.device.type):
            wide = logits.double() if logits.dtype == torch.float64 else logits.float()
            unary = -torch.log_softmax(wide, 1)
            return -self._cost(unary, self._weights(unary, edge_weights))

    def _weights(self, unary: Tensor, edge_weights: Tensor | None) -> Tensor:
        tied = self.log_weights.to(unary.dtype).exp().repeat_interleave(2)  # (R,), opposite directions adjacent
        if edge_weights is None:
            return tied
        return tied.reshape(-1, *[1] * (unary.ndim - 2)) * edge_weights.to(unary.dtype)

    def _cost(self, unary: Tensor, weights: Tensor) -> Tensor:
        pairwise = self.matrix if self.pairwise is None else self.pairwise
        extra = {"rho": self.rho} if self.method == "trwp" else {}
        found = METHODS[self.method](unary, pairwise, weights, self.directions, self.iterations, **extra)
        cost: Tensor = found.cost
        return cost

    def extra_repr(self) -> str:
        """Return what `print` shows of the layer."""
        name = self.pairwise.name if isinstance(self.pairwise, Pairwise) else self.pairwise or "matrix"
        sizes = f"labels={self.labels}, directions={self.directions}, iterations={self.iterations}"
        return f"{self.method}, {name}, {sizes}"


def _without_autocast(device: str) -> AbstractContextManager[None]:
    """Return a context that switches autocast off where the device has it; the meta device has none."""
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()


def _check(method: str, labels: int, strength: float, iterations: int) -> None:
    if method not in METHODS:
        raise UsageError(f"method={method!r}: expected one of {', '.join(METHODS)}{nearest(method, METHODS)}")
    if labels < 1:
        raise UsageError(f"labels={labels}: expected at least 1")
    if not (math.isfinite(strength) and strength > 0):
        raise UsageError(f"strength={strength}: expected a positive number")
    check_iterations(iterations)
