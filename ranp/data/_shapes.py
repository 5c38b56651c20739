"""Generated objects with parts: solids composed into aeroplanes, lamps, mugs and others, for training without data.

A sample is an object of random proportions, turned about its upright axis by any angle and tilted a little, at a random
size and place. Parts that look alike (legs, tubes, handles) are told by what they are a part of, and where.
"""

from collections.abc import Sequence
from functools import cache
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from ranp.data._batches import Sample, Source, check_patch, generator
from ranp.data._maps import IGNORED
from ranp.data._objects import OBJECTS
from ranp.data._solids import voxels
from ranp.data.parts import CATEGORIES, PARTS
from ranp.errors import UsageError, named


def shapes(
    patch: Sequence[int],
    channels: int = 1,
    classes: int = PARTS,
    batches: int = 8,
    batch_size: int = 1,
    seed: int = 0,
    *,
    spatial_dims: int | None = None,
    background: bool = False,
) -> Source:
    """Draw objects and the parts they are made of; in 2D they are seen from the front.

    The categories are those of ShapeNet part, and with 50 classes the labels are its part numbers. Fewer classes are as
    many categories as have so many parts together, in the same order; no categories have 49, so these are 48. A voxel
    whose centre lies in two parts has the later one; a pixel has the nearest. Nothing is much thinner than two voxels.

    Args:
        patch: spatial size, (D, H, W) or (H, W); H points down.
        channels: the first is the occupancy, 0 or 1; channel k, from 1, is the occupancy smoothed by a Gaussian of a
            standard deviation of k voxels.
        classes: parts that are told apart, and the background where it is a class.
        batches: how many batches.
        batch_size: objects in a batch, one each.
        seed: of everything drawn.
        spatial_dims: of the network, to check the patch against.
        background: give empty voxels the label 0, and parts those from 1; else they are ignored (255), as in the
            published ShapeNet networks, and parts are counted from 0.

    Returns:
        Batches of float32 (B, channels, *patch) and int64 (B, *patch).

    Raises:
        UsageError: a patch or number that can't be.
    """
    size = check_patch(patch, spatial_dims)
    least, most = 2 + background, PARTS + background
    if not least <= classes <= most:
        raise UsageError(f"{named('classes', classes)}: shapes have {least} to {most}")
    if channels < 1:
        raise UsageError(f"{named('channels', channels, flag='--in-channels')}: expected at least 1")
    kinds = categories_of(classes - background)
    first = dict(zip(kinds, accumulate((len(CATEGORIES[kind][1]) for kind in kinds), initial=0), strict=False))

    def sample(index: int) -> Sample:
        rng = generator(seed, index)
        kind = kinds[rng.integers(len(kinds))]
        parts = voxels(OBJECTS[kind](rng), size, rng)  # (*patch), -1 where empty
        empty = parts < 0
        labels = np.where(empty, 0 if background else IGNORED, parts + first[kind] + background)
        return (_channels(torch.from_numpy(~empty).float(), channels),), torch.from_numpy(labels.astype(np.int64))

    return Source(sample, batches, batch_size)


def part_names(classes: int = PARTS, *, background: bool = False) -> tuple[str, ...]:
    """Return what the labels of `shapes` are called, by number.

    >>> part_names(5, background=True)
    ('background', 'bag handle', 'bag body', 'cap panels', 'cap peak')
    """
    kinds = categories_of(classes - background)
    parts = tuple(f"{kind} {part}".lower() for kind in kinds for part in CATEGORIES[kind][1])
    return ("background", *parts) if background else parts


@cache
def categories_of(parts: int) -> tuple[str, ...]:
    """Return as many categories as have so many parts together, in their order; one part less where none have."""

    @cache
    def most(left: int, start: int) -> tuple[str, ...] | None:
        if start == len(known):
            return None if left else ()
        rest = most(left - len(CATEGORIES[known[start]][1]), start + 1)
        choices = [None if rest is None else (known[start], *rest), most(left, start + 1)]
        return max((each for each in choices if each is not None), key=len, default=None)

    known = tuple(CATEGORIES)
    return most(parts, 0) or most(parts - 1, 0) or ()


def _channels(occupancy: Tensor, channels: int) -> Tensor:
    """Return the occupancy and what it is smoothed, (channels, *patch)."""
    if channels == 1:
        return occupancy[None]
    from monai.networks.layers.simplelayers import GaussianFilter  # importing MONAI takes seconds

    filters = [GaussianFilter(occupancy.ndim, float(k), approx="sampled") for k in range(1, channels)]
    return torch.stack([occupancy, *(smooth(occupancy[None, None])[0, 0] for smooth in filters)])
