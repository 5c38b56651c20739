"""How the values of a channel are scaled before a network sees them."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from math import inf, isfinite

import numpy as np
from numpy.typing import NDArray

from ranp.data.scans import Voxels
from ranp.options import Intensity

_CLIPPED = (0.5, 99.5)  # percentiles of the foreground of a CT


@dataclass(frozen=True)
class Scale:
    """(clipped value - mean) / sd.

    Args:
        mean: subtracted.
        sd: divided by.
        low: values below become it.
        high: values above become it.
    """

    mean: float = 0.0
    sd: float = 1.0
    low: float = -inf
    high: float = inf

    def to_plain(self) -> dict[str, float | None]:
        """Return plain values for JSON, which knows no infinity."""
        return {name: value if isfinite(value) else None for name, value in asdict(self).items()}

    @classmethod
    def of_plain(cls, values: Mapping[str, float | None]) -> "Scale":
        """Return what `to_plain` gave."""
        return cls(**{name: float(value) for name, value in values.items() if value is not None})

    def apply(self, voxels: Voxels, out: NDArray[np.float32]) -> None:
        """Scale a channel (*spatial) into `out`, in float64, a slab at a time."""
        for place, values in voxels.slabs():
            values.clip(self.low, self.high, out=values)
            values -= self.mean
            values /= self.sd
            out[place] = values


def for_channel(intensity: Intensity, name: str) -> Intensity:
    """Return how a channel is scaled: as asked, else as its name says, else by its z-score.

    >>> for_channel("auto", "CT"), for_channel("auto", "T1"), for_channel("none", "CT")
    ('ct', 'zscore', 'none')
    """
    known: dict[str, Intensity] = {"ct": "ct", "nonorm": "none"}
    return known.get(name.lower(), "zscore") if intensity == "auto" else intensity


def of_case(voxels: Voxels) -> Scale:
    """Return the z-score of a channel (*spatial): its own mean and standard deviation.

    Raises:
        ValueError: NaN or infinite voxels, or the same value everywhere.
    """
    count, total = 0, 0.0
    for _, values in voxels.slabs():
        if not np.isfinite(values).all():
            raise ValueError("contains NaN or infinite voxels")
        count, total = count + values.size, total + float(values.sum())
    mean, squares = total / count, 0.0
    for _, values in voxels.slabs():
        values -= mean
        squares += float(np.square(values, out=values).sum())
    if squares == 0:
        raise ValueError("a channel has the same value everywhere")
    return Scale(mean, (squares / count) ** 0.5)


def of_foreground(values: Iterable[NDArray[np.float64]]) -> Scale:
    """Return what a CT data set is scaled by: percentiles, mean and standard deviation of its foreground.

    Those of nnU-Net (Isensee et al., Nature Methods 2021): the mean and deviation are those before clipping.

    Args:
        values: of labelled voxels, some of each case.

    Raises:
        ValueError: there are none, or they are all the same.
    """
    foreground = np.concatenate(list(values) or [np.empty(0)])
    if foreground.size == 0 or foreground.min() == foreground.max():
        raise ValueError("no labelled voxel, or all of the same value, to scale a CT by")
    low, high = np.percentile(foreground, _CLIPPED)
    return Scale(float(foreground.mean()), float(foreground.std()), float(low), float(high))
