"""What a network says of an image of any size; no more is held than the image, its labels and one row of windows.

Scores become complete slab by slab (`_windows.py`) and are decided at once. Those that are kept, and those of an image
that was resampled, lie in files that are mapped to memory.

A volume of 512 x 512 x 600 voxels in four classes at a patch of 128: the image takes 0.63 GB, its labels 0.16 GB, and
the buffer of scores and weights 5 x 128 x 512 x 512 x 4 bytes = 0.67 GB; scores for the whole volume would take 2.5 GB.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ranp.data.geometry import Grid
from ranp.training._outputs import decided, probabilities
from ranp.training._windows import Predict, Slab, Windows, slabs

Kept = Literal["logits", "probabilities"]
_ROWS = 8  # of a resampled image that are decided at once


@dataclass(frozen=True)
class Answer:
    """What a network says of an image.

    Args:
        labels: (*spatial), the classes; of regions masks (regions, *spatial) bool.
        scores: of what was to be kept: (*spatial, K) float32, mapped to memory.
    """

    labels: NDArray[Any]
    scores: dict[Kept, NDArray[np.float32]]


def answer(
    image: Tensor,
    patch: Sequence[int],
    predict: Predict,
    windows: Windows,
    task: str,
    *,
    keep: Sequence[Kept] = (),
    room: Path | None = None,
    grid: Grid | None = None,
    affine: NDArray[np.float64] | None = None,
) -> Answer:
    """Label an image by windows.

    Args:
        image: (C, *spatial) as the network is fed.
        patch: of the network.
        predict: of windows (B, C, *patch) to scores (B, K, *patch).
        windows: how they lie.
        task: "segmentation" or "regions".
        keep: scores that are wanted beside the labels. A single score of two classes becomes those of both.
        room: folder for files mapped to memory, by default the system's for temporary ones.
        grid: on which the answer is wanted, where the image was resampled; else that of the image.
        affine: of the image, where there is a grid.
    """
    parts = slabs(image, patch, predict, windows)
    spatial = tuple(image.shape[1:])
    if grid is not None:
        parts = _resampled(parts, spatial, grid, affine, room)
        spatial = grid.shape
    labels: NDArray[Any] | None = None
    scores: dict[Kept, NDArray[np.float32]] = {}
    for slab in parts:
        said = decided(slab.scores, task).cpu().numpy()
        lead = (slice(None),) * (said.ndim - len(spatial))
        if labels is None:
            labels = np.empty((*said.shape[: len(lead)], *spatial), said.dtype)
        labels[(*lead, *slab.place)] = said
        for kind in keep:
            values = _scored(slab.scores, task, kind).cpu().numpy()
            if kind not in scores:
                scores[kind] = _mapped((*spatial, len(values)), room)
            scores[kind][slab.place] = np.moveaxis(values, 0, -1)
    assert labels is not None
    return Answer(labels, scores)


def _scored(scores: Tensor, task: str, kind: Kept) -> Tensor:
    if kind == "probabilities":
        return probabilities(scores, task)
    one_of_two = len(scores) == 1 and task != "regions"
    return torch.cat([torch.zeros_like(scores), scores]) if one_of_two else scores


def _resampled(
    parts: Any, spatial: tuple[int, ...], grid: Grid, affine: NDArray[np.float64] | None, room: Path | None
) -> Any:
    """Yield scores on a grid, a few rows at a time, after all of them were put into a file."""
    whole: NDArray[np.float32] | None = None
    for slab in parts:
        if whole is None:
            whole = _mapped((len(slab.scores), *spatial), room, order="C")
        whole[(slice(None), *slab.place)] = slab.scores.cpu().numpy()
    assert whole is not None
    for start in range(0, grid.shape[0], _ROWS):
        rows = range(start, min(start + _ROWS, grid.shape[0]))
        yield Slab(0, start, grid.resampled(torch.from_numpy(whole), affine, 0, rows))


def _mapped(shape: tuple[int, ...], room: Path | None, order: Literal["C", "F"] = "F") -> NDArray[np.float32]:
    """Return an array in a file that goes when the array does; NIfTI and NRRD have the first axis fastest."""
    with TemporaryFile(dir=room) as file:
        mapped: NDArray[np.float32] = np.memmap(file, np.float32, "w+", shape=shape, order=order)
        return mapped
