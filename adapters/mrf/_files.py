"""Reading logits, images and labels for `ranp refine`, and writing labels: arrays, volumes, pictures.

NumPy files hold the channels first, (L, H, W) or (L, D, H, W), a leading 1 for the batch allowed; NIfTI, NRRD and
MetaImage files hold them last, (X, Y, L) or (X, Y, Z, L). Axes keep their order, so X plays the part of D or H. No file
runs code: pickled arrays are refused.
"""

import gzip
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ranp.data.geometry import difference
from ranp.data.scans import ITK, NRRD, open_scan
from ranp.errors import UsageError, named, need
from ranp.files import check_absent, whole_file

Array = np.ndarray[Any, Any]

NIFTI = (".nii", ".nii.gz")
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
LAST = (*NIFTI, *NRRD, *ITK)  # whose channels are the last dimension
OUTPUTS = (".npy", ".npz", *NIFTI)
NAMES = ("logits", "probabilities", "softmax", "image", "labels", "arr_0")  # looked for in an .npz, in this order


@dataclass(frozen=True)
class Scores:
    """Logits or probabilities, and the affine of the file they came from."""

    values: Tensor  # (L, *spatial) float32
    affine: Array | None  # (4, 4), of a NIfTI file


def read_scores(path: Path) -> Scores:
    """Read logits or probabilities.

    Raises:
        UsageError: the file can't be read, has other than 3 or 4 dimensions, no numbers, or NaN or infinity.
    """
    array, affine = _read(path, "LOGITS")
    array = _channels_first(array, path)
    if array.ndim not in (3, 4) or 0 in array.shape:
        as_labels = ", that of a label map" if array.ndim == 2 else ""
        expected = "(L, H, W) or (L, D, H, W), or for NIfTI (X, Y, L) or (X, Y, Z, L)"
        raise UsageError(f"{named('LOGITS', path)}: expected {expected}, got shape {array.shape}{as_labels}")
    if array.shape[0] == 1:
        said = "holds one score for each pixel, and every label would be 0; expected one for each label"
        raise UsageError(f"{named('LOGITS', path)}: {said} (of a sigmoid's logit z: 0 and z)")
    if not np.isfinite(array).all():
        raise UsageError(f"{named('LOGITS', path)}: expected finite numbers, found NaN or infinity")
    if _is_label_map(array):
        said = f"holds whole numbers from 0 to {array.max():g} alone, as a label map does"
        raise UsageError(f"{named('LOGITS', path)}: {said}; expected a score for each label, with a channel for each")
    return Scores(torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)), affine)


def _is_label_map(array: Array) -> bool:
    """Whether an array of scores is a map of labels: whole numbers, two or more, that are no one-hot probabilities."""
    if array.min() < 0 or array.max() < 1 or not np.array_equal(array, np.rint(array)):
        return False
    return not np.array_equal(array.sum(0), np.ones(array.shape[1:]))


def read_image(path: Path, spatial: tuple[int, ...], affine: Array | None = None) -> Tensor:
    """Read an image of the size of the logits, and in their place where both files say, as (C, *spatial) float32.

    Raises:
        UsageError: the file can't be read, or has another size.
    """
    array, own = _read(path, "image")
    if array.ndim == len(spatial) + 1:
        last = path.name.lower().endswith((*LAST, *PICTURES))
        array = np.moveaxis(array, -1, 0) if last else array
    elif array.ndim == len(spatial):
        array = array[None]
    if array.shape[1:] != spatial or not np.isfinite(array).all():
        raise UsageError(f"{named('image', path)}: expected finite values of size {spatial}, got shape {array.shape}")
    apart = None if own is None or affine is None else difference(own, affine, spatial)
    if apart is not None:
        raise UsageError(f"{named('image', path)}: {apart} as LOGITS: resample one of them")
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


def read_labels(path: Path, spatial: tuple[int, ...], classes: int) -> Tensor:
    """Read a label map of the size of the logits as (*spatial) int64.

    Raises:
        UsageError: the file can't be read, has another size, or labels other than 0 to classes - 1.
    """
    array, _ = _read(path, "labels")
    if array.shape != spatial:
        raise UsageError(f"{named('labels', path)}: expected size {spatial}, got {array.shape}")
    labels = array.astype(np.int64)
    if (labels != array).any() or labels.min() < 0 or labels.max() >= classes:
        got = f"{array.min()} to {array.max()}"
        raise UsageError(f"{named('labels', path)}: expected whole numbers from 0 to {classes - 1}, got {got}")
    return torch.from_numpy(labels)


