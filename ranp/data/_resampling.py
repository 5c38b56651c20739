"""Volumes with voxels of another size."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ranp.data._patches import Integers
from ranp.errors import UsageError, named


def resampled(
    image: NDArray[np.float32],
    labels: Integers | None,
    affine: NDArray[np.float64] | None,
    spacing: Sequence[float],
    path: Path,
) -> tuple[NDArray[np.float32], Integers | None, NDArray[np.float64]]:
    """Return a case with voxels so many millimetres apart: images are interpolated, labels the nearest."""
    dims = image.ndim - 1
    spacing = tuple(spacing) * dims if len(spacing) == 1 else tuple(spacing)
    if affine is None or len(spacing) != dims:
        why = "the file does not say where its voxels lie" if affine is None else f"the volumes have {dims} dimensions"
        raise UsageError(f"{named('spacing', 'x'.join(f'{s:g}' for s in spacing))}: {path}: {why}")
    from monai.data import MetaTensor  # importing MONAI takes seconds
    from monai.transforms import Spacing

    def at(values: NDArray[Any], mode: str) -> Any:
        placed = MetaTensor(torch.from_numpy(np.ascontiguousarray(values)), affine=torch.from_numpy(affine))
        return Spacing(spacing, mode=mode, padding_mode="border")(placed)

    sized = at(image, "bilinear")
    marked = None if labels is None else at(labels[None], "nearest")[0].numpy().round().astype(labels.dtype)
    return sized.numpy().astype(np.float32), marked, np.asarray(sized.affine, dtype=np.float64)
