"""What `ranp refine` does: sharpen the labels of a network's logits along the edges of an image."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ranp.adapters.jobs.options import Refining
from ranp.adapters.mrf._directions import steps
from ranp.adapters.mrf._edges import canny_weights, contrast_weights
from ranp.adapters.mrf._energies import field_energy
from ranp.adapters.mrf._field import Field
from ranp.adapters.mrf._layer import METHODS as DIFFERENTIABLE
from ranp.adapters.mrf._pairwise import Pairwise, cauchy, huber, linear, potts, truncated_linear, truncated_quadratic
from ranp.adapters.mrf._sequential import Sequential, icm, trws
from ranp.errors import UsageError, named
from ranp.metrics import EdgeScores, SegmentationScores

METHODS: dict[str, Callable[..., Any]] = {**DIFFERENTIABLE, "trws": trws, "icm": icm}
PAIRWISE: dict[str, Callable[..., Pairwise]] = {
    "potts": potts,
    "linear": linear,
    "truncated_linear": truncated_linear,
    "truncated_quadratic": truncated_quadratic,
    "cauchy": cauchy,
    "huber": huber,
}
TINY = 1e-7  # least probability: its cost is 16

Track = Callable[[Iterable[int]], Iterable[int]]


def pairwise_of(how: Refining) -> Pairwise:
    """Return the pairwise function that is asked for.

    Raises:
        UsageError: it has no scale, or one is out of its range.
    """
    make = PAIRWISE[how.pairwise]
    if how.scale is None:
        return make()
    if how.pairwise in ("potts", "linear"):
        raise UsageError(f"{named('scale', how.scale)}: {how.pairwise} has none")
    return make(how.scale)


@dataclass(frozen=True)
class Refined:
    """Labels before and after, and the energies on the way."""

    before: Tensor  # (*spatial) int64: the most likely labels
    after: Tensor  # (*spatial) int64
    energies: list[float]  # before, then after each iteration

    @property
    def changed(self) -> int:
        """Return how many nodes have another label than before."""
        return int((self.before != self.after).sum())


def unary_costs(scores: Tensor, probabilities: bool) -> Tensor:
    """Return -log of the probabilities (L, *spatial): of the softmax of logits, or of probabilities as they are.

    Raises:
        UsageError: probabilities outside 0..1.
    """
    if not probabilities:
        return -torch.log_softmax(scores, 0)
    if scores.min() < 0 or scores.max() > 1 + 1e-3:
        got = f"{float(scores.min()):.4g} to {float(scores.max()):.4g}"
        raise UsageError(
            f"{named('probabilities', True)}: expected values from 0 to 1, got {got}; logits go without the option"
        )
    return -torch.log(scores.clamp(min=TINY))


def default_directions(how: Refining, dims: int) -> int:
    """Return the directions asked for, or the smallest table: 4 in 2D, 6 in 3D.

    Raises:
        UsageError: they are not in the table.
    """
    return 2 * dims if how.directions is None else len(steps(how.directions, dims))


def refine(
    scores: Tensor, how: Refining, image: Tensor | None = None, *, probabilities: bool = False, track: Track = iter
) -> Refined:
    """Refine the labels of one image or volume.

    Args:
        scores: (L, *spatial) logits, or probabilities.
        how: the method and its settings.
        image: (C, *spatial), whose edges the labels should follow.
        probabilities: whether the scores are probabilities.
        track: wraps the loop over iterations, to show progress.

    Raises:
        UsageError: what does not fit, named.
    """
    unary = unary_costs(scores, probabilities)[None]
    directions = default_directions(how, scores.ndim - 1)
    weights = how.strength * edge_weights(image, how.edges, directions) if image is not None else how.strength
    model = (pairwise_of(how), weights, directions)
    field = Field.of(unary, *model, dtype=torch.float64)
    before = unary.argmin(1)
    start = float(field_energy(before, field))
    labels, energies = _run(unary, how, model, field, track)
    return Refined(before[0].cpu(), labels[0].cpu(), [start, *energies])


def edge_weights(image: Tensor, edges: str, directions: int) -> Tensor | float:
    """Return the factors of the edges, (1, R, *spatial), or 1 where the image is not to be looked at."""
    if edges == "none":
        return 1.0
    weigh = canny_weights if edges == "canny" else contrast_weights
    return weigh(image[None], directions=directions)


def _run(
    unary: Tensor, how: Refining, model: tuple[Pairwise, Tensor | float, int], field: Field, track: Track
) -> tuple[Tensor, list[float]]:
    """Return the labels of the last iteration, and the energy after each.

    The parallel methods keep no state between calls, so the energy after k iterations is that of a run of k.
    """
    run = METHODS[how.method]
    extra = {"rho": how.rho} if how.method == "trwp" else {}
    if how.method in ("trws", "icm"):
        found: Sequential = run(unary, *model, how.iterations)
        return found.labels, found.energies[0].tolist()
    energies = []
    for count in track(range(1, how.iterations + 1)):
        labels = run(unary, *model, count, **extra).labels
        energies.append(float(field_energy(labels, field)))
    return labels, energies


def measures(labels: Tensor, truth: Tensor, classes: int) -> dict[str, Any]:
    """Return the pixel accuracy, the mean IoU, the F-measure of the edges and the Dice of each class.

    The mean IoU is over the classes present in either map; edges count as met within one pixel, slice by slice. What
    is not defined, such as the Dice of an absent class, is None.
    """
    scores, edges = SegmentationScores(classes), EdgeScores(dilations=(1,))
    for count in (scores, edges):
        count.update(labels[None], truth[None])
    true, false_positive, _, false_negative = scores.counts.unbind(1)
    dice = 2 * true / (2 * true + false_positive + false_negative)
    return {
        "accuracy": scores.pixel_accuracy(),
        "miou": scores.miou(),
        "edge_f": _defined(edges.compute()[0].f_measure),
        "dice": [_defined(float(value)) for value in dice],
    }


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else value
