"""Patches of the user's own NIfTI volumes and label maps.

Half of the patches are centred on a labelled voxel, as nnU-Net does for a third (Isensee et al., Nature Methods 2021),
so that small structures are seen; the others lie anywhere. One case is held at a time.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ranp.data._batches import Sample, Source, check_patch, generator
from ranp.data.geometry import difference
from ranp.errors import UsageError, named, need
from ranp.figures import spell

_FOREGROUND = 0.5  # share of patches centred on a labelled voxel
_CENTRES = 100_000  # how many labelled voxels are remembered
_ROUNDING = 1e-3  # of a label that the header scales
_SHOWN = 5  # how many wrong label values a message lists


@dataclass(frozen=True)
class Case:
    """One image and its labels, ready to cut patches from."""

    image: NDArray[np.float32]
    """(C, *spatial), each channel z-normalised."""
    labels: NDArray[np.int32]
    """(*spatial)."""
    labelled: NDArray[np.int64]
    """Flat indices of voxels whose label is not 0, evenly thinned out to a bounded number."""


def nifti(
    images: Sequence[str | Path],
    labels: Sequence[str | Path],
    patch: Sequence[int],
    classes: int,
    batches: int = 8,
    batch_size: int = 1,
    seed: int = 0,
    *,
    channels: int | None = None,
    spatial_dims: int | None = None,
) -> Source:
    """Random patches of NIfTI volumes.

    Args:
        images: one file per case; the channels of a case are the last dimension of its file.
        labels: one file of integer labels per image, in the same order.
        patch: spatial size; two sizes cut slices across the last dimension of a volume.
        classes: labels are 0 to classes - 1.
        batches: how many batches.
        batch_size: patches in a batch.
        seed: of the patches' places.
        channels: of the network, to check the images against.
        spatial_dims: of the network, to check the patch against.

    Returns:
        Batches of float32 (B, C, *patch) and int64 (B, *patch).

    Raises:
        UsageError: files, shapes, values or numbers that don't fit; every message names the option and the value. All
            headers and the first case are checked here, the voxels of the others when they are read.
        MissingExtra: nibabel is not installed.
    """
    size = check_patch(patch, spatial_dims)
    cases = _check_headers([Path(p) for p in images], [Path(p) for p in labels], size, channels)
    total = batches * batch_size
    occurring = lru_cache(maxsize=1)(lambda: _occurring(cases))

    @lru_cache(maxsize=1)
    def case(index: int) -> Case:
        image_path, labels_path = cases[index]
        values = _read_labels(labels_path)
        own = np.unique(values)
        if (own != np.arange(own.size)).any() or own.size > classes:  # 0 and 255, or 0, 1, 2 and 4
            values = _as_classes(values, occurring(), classes, labels_path)
        return _read_case(image_path, values)

    def sample(index: int) -> Sample:
        rng = generator(seed, index)
        return _cut(case(index * len(cases) // total), size, rng)

    source = Source(sample, batches, batch_size)
    case(0)
    return source


def check(images: Sequence[str | Path], labels: Sequence[str | Path]) -> None:
    """Refuse files that are missing, damaged or don't fit each other, and labels that are background alone.

    Args:
        images: one file per case.
        labels: one file of labels per image, in the same order; read until one holds more than 0.

    Raises:
        UsageError: the first that won't do.
        MissingExtra: nibabel is not installed.
    """
    cases = _check_headers([Path(p) for p in images], [Path(p) for p in labels], (), None)
    if not any(_read_labels(path).any() for _, path in cases):
        more = f" (nor do the {len(cases) - 1} others)" if len(cases) > 1 else ""
        first = named("labels", cases[0][1])
        raise UsageError(f"{first}: holds no label but 0, the background{more}; expected something to tell from it")


def channels_and_classes(images: Sequence[str | Path], labels: Sequence[str | Path]) -> tuple[int, int]:
    """Return how many channels a data set's images have, and how many classes: the labels that occur, and 0.

    Args:
        images: one file per case; the channels of a case are the last dimension of its file.
        labels: one file of integer labels per image, in the same order.

    Raises:
        UsageError: files, shapes or values that don't fit, or images that differ in their channels.
        MissingExtra: nibabel is not installed.
    """
    cases = _check_headers([Path(p) for p in images], [Path(p) for p in labels], (), None)
    channels, occurring = 0, {0}
    for image_path, labels_path in cases:
        values = _read_labels(labels_path)
        shape = _open(image_path, "images").shape
        found = shape[values.ndim] if len(shape) > values.ndim else 1
        if channels not in (0, found):
            raise UsageError(f"{named('images', image_path)}: {found} channel(s), the images before it have {channels}")
        channels = found
        occurring.update(np.unique(values).tolist())
    return channels, len(occurring)


def _occurring(cases: Sequence[tuple[Path, Path]]) -> list[int]:
    """Return the labels that occur in any case, and the background."""
    found = {0}
    for _, path in cases:
        found.update(np.unique(_read_labels(path)).tolist())
    return sorted(found)


def _as_classes(values: NDArray[np.int32], occurring: list[int], classes: int, path: Path) -> NDArray[np.int32]:
    """Return classes 0 to classes - 1 for the labels of a case, by the labels that occur in any.

    Raises:
        UsageError: a label beyond the classes, and not as many labels as classes.
    """
    if occurring[-1] < classes:
        return values
    if len(occurring) != classes:
        wrong = np.unique(values[values >= classes])
        expected = f"labels 0 to {classes - 1} ({named('classes', classes)})"
        raise UsageError(f"{named('labels', path)}: expected {expected}, found {_list(wrong)}")
    warnings.warn(f"labels {_list(np.array(occurring))} are taken as classes 0 to {classes - 1}", stacklevel=2)
    ranked: NDArray[np.int32] = np.searchsorted(occurring, values).astype(np.int32)
    return ranked


def _check_headers(
    images: list[Path], labels: list[Path], patch: tuple[int, ...], channels: int | None
) -> list[tuple[Path, Path]]:
    if not images:
        raise UsageError(f"{named('images')}: nothing given; expected at least one NIfTI file")
    if len(images) != len(labels):
        counts = f"{len(labels)} given for {len(images)} {named('images')}"
        raise UsageError(f"{named('labels')}: {counts}; expected one per image, in order")
    cases = list(zip(images, labels, strict=True))
    for image_path, labels_path in cases:
        _check_pair(image_path, labels_path, patch, channels)
    return cases


def _check_pair(image_path: Path, labels_path: Path, patch: tuple[int, ...], channels: int | None) -> None:
    opened = _open(image_path, "images"), _open(labels_path, "labels")
    image, label = opened[0].shape, _spatial(opened[1].shape)
    if len(label) not in (2, 3):
        raise UsageError(f"{named('labels', labels_path)}: expected two or three dimensions, got shape {spell(label)}")
    if image[: len(label)] != label or len(image) > len(label) + 1:
        other = f"{spell(image)} of {named('images', image_path)}"
        raise UsageError(f"{named('labels', labels_path)}: shape {spell(label)} differs from {other}")
    apart = difference(opened[1].affine, opened[0].affine, label) if all(map(_is_placed, opened)) else None
    if apart is not None:
        raise UsageError(
            f"{named('labels', labels_path)}: {apart} as {named('images', image_path)}: resample one of them"
        )
    found = image[len(label)] if len(image) > len(label) else 1
    if channels is not None and found != channels:
        takes = f"the network takes {channels} ({named('channels', flag='--in-channels')})"
        raise UsageError(f"{named('images', image_path)}: {found} channel(s), {takes}")
    if len(patch) > len(label) or any(p > s for p, s in zip(patch, label, strict=False)):
        raise UsageError(f"{named('patch', spell(patch))}: larger than {image_path}, whose shape is {spell(label)}")


def _is_placed(image: Any) -> bool:
    """Whether a file says where its voxels lie."""
    header = image.header
    return any(int(header[key]) > 0 for key in ("sform_code", "qform_code") if key in header)


def _spatial(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Drop the trailing sizes of 1 that some tools write after the third dimension."""
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def _open(path: Path, option: str) -> Any:
    nibabel = need("nibabel", "medical")
    if not path.is_file():
        raise UsageError(f"{named(option, path)}: no such file")
    try:
        image = nibabel.load(path)
    except Exception as error:  # a damaged file can fail anywhere in the reader
        raise UsageError(f"{named(option, path)}: not a readable NIfTI file ({error})") from error
    if np.dtype(image.get_data_dtype()).kind not in "iufb":
        raise UsageError(f"{named(option, path)}: expected one number per voxel, got {image.get_data_dtype()}")
    return image


