"""Pink noise of any number of dimensions: amplitude falls with the inverse of frequency, as in natural images."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def pink(shape: Sequence[int], rng: np.random.Generator, exponent: float = 1.0) -> NDArray[np.float32]:
    """Draw noise of zero mean and unit variance.

    Args:
        shape: (C, *spatial); channels are independent.
        rng: where the numbers come from.
        exponent: amplitude is frequency to the power of minus this; 0 is white.
    """
    spatial = tuple(shape[1:])
    axes = tuple(range(1, len(shape)))
    grids = [np.fft.fftfreq(size) for size in spatial[:-1]] + [np.fft.rfftfreq(size) for size in spatial[-1:]]
    squares = sum(np.square(grid) for grid in np.meshgrid(*grids, indexing="ij"))
    frequency = np.sqrt(np.maximum(squares, 1.0 / max(spatial) ** 2))  # the mean falls as the slowest wave does
    spectrum = np.fft.rfftn(rng.standard_normal(shape), axes=axes) / frequency**exponent
    noise = np.fft.irfftn(spectrum, s=spatial, axes=axes)
    noise -= noise.mean(axis=axes, keepdims=True)
    spread = noise.std(axis=axes, keepdims=True)
    return (noise / np.where(spread > 0, spread, 1)).astype(np.float32)
