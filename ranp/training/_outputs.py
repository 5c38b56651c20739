"""What a network gives, as an answer: its main output, at the size of the input, and which class that is."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ranp.errors import UsageError, named, saying
from ranp.figures import spell_all
from ranp.inputs import as_arguments, flatten, map_tensors, places_of
from ranp.modules import on_meta

_MULTIPLES = (1, 2, 4, 8, 16, 32, 64, 128)  # of a side that networks ask for
_SUM = 1e-4  # how far the sum of probabilities is rounded
_MODES = {3: "linear", 4: "bilinear", 5: "trilinear"}


def run(network: nn.Module, inputs: Any, outputs: Sequence[int] = ()) -> Tensor:
    """Run a network and return its first output that is no scalar, float32, with the batch in front.

    Args:
        network: in evaluation mode.
        inputs: a tensor, a tuple of positional inputs or a dict of keyword ones.
        outputs: places of the outputs that count; () for all.

    Raises:
        UsageError: it does not run on them, or gives no tensor.
    """
    args, kwargs = as_arguments(inputs)
    shapes = spell_all([tuple(tensor.shape[1:]) for tensor in flatten((args, kwargs))])
    with saying(UsageError, f"the network on an input of {shapes}"):
        leaves = flatten(network(*args, **kwargs), spend=True)
    counted = places_of(outputs, len(leaves))
    for place, leaf in enumerate(leaves):
        if place in counted and leaf.dim() > 1:
            return leaf.float()
    raise UsageError(f"the network gives no tensor for an input of {shapes}")


def sized(scores: Tensor, spatial: Sequence[int]) -> Tensor:
    """Return scores (B, K, *spatial) at a size, linearly between their voxels where they are of another."""
    if tuple(scores.shape[2:]) == tuple(spatial):
        return scores
    if scores.dim() != len(spatial) + 2:
        raise UsageError(f"the network gives {tuple(scores.shape)}; expected a score per voxel and class")
    return F.interpolate(scores, size=tuple(spatial), mode=_MODES[scores.dim()], align_corners=False)


def decided(scores: Tensor, task: str) -> Tensor:
    """Return what scores say.

    Args:
        scores: (K, *spatial).
        task: "regions": masks (K, *spatial) bool. Else labels (*spatial): uint8, or int64 of more than 256 classes; of
            one score where it is above 0.
    """
    if task == "regions":
        return scores > 0
    labels = (scores[0] > 0) if len(scores) == 1 else scores.argmax(0)
    return labels.to(torch.uint8 if len(scores) <= 256 else torch.int64)


def probabilities(scores: Tensor, task: str) -> Tensor:
    """Return scores (K, ...) as probabilities; a single one of classes as those of both.

    What a network with a softmax of its own gives, from 0 to 1 and 1 in sum, stays as it is.
    """
    if task == "regions":
        return scores.sigmoid()
    if len(scores) == 1:
        return torch.cat([1 - scores.sigmoid(), scores.sigmoid()])
    are_such = scores.amin() >= 0 and (scores.sum(0) - 1).abs().amax() < _SUM
    return scores if are_such else scores.softmax(0)


class Whole:
    """Runs a network on whole pictures: padded at their far ends to what it takes, and cropped back.

    Args:
        network: in evaluation mode.
        least: (H, W) that it is known to take.
        fed: makes of inputs (1, C, H, W) what the network takes.
        outputs: as of `run`.
        like: the network whose sizes count, where `network` is an exported file of it.
    """

    def __init__(
        self,
        network: nn.Module,
        least: Sequence[int],
        fed: Callable[[Sequence[Tensor]], Any],
        outputs: Sequence[int] = (),
        like: nn.Module | None = None,
    ) -> None:
        self.like = network if like is None else like
        self.network, self.fed, self.least, self.outputs = network, fed, tuple(least), tuple(outputs)
        self._known: dict[tuple[int, ...], tuple[int, ...]] = {}

    def __call__(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return the output (1, ..., H, W) for inputs (C, H, W) of one size."""
        size = tuple(inputs[0].shape[1:])
        if size not in self._known:
            self._known[size] = self._taken(inputs, size)
        around = [n for p, s in zip(reversed(self._known[size]), reversed(size), strict=True) for n in (0, p - s)]
        padded = self.fed([F.pad(each, around)[None] for each in inputs])
        height, width = size
        return run(self.network, padded, self.outputs)[..., :height, :width]

    def _taken(self, inputs: Sequence[Tensor], size: tuple[int, ...]) -> tuple[int, ...]:
        """Return the least size at which the network gives an output of the input's size."""
        meta = on_meta(self.like).eval()
        for multiple in _MULTIPLES:
            sides = tuple(
                max(least, -(-side // multiple) * multiple) for side, least in zip(size, self.least, strict=True)
            )
            try:
                zeros = self.fed([torch.zeros(1, len(each), *sides) for each in inputs])
                given = run(meta, map_tensors(zeros, lambda tensor: tensor.to("meta")), self.outputs)
            except Exception:  # which says that the size does not fit, as every network does in its own way
                continue
            if tuple(given.shape[-len(sides) :]) == sides:
                return sides
        option = named("patch", "x".join(map(str, size)))
        raise UsageError(f"{option}: the network takes no picture of this size, nor of one that is a little larger")
