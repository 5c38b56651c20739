"""From whole numbers of pixels to what a network takes: scaled, resized to be cropped, cropped, padded."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ranp.data.dataset import Shape
from ranp.data.layouts._settings import named_setting
from ranp.errors import UsageError, named
from ranp.figures import spell

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of its red, green and blue, of pixels from 0 to 1."""


@dataclass(frozen=True)
class Scaling:
    """Subtract a mean and divide by a standard deviation, per channel, of pixels from 0 to 1.

    >>> Scaling((0.5,), (0.5,))(np.array([[[0], [255]]], np.uint8))
    tensor([[[-1.,  1.]]])
    """

    mean: tuple[float, ...]
    sd: tuple[float, ...]

    def __call__(self, pixels: NDArray[Any]) -> Tensor:
        """Return (*spatial, C) of 8 or 16 bits as (C, *spatial) float32."""
        channels = pixels.shape[-1]
        full = float(np.iinfo(pixels.dtype).max)
        mean, sd = (_for_channels(values, channels) for values in (self.mean, self.sd))
        scaled = (pixels.astype(np.float32) - np.float32(full) * mean) / (np.float32(full) * sd)
        return torch.from_numpy(np.ascontiguousarray(np.moveaxis(scaled, -1, 0)))


def _for_channels(values: tuple[float, ...], channels: int) -> NDArray[np.float32]:
    """Return a value for each channel; a grey one gets the mean of the colours'."""
    return np.array(values if len(values) == channels else [np.mean(values)] * channels, np.float32)


def covering(size: Sequence[int], patch: Sequence[int], shorter: int | None) -> tuple[int, ...]:
    """Return the size to which (H, W) is resized, its proportions kept, so that a patch can be cropped from it.

    Args:
        size: of the picture.
        patch: to be cropped.
        shorter: of the resized picture's sides; by default both sides are 8/7 of the patch's or more: 128 for 112 and
            256 for 224, as is usual.

    Raises:
        UsageError: a shorter side from which the patch can't be cropped.

    >>> covering((240, 320), (112, 112), None), covering((240, 320), (224, 224), 256)
    ((128, 171), (256, 341))
    """
    if shorter is None:
        numerator, denominator = max(((8 * p, 7 * s) for s, p in zip(size, patch, strict=True)), key=_ratio)
    else:
        numerator, denominator = shorter, min(size)
    resized = tuple(max(1, round(s * numerator / denominator)) for s in size)
    if any(r < p for r, p in zip(resized, patch, strict=True)):
        sizes = f"makes {spell(size)} into {spell(resized)}, smaller than {named('patch')} {spell(patch)}"
        raise UsageError(f"{named_setting(f'resize={shorter}')}: {sizes}")
    return resized


def _ratio(pair: tuple[int, int]) -> float:
    return pair[0] / pair[1]


def anywhere(size: Sequence[int], patch: Sequence[int], rng: np.random.Generator) -> tuple[slice, ...]:
    """Return where a patch is cropped: anywhere inside, from the start along sides that are no longer than it."""
    starts = [int(rng.integers(max(s - p, 0) + 1)) for s, p in zip(size, patch, strict=True)]
    return tuple(slice(start, start + p) for start, p in zip(starts, patch, strict=True))


def middle(size: Sequence[int], patch: Sequence[int]) -> tuple[slice, ...]:
    """Return where a patch is cropped in the middle.

    >>> middle((10, 4), (4, 4))
    (slice(3, 7, None), slice(0, 4, None))
    """
    starts = [max(s - p, 0) // 2 for s, p in zip(size, patch, strict=True)]
    return tuple(slice(start, start + p) for start, p in zip(starts, patch, strict=True))


def padded(values: Tensor, patch: Sequence[int], value: float) -> Tensor:
    """Return (..., *spatial) grown to the size of a patch at its far ends."""
    missing = [max(p - s, 0) for s, p in zip(values.shape[-len(patch) :], patch, strict=True)]
    if not any(missing):
        return values
    return torch.nn.functional.pad(values, [n for m in reversed(missing) for n in (0, m)], value=value)


def spatial_size(shapes: Sequence[Shape], channels: Sequence[int], what: str, example: str) -> Shape:
    """Return the spatial size that is asked for, of inputs that are all alike.

    Args:
        shapes: (C, *spatial) of every input of the network.
        channels: of every input of the layout.
        what: one case of it is.
        example: of its patch.

    Raises:
        UsageError: another number of inputs, of channels or of dimensions.
    """
    if len(shapes) != len(channels):
        raise UsageError(f"{named('data')}: the network takes {len(shapes)} input(s), {what} gives {len(channels)}")
    for (taken, *spatial), given in zip(shapes, channels, strict=True):
        if len(spatial) != example.count("x") + 1 or spatial != [*shapes[0][1:]]:
            raise UsageError(f"{named('patch', spell(spatial))}: expected the size of {what}, such as {example}")
        if taken != given:
            option = named("channels", taken, flag="--in-channels")
            raise UsageError(f"{option}: the network takes {taken} channel(s), {what} has {given}")
    return tuple(shapes[0][1:])
