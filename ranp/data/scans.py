"""Files of voxels by the readers of the field: NIfTI by nibabel, NRRD by pynrrd, MHA, MHD and DICOM by SimpleITK.

What nnU-Net has preprocessed is read by blosc2 (`.b2nd`) and NumPy (`.npy`).

A file is opened first (its header is read) and its voxels later, as they are stored: 2 bytes each of most scans, which
scaled would take 8. Whatever the file, voxels come as (*spatial, C) or (*spatial), and the affine leads from voxels
to millimetres, right, anterior and superior being positive.
"""

import locale
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranp.errors import RanpError, UsageError, named, need

NIFTI = (".nii", ".nii.gz", ".hdr", ".img")
NRRD = (".nrrd", ".nhdr")
ITK = (".mha", ".mhd")
ARRAYS = (".b2nd", ".npy")
DICOM = (".dcm", ".dicom", ".ima")
ENDINGS = (*NIFTI, *NRRD, *ITK)
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_SLAB = 2**16  # voxels that are scaled at once

Array = NDArray[Any]


@dataclass(frozen=True)
class Scan:
    """A file whose header was read.

    Args:
        path: of it, or of the folder of a DICOM series.
        shape: (*spatial) or (*spatial, C); sizes of 1 behind the third are dropped.
        affine: (4, 4) from voxels to millimetres, or None where the file does not say.
        stored: reads the voxels as they are stored, of `shape` but for sizes of 1.
        scale: what a stored value is multiplied by, and what is added.
    """

    path: Path
    shape: tuple[int, ...]
    affine: NDArray[np.float64] | None
    stored: Callable[[], Array]
    scale: tuple[float, float] = (1.0, 0.0)

    def taken(self, axes: Sequence[int]) -> "Scan":
        """Return the same voxels with the spatial axes in another order, such as (2, 1, 0); () leaves them."""
        dims = len(axes)
        if not axes or len(self.shape) < dims:
            return self
        order = (*axes, *range(dims, len(self.shape)))
        affine = None if self.affine is None else self.affine[:, [*axes, *range(dims, 4)]]

        def stored() -> Array:
            return np.transpose(self.stored().reshape(self.shape), order)

        return replace(self, shape=tuple(self.shape[axis] for axis in order), affine=affine, stored=stored)

    def read(self, option: str) -> "Voxels":
        """Read the voxels.

        Raises:
            UsageError: the file is cut short or damaged.
        """
        try:
            values = self.stored().reshape(self.shape)
        except Exception as error:  # a reader may raise anything on damaged voxels
            reason = f"{type(error).__name__}: {error}"
            raise UsageError(f"{named(option, self.path)}: can't read the voxels ({reason})") from error
        return Voxels(values, *self.scale)