def check_output(path: Path, option: str, suffixes: tuple[str, ...], force: bool) -> None:
    """Refuse an output that can't be written.

    Raises:
        UsageError: an unknown suffix, no such folder, or a file that is there already without `force`.
    """
    if not path.name.lower().endswith(suffixes):
        raise UsageError(f"{named(option, path)}: expected a name ending in {', '.join(suffixes)}")
    if not path.parent.is_dir():
        raise UsageError(f"{named(option, path)}: there is no folder {path.parent}")
    check_absent(path, force=force, option=option)


def write_labels(path: Path, labels: Array, affine: Array | None) -> None:
    """Write a label map: .npy, .npz (as `labels`), or NIfTI; in the smallest unsigned type, whole or not at all."""
    labels = labels.astype(np.uint8 if labels.max(initial=0) < 256 else np.uint16)
    name = path.name.lower()
    with whole_file(path) as place, place.open("wb") as file:
        if name.endswith(".npy"):
            np.save(file, labels)
        elif name.endswith(".npz"):
            np.savez_compressed(file, labels=labels)
        else:
            file.write(_nifti_bytes(labels, affine, packed=name.endswith(".gz")))


def _nifti_bytes(labels: Array, affine: Array | None, packed: bool) -> bytes:
    image = need("nibabel", "medical").Nifti1Image(labels, np.eye(4) if affine is None else affine)
    content: bytes = image.to_bytes()
    return gzip.compress(content, mtime=0) if packed else content


def _read(path: Path, option: str) -> tuple[Array, Array | None]:
    """Return an array as it lies in the file, and a NIfTI file's affine."""
    if not path.is_file():
        raise UsageError(f"{named(option, path)}: no such file")
    name = path.name.lower()
    if name.endswith(NIFTI):
        return _read_nifti(path, option)
    if name.endswith((*NRRD, *ITK)):
        scan = open_scan(path, option)
        voxels = scan.read(option)
        return _numbers(voxels.stored * voxels.slope + voxels.intercept, path, option), scan.affine
    if name.endswith(PICTURES) and option != "LOGITS":
        return np.asarray(need("skimage.io", "mrf").imread(path)), None
    if not name.endswith((".npy", ".npz")):
        raise UsageError(f"{named(option, path)}: expected .npy, .npz, .nii or .nii.gz")
    return _read_numpy(path, option), None


def _read_numpy(path: Path, option: str) -> Array:
    try:
        content = np.load(path, allow_pickle=False)
        arrays = {"": content} if isinstance(content, np.ndarray) else dict(content)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(f"{named(option, path)}: not a NumPy file of plain numbers ({error})") from None
    known = list(arrays) if len(arrays) == 1 else [name for name in NAMES if name in arrays]
    if not known:
        raise UsageError(
            f"{named(option, path)}: expected one array, or one named {' or '.join(NAMES)}, got {list(arrays)}"
        )
    return _numbers(arrays[known[0]], path, option)


def _read_nifti(path: Path, option: str) -> tuple[Array, Array]:
    nibabel = need("nibabel", "medical")
    try:
        image = nibabel.load(path)
        array = np.asanyarray(image.dataobj)
    except (nibabel.filebasedimages.ImageFileError, OSError, EOFError, ValueError, zlib.error) as error:
        raise UsageError(f"{named(option, path)}: not a NIfTI file ({error})") from None
    return _numbers(array, path, option), image.affine


def _numbers(array: Array, path: Path, option: str) -> Array:
    if array.dtype.kind not in "biuf":
        raise UsageError(f"{named(option, path)}: expected numbers, got {array.dtype}")
    return array


def _channels_first(array: Array, path: Path) -> Array:
    """Move a volume file's channels to the front, past a vector image's empty axis; drop a NumPy file's batch of 1."""
    if path.name.lower().endswith(LAST):
        array = array[:, :, :, 0] if array.ndim == 5 and array.shape[3] == 1 else array
        return np.moveaxis(array, -1, 0)
    return array[0] if array.ndim in (4, 5) and array.shape[0] == 1 else array
