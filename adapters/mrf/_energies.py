"""The energy of a labelling: what every method of this room tries to make small."""

import torch
from torch import Tensor

from ranp.adapters.mrf._field import Field, PairwiseLike, Weights
from ranp.errors import UsageError
from ranp.kernels.chains import overlap


def energy(
    labels: Tensor, unary: Tensor, pairwise: PairwiseLike, weights: Weights = None, *, directions: int = 4
) -> Tensor:
    """Return the energy of each labelling: its unary costs plus every pair of neighbours once.

    A pair is counted at its even direction r, with the weight stored for r at its target node; the weights of the odd
    directions are not read. All directions count the same, whatever the length of their step. The sum is made in
    float64 (published tables were summed in float32, and differ above 2^24).

    Args:
        labels: (B, H, W) or (B, D, H, W), integers from 0 to L - 1.
        unary: (B, L, H, W) or (B, L, D, H, W), lower is better.
        pairwise: a name, a `Pairwise`, or an (L, L) tensor.
        weights: None for ones, a number, (R,), (R, *spatial) or (B, R, *spatial).
        directions: 4, 8, 16 in 2D; 6, 18, 26 in 3D.

    Returns:
        (B,) float64, differentiable in unary, weights and a pairwise tensor.

    Raises:
        UsageError: labels of another shape, out of range or not integers; or what `isgmr` raises.
    """
    field = Field.of(unary, pairwise, weights, directions, dtype=torch.float64)
    _check_labels(labels, field.unary)
    return field_energy(labels, field)


def field_energy(labels: Tensor, field: Field) -> Tensor:
    """Return what `energy` returns, for a field that was read and labels known to fit."""
    labels = labels.long()
    total = field.unary.double().gather(1, labels[:, None]).flatten(1).sum(1)  # (B,)
    matrix = field.matrix.double()
    for direction in range(0, len(field.steps), 2):
        neighbours, nodes = overlap(field.steps[direction], field.spatial)
        cost = matrix[labels[:, *neighbours], labels[:, *nodes]]
        weight = field.weights_of(direction)[:, *nodes].double()
        total = total + (weight * cost).flatten(1).sum(1)
    return total


def _check_labels(labels: Tensor, unary: Tensor) -> None:
    batch, count, *spatial = unary.shape
    if labels.is_floating_point() or labels.is_complex():
        raise UsageError(f"labels: expected integers, got {labels.dtype}")
    if tuple(labels.shape) != (batch, *spatial):
        raise UsageError(f"labels: expected the shape {(batch, *spatial)}, got {tuple(labels.shape)}")
    if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < count:
        raise UsageError(f"labels: expected 0 to {count - 1}, got {int(labels.min())} to {int(labels.max())}")
    if labels.device != unary.device:
        raise UsageError(f"labels are on {labels.device}, but unary is on {unary.device}: expected one device")
