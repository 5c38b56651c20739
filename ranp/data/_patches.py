"""Patches of one volume: where they lie, what surrounds a volume that is too small, and what they are compared with.

A share of the patches (`Sampling.foreground`) is centred on a labelled voxel, of a class that is drawn first, so that
small structures are seen as often as large ones; nnU-Net does so for a third (Isensee et al., Nature Methods 2021). The
others lie anywhere.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ranp.data._batches import Sample
from ranp.data._maps import IGNORED
from ranp.data.labels import Labels, occurring_in
from ranp.errors import UsageError, named
from ranp.figures import spell
from ranp.options import Pad

Integers = NDArray[np.integer[Any]]

_CENTRES = 100_000  # how many labelled voxels of a case are remembered


@dataclass(frozen=True)
class Volume:
    """One case, ready to cut patches from.

    Args:
        image: (C, *spatial) float32, normalised.
        labels: (*spatial), classes, or of regions the values as the file has them; None without a file of labels.
        centres: for each class that occurs but the background, flat indices of its voxels, evenly thinned out.
        affine: (4, 4) from voxels to millimetres, or None.
    """

    image: NDArray[np.float32]
    labels: Integers | None
    centres: tuple[NDArray[np.int64], ...] = ()
    affine: NDArray[np.float64] | None = None


def centres_of(labels: Integers, meaning: Labels) -> tuple[NDArray[np.int64], ...]:
    """Return the voxels that a patch may be centred on, of each class (region) that occurs.

    Args:
        labels: as `Volume.labels`.
        meaning: of the values.
    """
    occurring = [value for value in occurring_in(labels) if value not in (0, IGNORED)]
    wanted = [sorted(region) for region in meaning.regions] or [[value] for value in occurring]
    centres = []
    for values in wanted:
        places = np.flatnonzero(np.isin(labels, values) if len(values) > 1 else labels == values[0])
        if places.size:  # a view would keep them all
            centres.append(places[:: places.size * len(wanted) // _CENTRES + 1].copy())
    return tuple(centres)


def cut(
    volume: Volume, patch: Sequence[int], meaning: Labels, rng: np.random.Generator, *, foreground: float, pad: Pad
) -> Sample:
    """Cut a patch; two sizes cut a slice across the last dimension of a volume.

    Args:
        volume: a case.
        patch: spatial size.
        meaning: of its labels.
        rng: of the place.
        foreground: how likely it is centred on a labelled voxel.
        pad: "constant" or "reflect".

    Returns:
        the image (C, *patch) float32, and labels (*patch) int64 or masks (regions, *patch) float32.

    Raises:
        UsageError: a patch of more dimensions than the volume.
    """
    assert volume.labels is not None
    shape = np.array(volume.labels.shape)
    if len(patch) > len(shape):
        raise UsageError(f"{named('patch', spell(patch))}: the volumes have {len(shape)} dimensions")
    size = np.array([*patch, *[1] * (len(shape) - len(patch))])
    spare = shape - size  # negative where the volume is smaller
    if volume.centres and rng.random() < foreground:
        chosen = volume.centres[rng.integers(len(volume.centres))]
        centre = np.array(np.unravel_index(rng.choice(chosen), volume.labels.shape))
        start = np.clip(centre - size // 2, 0, np.maximum(spare, 0))
    else:
        start = rng.integers(np.maximum(spare, 0) + 1)
    start = np.where(spare < 0, spare // 2, start)
    if (spare < 0).any():
        warnings.warn(f"volumes smaller than the patch of {spell(patch)} are padded ({pad})", stacklevel=2)
    image = _box(volume.image, (0, *start), (len(volume.image), *size), pad).reshape(-1, *patch)
    labels = _box(volume.labels, tuple(start), tuple(size), pad).reshape(patch)
    return (torch.from_numpy(image),), target_of(labels, meaning)


def target_of(labels: Integers, meaning: Labels) -> Tensor:
    """Return what a network is compared with: classes (*spatial) int64, or masks (regions, *spatial) float32."""
    return torch.from_numpy(meaning.masks(labels) if meaning.regions else labels.astype(np.int64))


def _box(values: NDArray[Any], start: Sequence[int], size: Sequence[int], pad: Pad) -> NDArray[Any]:
    """Return a copy of a box, which may reach beyond the array."""
    inside = tuple(
        slice(max(low, 0), min(low + side, length)) for low, side, length in zip(start, size, values.shape, strict=True)
    )
    around = [
        (max(-low, 0), max(low + side - length, 0)) for low, side, length in zip(start, size, values.shape, strict=True)
    ]
    if not np.any(around):
        return np.ascontiguousarray(values[inside])
    padded: NDArray[Any] = np.pad(values[inside], around, mode=pad)
    return padded
