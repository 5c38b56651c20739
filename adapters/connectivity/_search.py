"""Search for the connections: gates and weights learn together, and a loss drives gates apart."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ranp.adapters.connectivity._decoder import LARGEST, FullyDenseDecoder, at_size
from ranp.adapters.connectivity._edges import THRESHOLD
from ranp.adapters.connectivity._mask import ConnectivityMask, drop
from ranp.adapters.connectivity._network import Connected
from ranp.errors import UsageError
from ranp.training import Trained, Training, train_

_EPS = 1e-10  # inside of logarithms, as published


def sparse_loss(gates: Tensor | Sequence[Tensor] | Mapping[int, Tensor], alpha: float | None = None) -> Tensor:
    """Return how far gates are from 0 and 1, and each stage's mean from alpha, summed over stages.

    mean H(v, v) + H(alpha, mean v), with v half of a gate, H(p, q) = -p log q - (1 - p) log(1 - q), and
    alpha = min(2 / n, 0.5) of n gates: about two inputs for every stage.

    Args:
        gates: of one stage, or of each, in [0, 2], as the forward multiplied by them.
        alpha: the mean that is wanted, where it is not that.
    """
    if isinstance(gates, Tensor):
        shares = gates.flatten() / LARGEST
        wanted = min(2 / len(shares), 0.5) if alpha is None else alpha
        mean = shares.mean()
        return _entropy(shares, shares).mean() + _entropy(torch.full_like(mean, wanted), mean)
    stages = list(gates.values()) if isinstance(gates, Mapping) else list(gates)
    return torch.stack([sparse_loss(stage, alpha) for stage in stages]).sum()


def _entropy(p: Tensor, q: Tensor) -> Tensor:
    return -p * (q + _EPS).log() - (1 - p) * (1 - q + _EPS).log()


@dataclass(frozen=True)
class Searched:
    """What a search found.

    Args:
        mask: the connections.
        trained: weights and curves.
    """

    mask: ConnectivityMask
    trained: Trained


def search_(
    network: Connected,
    batches: Iterable[Any],
    loss: Callable[[Any, Any], Tensor],
    training: Training,
    *,
    strength: float = 0.01,
    alpha: float | None = None,
    threshold: float = THRESHOLD,
    merge: bool = True,
    subset: bool = True,
    encoder_rate: float = 1.0,
    gate_rate: float = 1.0,
    **how: Any,
) -> Searched:
    """Train a network of every connection in place, weights and gates together, and apply the drop rule to its gates.

    What the encoder's norms multiply by and add stays as it is meanwhile, as published, so that no gate is bypassed.

    Args:
        network: what `connect` returned.
        batches: of (inputs, target).
        loss: of (logits, target).
        training: steps, optimizer, schedule and so on; the published ones are the recipe "sparsemask".
        strength: factor of the sparse loss.
        alpha: the mean of a stage's gates that is wanted, as `sparse_loss` takes it.
        threshold: of the drop rule.
        merge: a step of it.
        subset: a step of it.
        encoder_rate: factor of the learning rate of the encoder; published is 0.1, for one that is pretrained.
        gate_rate: factor of the learning rate of the gates.
        how: what else `train_` takes.

    Raises:
        UsageError: a network without gates, a negative strength, or as `train_`.
        CheckFailed: as `train_`.
    """
    decoder = network.decoder
    if not isinstance(decoder, FullyDenseDecoder):
        raise UsageError("network: its decoder has no gates; expected what `connect` returned")
    if strength < 0:
        raise UsageError(f"strength={strength:g}: expected 0 or more")

    def penalised(given: Any, target: Any) -> Tensor:
        logits, penalty = given
        total: Tensor = loss(logits, target) + strength * penalty
        return total

    norms = [
        parameter
        for module in network.encoder.modules()
        if type(module).__module__.startswith("torch.nn.modules.") and "norm" in type(module).__name__.lower()
        for parameter in module.parameters(recurse=False)
        if parameter.requires_grad
    ]
    for parameter in norms:
        parameter.requires_grad_(False)
    rates = {"network.encoder.*": encoder_rate, "network.decoder.gates.*": gate_rate}
    try:
        trained = train_(_Penalised(network, alpha), batches, penalised, training, rates=rates, **how)
    finally:
        for parameter in norms:
            parameter.requires_grad_(True)
    mask = drop(
        decoder.values(), decoder.taps, width=decoder.width, act=decoder.named_act, threshold=threshold, merge=merge,
        subset=subset,
    )  # fmt: skip
    return Searched(mask, trained)


class _Penalised(nn.Module):
    """A network that gives, in training, the sparse loss of the gates it has drawn beside its logits."""

    def __init__(self, network: Connected, alpha: float | None) -> None:
        super().__init__()
        self.network, self.alpha = network, alpha

    def forward(self, image: Tensor) -> Any:
        decoder = self.network.decoder
        if not self.training:
            return self.network(image)
        assert isinstance(decoder, FullyDenseDecoder)
        gates = decoder.draw()
        logits = at_size(decoder(self.network.encoder(image), gates), image.shape[2:])
        return logits, sparse_loss(gates, self.alpha)
