"""The largest batch, and the largest input, whose training step fits into a memory."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from ranp.cost import Step, largest, training_peak
from ranp.errors import InfeasibleError, UnsupportedError, UsageError, named
from ranp.figures import size
from ranp.inputs import Shape, as_arguments, flatten, reshaped
from ranp.jobs._subject import Subject
from ranp.modules import on_meta

_GRAINS = (8, 16, 32, 64, 128)  # multiples of which a network may ask its sides to be
_SMALLEST = 4  # of them, at which a network may not run yet: a norm over one voxel

StepFor = Callable[[Subject], Step]


def fit(subject: Subject, step_for: StepFor, limit: int, text: str) -> dict[str, Any]:
    """Return what fits, by prediction.

    Args:
        subject: the network and its inputs.
        step_for: the step for the network at other inputs.
        limit: bytes.
        text: the limit as it was given.

    Returns:
        limit; batch: samples and peak at the input, None where not even one fits; input: size, batch and peak of the
        largest input of these proportions at the batch, None where there is none.

    Raises:
        InfeasibleError: neither fits; with the smallest peak that was found.
    """

    def peak(change: Callable[[Shape], Shape]) -> int:
        other = replace(subject, inputs=reshaped(subject.inputs, change))
        return training_peak(other.network, other.inputs, step_for(other))

    closest: list[float] = []
    batch = _largest(lambda number: peak(lambda shape: (number, *shape[1:])), limit, closest)
    found: dict[str, Any] = {"limit": limit, "batch": batch and {"batch": batch[0], "peak": batch[1]}, "input": None}
    sides = _sides(subject)
    if sides is not None:
        dims = len(flatten(subject.inputs)[0].shape) - 2
        first = _first(sides, peak)
        side = first and _largest(lambda number: peak(sides(number)), limit, closest, power=dims, least=first)
        if side:
            shape = sides(side[0])(tuple(flatten(subject.inputs)[0].shape))
            found["input"] = {"size": list(shape[2:]), "batch": shape[0], "peak": side[1]}
    if found["batch"] is None and found["input"] is None:
        least = min(closest, default=0)
        raise InfeasibleError(f"{named('fit', text)}: a training step takes at least {size(least)}", least)
    return found


def _largest(cost_of: Callable[[int], int], limit: int, closest: list[float], **how: int) -> tuple[int, int] | None:
    try:
        return largest(cost_of, limit, **how)
    except InfeasibleError as error:
        closest.append(error.closest or 0)
        return None


def _sides(subject: Subject) -> Callable[[int], Callable[[Shape], Shape]] | None:
    """Return, of a number, how it changes shapes: the longest side is so many grains, the others in proportion."""
    spatial = tuple(flatten(subject.inputs)[0].shape[2:])
    network = on_meta(subject.network).eval()
    for grain in _GRAINS if spatial else ():

        def sides(number: int, grain: int = grain) -> Callable[[Shape], Shape]:
            new = tuple(grain * max(1, round(number * side / max(spatial))) for side in spatial)
            return lambda shape: (*shape[:2], *new) if len(shape) == len(new) + 2 else shape

        try:
            for number in (3, 5, 6):  # which no larger power of two divides
                args, kwargs = as_arguments(reshaped(subject.inputs, sides(number)))
                with torch.no_grad():
                    network(*args, **kwargs)
        except Exception:  # which says that the size does not fit, as every network does in its own way
            continue
        return sides
    return None


def _first(sides: Callable[[int], Callable[[Shape], Shape]], peak: Callable[[Callable[[Shape], Shape]], int]) -> int:
    """Return the smallest number of grains at which the step can be taken, 0 where there is none."""
    for number in range(1, _SMALLEST + 1):
        try:
            peak(sides(number))
        except (UnsupportedError, UsageError):
            continue
        return number
    return 0
