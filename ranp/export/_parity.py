"""Parity: does an exported file compute what the network computes?

Judged by the largest difference over the largest magnitude of an output, and, where an output scores classes, by the
share of positions with the same best class. Element-wise relative differences are no use here: logits cross zero.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ranp.inputs import as_arguments, draw, flatten
from ranp.modules import copy_with

TOLERANCE = 1e-3
AGREEMENT = 0.9999


@dataclass(frozen=True)
class Case:
    """One comparison.

    Args:
        shapes: of the inputs.
        max_abs_diff: over all outputs.
        max_rel_diff: that of each output divided by its largest magnitude.
        agreement: share of positions with the same best class; None where no output scores classes.
    """

    shapes: list[list[int]]
    max_abs_diff: float
    max_rel_diff: float
    agreement: float | None

    @property
    def passed(self) -> bool:
        """Whether the two agree."""
        return self.max_rel_diff <= TOLERANCE and (self.agreement is None or self.agreement >= AGREEMENT)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; a difference that is not finite is None."""
        values = {k: None if isinstance(v, float) and v == float("inf") else v for k, v in asdict(self).items()}
        return {**values, "passed": self.passed}


def compare(
    model: nn.Module, exported: Callable[[list[Tensor]], Sequence[Tensor]], inputs: Sequence[Any]
) -> list[Case]:
    """Run a network and its exported form on several inputs.

    Args:
        model: in evaluation mode.
        exported: maps the input tensors, in order, to the output tensors.
        inputs: (args, kwargs) of each case.
    """
    return [_case(model, exported, *each) for each in inputs]


def _case(
    model: nn.Module, exported: Callable[[list[Tensor]], Sequence[Tensor]], args: Any, kwargs: dict[str, Any]
) -> Case:
    given = flatten((args, kwargs))
    with torch.no_grad():
        expected = flatten(model(*args, **kwargs), spend=True)
        found = exported(given)
    shapes = [list(tensor.shape) for tensor in given]
    if [tuple(t.shape) for t in expected] != [tuple(t.shape) for t in found]:
        return Case(shapes, float("inf"), float("inf"), None)
    worst_abs = worst_rel = 0.0
    shares = []
    for left, right in zip(expected, found, strict=True):
        gap = _largest(left.double() - right.double())
        size = _largest(left.double())
        worst_abs, worst_rel = max(worst_abs, gap), max(worst_rel, gap / size if size else gap)
        if _scores_classes(left, given):
            shares.append(float((left.argmax(1) == right.argmax(1)).double().mean()))
    return Case(shapes, worst_abs, worst_rel, min(shares, default=None))


def _largest(tensor: Tensor) -> float:
    """Return the largest magnitude; a NaN counts as infinite."""
    value = float(tensor.abs().max()) if tensor.numel() else 0.0
    return float("inf") if value != value else value


def _scores_classes(output: Tensor, inputs: Sequence[Tensor]) -> bool:
    image = max(tensor.ndim for tensor in inputs)
    return output.ndim in (2, image) and output.shape[1] > 1 and output.is_floating_point()


def difference(model: nn.Module, other: nn.Module, example: Any, seed: int = 0) -> float:
    """Return how far two networks are apart on random inputs: the largest difference, of the largest output.

    Args:
        model: that the other is to do the same as.
        other: takes the same inputs.
        example: inputs whose shapes are taken.
        seed: of the inputs.
    """
    given = as_arguments(draw(example, torch.Generator().manual_seed(seed), torch.float32))
    first, second = (copy_with(each).float().cpu().eval() for each in (model, other))
    with torch.no_grad():
        return _case(first, lambda tensors: flatten(second(*tensors)), *given).max_rel_diff
