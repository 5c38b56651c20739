"""The files of a case of volumes: that they lie on one grid, how each is turned to it, and whole numbers in them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ranp.data._patches import Integers
from ranp.data.geometry import Turn, difference, turn
from ranp.data.labels import spell_values
from ranp.data.scans import Scan, Voxels
from ranp.errors import UsageError, named
from ranp.figures import spell

_ROUNDING = 1e-3  # of a label that the header scales
_BEYOND = 2**31  # no label is as large


@dataclass(frozen=True)
class Opened:
    """A file of a case whose header fits the case's first.

    Args:
        scan: the file.
        turn: as the first lies.
        channels: in it.
    """

    scan: Scan
    turn: Turn
    channels: int = 1


def fitted(images: Sequence[Scan], labels: Scan | None, options: tuple[str, str]) -> tuple[list[Opened], Opened | None]:
    """Return a case's images, and its labels if any, on the grid of the first.

    Args:
        images: a file or several.
        labels: of the same case.
        options: that name an image and a file of labels, for messages.

    Raises:
        UsageError: they do not lie on one grid, whatever the order of their axes.
    """
    spatial = images[0].shape[:3] if labels is None else labels.shape
    first, dims = images[0], len(spatial)
    if dims not in (2, 3):
        option, path = (options[0], first.path) if labels is None else (options[1], labels.path)
        raise UsageError(f"{named(option, path)}: expected two or three dimensions, got shape {spell(spatial)}")
    target = None if labels is None else Opened(labels, turn(spatial, labels.affine, first.affine))
    grid = first.shape[:dims]
    parts = [
        Opened(scan, turn(scan.shape[:dims], scan.affine, first.affine), int(np.prod(scan.shape[dims:])))
        for scan in images
    ]
    for part in [*([] if target is None else [target]), *parts]:
        option = options[1] if part is target else options[0]
        fits = part.turn.shape == grid and max(len(part.scan.shape), len(first.shape)) <= dims + 1
        if not fits and part.turn.axes is None:
            shapes = f"shape {spell(part.scan.shape)} differs from {spell(first.shape)}"
            raise UsageError(f"{named(option, part.scan.path)}: {shapes} of {named(options[0], first.path)}")
        if part.turn.affine is None or first.affine is None or part.scan.affine is None:
            continue
        if not fits or difference(part.turn.affine, first.affine, grid):  # said as the files have it
            apart = difference(part.scan.affine, first.affine, grid)
            beside = f"{apart} as {named(options[0], first.path)}"
            raise UsageError(f"{named(option, part.scan.path)}: {beside}: resample one of them")
    return parts, target


def whole_numbers(voxels: Voxels, option: str) -> Integers:
    """Return whole numbers of at least 0; those that a header scales are whole but for rounding.

    Args:
        voxels: of a file of labels.
        option: that named it, for messages.

    Raises:
        UsageError: other values.
    """
    if not voxels.scaled and voxels.stored.dtype.kind in "iub":
        values = voxels.stored.view(np.uint8) if voxels.stored.dtype.kind == "b" else voxels.stored
    else:
        values = np.empty(voxels.stored.shape, np.int32)
        for place, slab in voxels.slabs():
            whole = np.rint(slab)
            if not np.isfinite(slab).all():
                raise UsageError(f"{option}: contains NaN or infinite voxels")
            wrong = np.unique(slab[np.abs(slab - whole) > _ROUNDING])
            if wrong.size:
                raise UsageError(f"{option}: expected integer labels, found {spell_values(wrong.tolist())}")
            values[place] = whole.clip(-_BEYOND, _BEYOND - 1)
    if values.size and (values.min() < 0 or int(values.max()) >= _BEYOND - 1):
        wrong = np.unique(values[(values < 0) | (values >= _BEYOND - 1)])
        raise UsageError(f"{option}: expected labels from 0 on, found {spell_values(wrong.tolist())}")
    return values