@dataclass(frozen=True)
class Voxels:
    """Stored values and how they are scaled; float64 exists for a slab at a time only."""

    stored: Array
    slope: float = 1.0
    intercept: float = 0.0

    @property
    def scaled(self) -> bool:
        """Whether values differ from what is stored, or may have fractions."""
        return self.stored.dtype.kind == "f" or (self.slope, self.intercept) != (1.0, 0.0)

    def slabs(self, channel: int | None = None) -> Iterator[tuple[slice, NDArray[np.float64]]]:
        """Go through the volume along its first axis: places, and their values."""
        stored = self.stored if channel is None else self.stored[..., channel]
        step = max(1, _SLAB // max(1, stored[:1].size))
        for start in range(0, stored.shape[0], step):
            place = slice(start, start + step)
            values = stored[place].astype(np.float64)
            values *= self.slope
            values += self.intercept
            yield place, values


def open_scan(path: Path, option: str) -> Scan:
    """Read the header of a file of voxels, or of the DICOM series in a folder.

    Args:
        path: of it.
        option: which names it, for messages: "images", "labels" or "data".

    Raises:
        UsageError: no such file, no reader for its ending, or a header that can't be read.
        MissingExtra: its reader is not installed.
    """
    name = path.name.lower()
    if not path.exists() or (path.is_dir() and not _slices(path)):
        what = "a folder without DICOM slices" if path.is_dir() else "no such file"
        raise UsageError(f"{named(option, path)}: {what}")
    if path.is_dir() or name.endswith(DICOM):
        kind, opened = "DICOM series", _open_series
    elif name.endswith(NIFTI):
        kind, opened = "NIfTI file", _open_nifti
    elif name.endswith(NRRD):
        kind, opened = "NRRD file", _open_nrrd
    elif name.endswith(ITK):
        kind, opened = "MetaImage file", _open_itk
    elif name.endswith(ARRAYS):
        kind, opened = "array", _open_array
    else:
        raise UsageError(f"{named(option, path)}: expected a file of voxels ({', '.join(ENDINGS)}), or a DICOM folder")
    try:
        scan, dtype = opened(path)
    except RanpError:
        raise
    except Exception as error:  # a damaged header can fail anywhere in the reader
        raise UsageError(f"{named(option, path)}: not a readable {kind} ({error})") from error
    if dtype.kind not in "iufb":
        raise UsageError(f"{named(option, path)}: expected one number per voxel, got {dtype}")
    return scan


def is_scan(path: Path) -> bool:
    """Whether a path is called as a file of voxels is, or is a folder of DICOM slices."""
    return path.name.lower().endswith((*ENDINGS, *DICOM)) if not path.is_dir() else bool(_slices(path))


def stem(path: Path) -> str:
    """Return a file's name without its ending.

    >>> stem(Path("case_01.nii.gz"))
    'case_01'
    """
    ending = next(
        (ending for ending in sorted(ENDINGS, key=len, reverse=True) if path.name.lower().endswith(ending)), ""
    )
    return path.name[: len(path.name) - len(ending)]


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Drop the sizes of 1 that some tools write behind the third dimension: (X, Y, Z, 1, C) of vector NIfTI too."""
    return (*shape[:3], *(size for size in shape[3:] if size != 1))


def _open_nifti(path: Path) -> tuple[Scan, np.dtype[Any]]:
    image = need("nibabel", "medical").load(path)
    header = image.header
    placed = any(int(header[key]) > 0 for key in ("sform_code", "qform_code") if key in header)
    slope, intercept = getattr(image.dataobj, "slope", 1.0), getattr(image.dataobj, "inter", 0.0)
    scan = Scan(
        path,
        _squeezed(image.shape),
        np.asarray(image.affine, dtype=np.float64) if placed else None,
        lambda: np.asanyarray(image.dataobj.get_unscaled()),
        (float(slope), float(intercept)),
    )
    return scan, np.dtype(image.get_data_dtype())


def _open_nrrd(path: Path) -> tuple[Scan, np.dtype[Any]]:
    nrrd = need("nrrd", "medical")
    header = nrrd.read_header(str(path))
    sizes = tuple(map(int, header["sizes"]))
    directions = header.get("space directions")
    spatial = list(range(len(sizes)))[:3]
    affine = None
    if directions is not None:
        rows = {axis: np.asarray(row, dtype=np.float64) for axis, row in enumerate(directions) if row is not None}
        spatial = [axis for axis, row in rows.items() if np.isfinite(row).all()]
        columns = np.stack([rows[axis] for axis in spatial], axis=1)
        affine = np.eye(4)
        affine[: len(columns), : len(spatial)] = columns
        affine[: len(columns), 3] = header.get("space origin", np.zeros(len(columns)))
        affine = _nrrd_to_ras(str(header.get("space", "left-posterior-superior"))) @ affine
    channel = [axis for axis in range(len(sizes)) if axis not in spatial]  # "vector", "list": often the first
    order = (*spatial, *channel)
    dtype = np.dtype(nrrd.reader._determine_datatype(header))
    shape = _squeezed(tuple(sizes[axis] for axis in order))
    return Scan(path, shape, affine, lambda: np.transpose(nrrd.read(str(path), index_order="F")[0], order)), dtype


def _nrrd_to_ras(space: str) -> NDArray[np.float64]:
    """Return what turns the axes of a NRRD space, such as "left-posterior-superior" or "LPS", to RAS."""
    words = space.lower().split("-")
    first = [word[0] for word in words] if len(words) > 1 else list(space.lower())
    signs = [-1.0 if letter in "lpi" else 1.0 for letter in first[:3]]
    return np.diag([*signs, *[1.0] * (4 - len(signs))])


def _open_itk(path: Path) -> tuple[Scan, np.dtype[Any]]:
    reader = need("SimpleITK", "medical").ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    return _of_itk(path, reader, reader.Execute)


def _open_array(path: Path) -> tuple[Scan, np.dtype[Any]]:
    """Open an array (C, *spatial), as nnU-Net keeps preprocessed cases; of one slice (C, 1, H, W) an image is made."""
    if path.suffix.lower() == ".npy":
        array: Any = np.load(path, mmap_mode="r", allow_pickle=False)
    else:
        array = need("blosc2", "nnunet").open(urlpath=str(path), mode="r")
    channels, *spatial = array.shape
    spatial = spatial[1:] if len(spatial) == 3 and spatial[0] == 1 else spatial
    shape = (*spatial, *[channels] * (channels > 1))

    def stored() -> Array:
        values = np.asarray(array[:]).reshape(channels, *spatial)
        return np.moveaxis(values, 0, -1) if channels > 1 else values[0]

    return Scan(path, shape, None, stored), np.dtype(array.dtype)


def _open_series(path: Path) -> tuple[Scan, np.dtype[Any]]:
    sitk = need("SimpleITK", "medical")
    folder = path if path.is_dir() else path.parent
    with _own_locale():
        known = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    if len(known) != 1:
        raise ValueError(f"expected one series in a folder, got {len(known)}")
    reader = sitk.ImageSeriesReader()
    with _own_locale():
        reader.SetFileNames(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), known[0]))
        image = reader.Execute()  # only all slices together say how far they are apart
    return _of_itk(folder, image, lambda: image)


def _of_itk(path: Path, header: Any, image: Callable[[], Any]) -> tuple[Scan, np.dtype[Any]]:
    sitk = need("SimpleITK", "medical")
    dims = header.GetDimension()
    reader = hasattr(header, "GetNumberOfComponents")
    channels = header.GetNumberOfComponents() if reader else header.GetNumberOfComponentsPerPixel()
    affine = np.eye(4)
    placed = min(dims, 3)
    direction = np.reshape(header.GetDirection(), (dims, dims))[:placed, :placed]
    affine[:placed, :placed] = direction * np.asarray(header.GetSpacing())[:placed]
    affine[:placed, 3] = header.GetOrigin()[:placed]
    shape = (*header.GetSize(), *[channels] * (channels > 1))

    def stored() -> Array:
        array: Array = sitk.GetArrayFromImage(image())  # (z, y, x[, C])
        return np.transpose(array, (*reversed(range(dims)), *range(dims, array.ndim)))

    kind = sitk.GetPixelIDValueAsString(header.GetPixelID())
    return Scan(path, _squeezed(shape), _LPS_TO_RAS @ affine, stored), np.dtype(complex if "complex" in kind else float)


@contextmanager
def _own_locale() -> Iterator[None]:
    """Put the process's locale back, which the reader of DICOM sets to C: files read later would be taken for ASCII."""
    before = locale.setlocale(locale.LC_ALL)
    try:
        yield
    finally:
        locale.setlocale(locale.LC_ALL, before)


def _slices(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name.lower().endswith(DICOM)]
