"""Generated volumes with labels: MONAI's synthetic balls, painted with one contrast per class and channel.

Labels come from `monai.data.create_test_image_2d` and `_3d`. Their intensities are replaced, so that the channels
differ from each other as the modalities of a scan do, and noise is added.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ranp.data._batches import Sample, Source, check_patch, generator
from ranp.errors import UsageError, named

_NOISE = 0.1  # standard deviation, where the contrasts lie between 0 and 1
_PAINT = 2**32  # where the contrasts are drawn: an index no sample has
_SMALLEST = 8  # MONAI draws balls into nothing smaller; smaller patches are cut out


def phantom(
    patch: Sequence[int],
    channels: int = 1,
    classes: int = 4,
    batches: int = 8,
    batch_size: int = 1,
    seed: int = 0,
    *,
    spatial_dims: int | None = None,
) -> Source:
    """Volumes with balls of every class on a background of class 0.

    Args:
        patch: spatial size of the volumes, (D, H, W) or (H, W).
        channels: of the volumes; each is z-normalised.
        classes: labels are 0 to classes - 1.
        batches: how many batches.
        batch_size: volumes in a batch.
        seed: of everything drawn; the contrasts are the same in all volumes of one seed.
        spatial_dims: of the network, to check the patch against.

    Returns:
        Batches of float32 (B, channels, *patch) and int64 (B, *patch).

    Raises:
        UsageError: a patch or number that can't be.
    """
    size = check_patch(patch, spatial_dims)
    if classes < 2:
        raise UsageError(f"{named('classes', classes)}: expected at least 2, a background and something on it")
    if channels < 1:
        raise UsageError(f"{named('channels', channels, flag='--in-channels')}: expected at least 1")
    contrast = generator(seed, _PAINT).uniform(size=(channels, classes))
    contrast[0] = np.linspace(0, 1, classes)

    def sample(index: int) -> Sample:
        rng = generator(seed, index)
        labels = _balls(size, classes, rng)
        volume = contrast[:, labels] + _NOISE * rng.standard_normal((channels, *size))
        axes = tuple(range(1, volume.ndim))
        volume = (volume - volume.mean(axes, keepdims=True)) / volume.std(axes, keepdims=True)
        return (torch.from_numpy(volume).float(),), torch.from_numpy(labels)

    return Source(sample, batches, batch_size)


def _balls(size: tuple[int, ...], classes: int, rng: np.random.Generator) -> NDArray[np.int64]:
    from monai.data.synthetic import create_test_image_2d, create_test_image_3d  # importing MONAI takes seconds

    drawn = [max(side, _SMALLEST) for side in size]
    radius = (min(drawn) - 1) // 2
    create: Callable[..., Any] = create_test_image_3d if len(size) == 3 else create_test_image_2d
    _, labels = create(
        *drawn,
        rad_max=radius,
        rad_min=max(1, radius // 3),
        num_seg_classes=classes - 1,
        random_state=np.random.RandomState(rng.integers(2**32)),
    )
    return np.asarray(labels, dtype=np.int64)[tuple(map(slice, size))]
