"""A loss that a trained network, the teacher, has a part in: what is small learns what is large has learned.

Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network" (2015): both logits are divided by a
temperature T, and the term is T^2 times the cross-entropy between their softmaxes, so that its gradient keeps its size
for any T. Here the teacher's entropy is taken off, which changes no gradient and makes the term 0 where both agree.
Voxels count as samples. Of regions, and of one channel, each channel is a sigmoid of its own. Disparities, and other
values, have no logits: the term is the mean absolute difference where the target is one.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ranp.data.losses import IGNORED
from ranp.errors import UsageError, listed, named, nearest
from ranp.inputs import flatten
from ranp.modules import copy_with
from ranp.training._outputs import run

TERMS = ("softmax", "sigmoid", "values")


@dataclass(frozen=True)
class Distillation:
    """A teacher and how much it counts.

    Args:
        teacher: a trained network; a copy of it runs in evaluation mode.
        term: "softmax" over classes, "sigmoid" of each channel, or "values", such as disparities.
        strength: share of the teacher's term, in [0, 1]; the rest is the loss of the target.
        temperature: what logits are divided by, above 0.
        outputs: places of the teacher's outputs that count; () for all, of which the first is taken.
        limit: values of the target from here on are none (`maxdisp`).

    Raises:
        UsageError: an unknown term, or a value out of its range.
    """

    teacher: nn.Module
    term: str = "softmax"
    strength: float = 0.5
    temperature: float = 4.0
    outputs: tuple[int, ...] = ()
    limit: float = float("inf")
    _copy: nn.Module = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.term not in TERMS:
            raise UsageError(f"{named('term', self.term)}: expected {listed(TERMS)}{nearest(self.term, TERMS)}")
        if not 0 <= self.strength <= 1:
            raise UsageError(f"{named('strength', self.strength)}: expected a share from 0 to 1")
        if not self.temperature > 0:
            raise UsageError(f"{named('temperature', self.temperature)}: expected a number above 0")
        object.__setattr__(self, "_copy", copy_with(self.teacher).eval().requires_grad_(False))

    def __call__(self, value: Tensor, inputs: Any, outputs: Any, target: Tensor) -> Tensor:
        """Return the loss with the teacher's part.

        Args:
            value: the loss of the target.
            inputs: of the batch, on the device the teacher is taken to.
            outputs: of the network; every map of the shape of the teacher's learns from it.
            target: (B, *spatial), (B, 1, *spatial), (B,), or of regions (B, channels, *spatial).

        Raises:
            UsageError: no output has the shape of the teacher's.
        """
        with torch.no_grad():
            taught = run(self._copy.to(target.device), inputs, self.outputs)
        maps = [leaf.float() for leaf in flatten(outputs) if leaf.shape == taught.shape]
        if not maps:
            shapes = listed([str(tuple(leaf.shape)) for leaf in flatten(outputs)], "and")
            raise UsageError(
                f"{named('teacher')} gives {tuple(taught.shape)}; expected the shape of an output: {shapes}"
            )
        seen = self._seen(target, taught)
        terms = [self._mean(self._differences(m, taught), seen) for m in maps]
        return (1 - self.strength) * value + self.strength * torch.stack(terms).mean()

    def _differences(self, m: Tensor, taught: Tensor) -> Tensor:
        """Return how far a map is from the teacher's, (B, *spatial), or of each channel (B, channels, *spatial)."""
        if self.term == "values":
            return (m - taught).abs()
        t = self.temperature
        if self.term == "softmax":
            ours, theirs = (m / t).log_softmax(1), (taught / t).log_softmax(1)
            return t**2 * (theirs.exp() * (theirs - ours)).sum(1)
        on = F.logsigmoid(taught / t) - F.logsigmoid(m / t)
        off = F.logsigmoid(-taught / t) - F.logsigmoid(-m / t)
        probability = (taught / t).sigmoid()
        return t**2 * (probability * on + (1 - probability) * off)

    def _seen(self, target: Tensor, taught: Tensor) -> Tensor:
        """Return where the target counts, in a shape that spreads over that of the differences."""
        seen = target < self.limit if self.term == "values" else target != IGNORED
        alone = (len(taught), *taught.shape[2:])  # without channels
        if self.term == "softmax":
            seen = seen.squeeze(1) if seen.dim() == taught.dim() else seen
            return seen if seen.shape == alone else seen.new_ones(alone)
        if seen.shape != taught.shape and seen.shape == alone:
            seen = seen.unsqueeze(1)
        return seen.expand_as(taught) if seen.dim() == taught.dim() else torch.ones_like(taught, dtype=torch.bool)

    @staticmethod
    def _mean(differences: Tensor, seen: Tensor) -> Tensor:
        return (differences * seen).sum() / seen.sum().clamp(min=1)
