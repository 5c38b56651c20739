"""Stereo pairs of known disparity: one random texture, seen by the left eye through a smooth shift."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ranp.data._batches import Sample, Source, generator
from ranp.data._noise import pink
from ranp.errors import UsageError, named

_SHARPNESS = 0.7  # falls less than pink noise: matching needs detail
_SMOOTHNESS = 2.0  # of the disparity


def stereo(
    size: Sequence[int], maxdisp: int = 192, batches: int = 8, batch_size: int = 1, seed: int = 0, *, channels: int = 3
) -> Source:
    """Rectified pairs: the left image's pixel x shows what the right image has at x - disparity(x).

    Args:
        size: (H, W).
        maxdisp: disparities stay below it, and below a quarter of the width, so that most of the image is seen twice.
        batches: how many batches.
        batch_size: pairs in a batch.
        seed: of everything drawn.
        channels: of each image.

    Returns:
        Batches of a pair of float32 (B, channels, H, W) and the disparity in pixels, float32 (B, H, W).

    Raises:
        UsageError: a size that is not (H, W) or is too narrow.
    """
    if len(size) != 2 or min(size) < 8:
        raise UsageError(f"{named('patch', 'x'.join(map(str, size)))}: stereo pairs need height and width, 8 or more")
    height, width = size
    widest = min(maxdisp - 1, width // 4)

    def sample(index: int) -> Sample:
        rng = generator(seed, index)
        texture = pink((channels, height, width + widest), rng, _SHARPNESS)
        disparity = _between_0_and_1(pink((1, height, width), rng, _SMOOTHNESS)[0]) * widest
        right = texture[:, :, widest:]
        left = _shifted(texture, disparity, widest)
        return (torch.from_numpy(left), torch.from_numpy(right)), torch.from_numpy(disparity)

    return Source(sample, batches, batch_size)


def _between_0_and_1(field: NDArray[np.float32]) -> NDArray[np.float32]:
    scaled: NDArray[np.float32] = (field - field.min()) / (field.max() - field.min())
    return scaled


def _shifted(texture: NDArray[np.float32], disparity: NDArray[np.float32], widest: int) -> NDArray[np.float32]:
    """Read the texture at x + widest - disparity(x), linearly between pixels."""
    height, width = disparity.shape
    places = np.arange(width, dtype=np.float32) + widest - disparity  # (H, W)
    before = np.minimum(places.astype(np.int64), texture.shape[2] - 2)
    share = (places - before).astype(np.float32)
    rows = np.arange(height)[:, None]
    mixed: NDArray[np.float32] = (1 - share) * texture[:, rows, before] + share * texture[:, rows, before + 1]
    return mixed