def _read(path: Path, option: str) -> NDArray[Any]:
    try:
        values: NDArray[Any] = np.asanyarray(_open(path, option).dataobj)
    except UsageError:
        raise
    except Exception as error:  # likewise: truncated or damaged voxels
        raise UsageError(f"{named(option, path)}: can't read the voxels ({type(error).__name__}: {error})") from error
    if not np.isfinite(values).all():
        raise UsageError(f"{named(option, path)}: contains NaN or infinite voxels")
    return values


def _read_case(image_path: Path, labels: NDArray[np.int32]) -> Case:
    image = _read(image_path, "images").astype(np.float32)
    image = image.reshape(*labels.shape, -1)
    axes = tuple(range(labels.ndim))
    spread = image.std(axes, dtype=np.float64)
    if not spread.all():
        raise UsageError(f"{named('images', image_path)}: a channel has the same value everywhere")
    image = (image - image.mean(axes, dtype=np.float64).astype(np.float32)) / spread.astype(np.float32)
    labelled = np.flatnonzero(labels)
    thinned = labelled[:: labelled.size // _CENTRES + 1].copy()  # a view would keep them all
    return Case(np.moveaxis(image, -1, 0), labels, thinned)


def _read_labels(path: Path) -> NDArray[np.int32]:
    """Read whole numbers of at least 0; those that a header scales are whole but for rounding."""
    values = _read(path, "labels")
    values = values.reshape(_spatial(values.shape))
    found = np.unique(values)
    wrong = found[np.abs(found - np.rint(found)) > _ROUNDING] if found.dtype.kind == "f" else found[:0]
    if wrong.size:
        raise UsageError(f"{named('labels', path)}: expected integer labels, found {_list(wrong)}")
    if found[0] < 0 or found[-1] > np.iinfo(np.int32).max:
        raise UsageError(f"{named('labels', path)}: expected labels from 0 on, found {_list(found[found < 0])}")
    rounded: NDArray[np.int32] = np.rint(values).astype(np.int32)
    return rounded


def _list(values: NDArray[Any]) -> str:
    more = f" and {values.size - _SHOWN} more" if values.size > _SHOWN else ""
    return ", ".join(f"{value:g}" for value in values[:_SHOWN]) + more


def _cut(case: Case, patch: tuple[int, ...], rng: np.random.Generator) -> Sample:
    shape = case.labels.shape
    size = np.array([*patch, *[1] * (len(shape) - len(patch))])
    room = np.array(shape) - size
    if case.labelled.size and rng.random() < _FOREGROUND:
        centre = np.array(np.unravel_index(rng.choice(case.labelled), shape))
        start = np.clip(centre - size // 2, 0, room)
    else:
        start = rng.integers(room + 1)
    box = tuple(slice(low, low + side) for low, side in zip(start, size, strict=True))
    image = np.ascontiguousarray(case.image[(slice(None), *box)]).reshape(-1, *patch)
    labels = case.labels[box].astype(np.int64).reshape(patch)
    return (torch.from_numpy(image),), torch.from_numpy(labels)
