"""A volume larger than a network's patch: windows that overlap, weighted by a Gaussian, a slab at a time.

Windows and weights are MONAI's (`monai.inferers.sliding_window_inference`, mode "gaussian"), and so is the result, but
for the order of sums. MONAI holds scores for the whole volume, and so do we where they are asked for; here they become
complete slab by slab along the longest axis, so that a buffer of one window's length is enough.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, groupby

import torch
import torch.nn.functional as F
from torch import Tensor

from ranp.errors import UsageError, named
from ranp.figures import spell

Predict = Callable[[Tensor], Tensor]
"""Of windows (B, C, *patch) to scores (B, K, *patch)."""


@dataclass(frozen=True)
class Windows:
    """How windows lie and are computed.

    Args:
        overlap: share of a window that the next one covers too, in [0, 1).
        batch: windows that are computed at once.
        mirror: whether the mean over all mirrored forms of a window is taken, as nnU-Net does.
    """

    overlap: float = 0.5
    batch: int = 1
    mirror: bool = False


@dataclass(frozen=True)
class Slab:
    """Scores of a part of a volume that are complete.

    Args:
        axis: spatial axis that the parts follow each other along.
        start: first place on it.
        scores: (K, *spatial), of so many places on that axis and of all on the others.
    """

    axis: int
    start: int
    scores: Tensor

    @property
    def place(self) -> tuple[slice, ...]:
        """Where it lies in (*spatial)."""
        return (*[slice(None)] * self.axis, slice(self.start, self.start + self.scores.shape[self.axis + 1]))


def slabs(image: Tensor, patch: Sequence[int], predict: Predict, windows: Windows) -> Iterator[Slab]:
    """Slide over a volume, and yield the scores of its parts as they become complete.

    Args:
        image: (C, *spatial); it is surrounded by zeros where it is smaller than the patch.
        patch: of the network; two sizes slide over each slice across the last axis of a volume.
        predict: computes windows; what it returns stays on its device.
        windows: how they lie.

    Raises:
        UsageError: a patch of other dimensions.
    """
    from monai.data.utils import compute_importance_map, dense_patch_slices  # importing MONAI takes seconds

    spatial = tuple(image.shape[1:])
    if len(patch) > len(spatial):
        raise UsageError(f"{named('patch', spell(patch))}: the case has {len(spatial)} dimensions")
    flat = len(patch) < len(spatial)
    size = (*patch, *[1] * (len(spatial) - len(patch)))
    grown, before = _grown(image, size)
    sides = tuple(grown.shape[1:])
    axis = max(range(len(sides)), key=lambda k: (sides[k] - size[k], -k))
    steps = tuple(
        p if p == side else max(1, int(p * (1 - windows.overlap))) for p, side in zip(size, sides, strict=True)
    )
    places = sorted(dense_patch_slices(sides, size, steps), key=lambda place: place[axis].start)
    compute = _squeezed(predict, flat)
    compute = _mirrored(compute, [k for k in range(len(size)) if size[k] > 1]) if windows.mirror else compute
    weight: Tensor | None = None
    total = counts = torch.empty(0)
    done = 0
    for start, group in groupby(places, key=lambda place: place[axis].start):
        if start > done and weight is not None:  # what lies before this window is complete
            yield from _finished(total, counts, axis, done, start - done, before, spatial)
            for buffer in (total, counts):
                _move_(buffer, axis, start - done)
        done = start
        these = list(group)
        for first in range(0, len(these), windows.batch):
            some = these[first : first + windows.batch]
            scores = compute(torch.stack([grown[(slice(None), *place)] for place in some]))  # (B, K, *size)
            if weight is None:
                weight = compute_importance_map(size, mode="gaussian", sigma_scale=0.125, device=scores.device)
                held = (*sides[:axis], size[axis], *sides[axis + 1 :])
                total = torch.zeros(scores.shape[1], *held, device=scores.device)
                counts = torch.zeros(1, *held, device=scores.device)
            for place, one in zip(some, scores.float(), strict=True):
                inside = (slice(None), *place[:axis], slice(None), *place[axis + 1 :])
                total[inside] += one * weight
                counts[inside] += weight
    yield from _finished(total, counts, axis, done, size[axis], before, spatial)


def windowed(image: Tensor, patch: Sequence[int], predict: Predict, windows: Windows) -> Tensor:
    """Return the scores (K, *spatial) of a whole volume; arguments and errors as of `slabs`."""
    whole: Tensor | None = None
    for slab in slabs(image, patch, predict, windows):
        if whole is None:
            shape = (len(slab.scores), *image.shape[1:])
            whole = torch.empty(shape, dtype=slab.scores.dtype, device=slab.scores.device)
        whole[(slice(None), *slab.place)] = slab.scores
    assert whole is not None
    return whole


def _grown(image: Tensor, size: Sequence[int]) -> tuple[Tensor, tuple[int, ...]]:
    """Return an image that is no smaller than a window, and how many places were put before it along each axis."""
    missing = [max(p - side, 0) for p, side in zip(size, image.shape[1:], strict=True)]
    before = tuple(count // 2 for count in missing)
    if not any(missing):
        return image, before
    around = [(low, count - low) for low, count in zip(before, missing, strict=True)]
    return F.pad(image, [*chain.from_iterable(reversed(around))]), before


def _finished(
    total: Tensor, counts: Tensor, axis: int, start: int, length: int, before: Sequence[int], spatial: Sequence[int]
) -> Iterator[Slab]:
    """Yield the mean of the first places of a buffer, without what surrounds the volume; nothing where that is all."""
    inside = [slice(low, low + side) for low, side in zip(before, spatial, strict=True)]
    first, last = max(start, before[axis]), min(start + length, before[axis] + spatial[axis])
    if first >= last:
        return
    inside[axis] = slice(first - start, last - start)
    place = (slice(None), *inside)
    yield Slab(axis, first - before[axis], total[place] / counts[place])


def _move_(buffer: Tensor, axis: int, by: int) -> None:
    """Move a buffer (K, *spatial) on along an axis; what comes in is zero."""
    left = max(buffer.shape[axis + 1] - by, 0)
    if left:
        buffer.narrow(axis + 1, 0, left).copy_(buffer.narrow(axis + 1, by, left).clone())  # the two may overlap
    buffer.narrow(axis + 1, left, buffer.shape[axis + 1] - left).zero_()


def _squeezed(predict: Predict, flat: bool) -> Predict:
    """Return a function of windows that are one slice thick, of one that takes slices."""
    return (lambda batch: predict(batch[..., 0])[..., None]) if flat else predict


def _mirrored(predict: Predict, axes: Sequence[int]) -> Predict:
    """Return the mean over all mirrored forms, each turned back."""
    forms = [tuple(axis + 2 for axis in some) for n in range(len(axes) + 1) for some in combinations(axes, n)]

    def mean(batch: Tensor) -> Tensor:
        total = predict(batch)
        for form in forms[1:]:
            total = total + predict(batch.flip(form)).flip(form)
        return total / len(forms)

    return mean
