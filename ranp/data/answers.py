"""What a network says of a case, as files on the case's own grid: NIfTI, NRRD and MetaImage by the field's libraries.

A NIfTI file keeps the header of the file it answers; geometry, units and the type of coordinates are those it had.
NRRD and MetaImage keep where their voxels lie. A DICOM series is answered by NIfTI. Channels are the last dimension.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranp.data.geometry import Grid
from ranp.data.scans import ITK, NRRD
from ranp.errors import need
from ranp.files import whole_file

Array = NDArray[Any]


def ending_for(source: Path) -> str:
    """Return what the name of an answer ends in.

    >>> ending_for(Path("a.nii")), ending_for(Path("a.nrrd")), ending_for(Path("a.mhd")), ending_for(Path("a.img"))
    ('.nii', '.nrrd', '.mha', '.nii.gz')
    """
    name = source.name.lower()
    if name.endswith(NRRD):
        return ".nrrd"
    if name.endswith(ITK):
        return ".mha"
    return ".nii" if name.endswith(".nii") else ".nii.gz"


def write_answer(path: Path, values: Array, source: Path, grid: Grid) -> None:
    """Write voxels on the grid of the file they answer.

    Args:
        path: ends in `ending_for(source)`, or in one of NIfTI's.
        values: (*spatial), or (*spatial, C); also mapped to memory: NIfTI is written a slice at a time.
        source: the file that was answered.
        grid: where its voxels lie.

    Raises:
        UsageError: the folder can't be written, or the disk is full.
        MissingExtra: the writer is not installed.
    """
    name = path.name.lower()
    write = _nrrd if name.endswith(NRRD) else _itk if name.endswith(ITK) else _nifti
    ending = next(each for each in (".nii.gz", ".nii", *NRRD, *ITK) if name.endswith(each))
    with whole_file(path) as temporary:
        named_so = temporary.with_name(temporary.name + ending)  # writers tell formats by names
        try:
            write(named_so, values, source, grid)
            named_so.replace(temporary)
        finally:
            named_so.unlink(missing_ok=True)


def write_mask(path: Path, labels: Array) -> None:
    """Write labels (H, W) as a grey PNG, of 16 bits where 8 do not do."""
    image = need("PIL.Image", "pictures")
    narrow = labels.max(initial=0) < 256
    with whole_file(path) as temporary:
        image.fromarray(labels.astype(np.uint8 if narrow else np.uint16)).save(temporary, format="PNG")


def write_pfm(path: Path, values: Array) -> None:
    """Write (H, W) as a portable float map: little-endian, the lowest row first."""
    height, width = values.shape
    with whole_file(path) as temporary:
        rows = np.ascontiguousarray(values[::-1], dtype="<f4")
        temporary.write_bytes(f"Pf\n{width} {height}\n-1.0\n".encode() + rows.tobytes())


def write_array(path: Path, values: Array) -> None:
    """Write an array as NumPy's .npy."""
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.save(file, values)


def _nifti(path: Path, values: Array, source: Path, grid: Grid) -> None:
    nibabel = need("nibabel", "medical")
    if not source.name.lower().endswith((".nii", ".nii.gz", ".hdr", ".img")):
        affine = np.eye(4) if grid.affine is None else grid.affine
        nibabel.Nifti1Image(values, affine).to_filename(path)
        return
    before = nibabel.load(source)
    affine = before.affine if grid.affine is None else grid.affine
    wide = before.header.sizeof_hdr if hasattr(before.header, "sizeof_hdr") else 348
    kind = nibabel.Nifti2Image if wide == 540 else nibabel.Nifti1Image
    image = kind(values, affine, before.header if "sform_code" in before.header else None)
    image.header.set_data_dtype(values.dtype)
    image.header.set_slope_inter(1, 0)
    image.header["cal_min"] = image.header["cal_max"] = 0  # a window for the image's values, not for these
    image.to_filename(path)


def _nrrd(path: Path, values: Array, source: Path, grid: Grid) -> None:
    nrrd = need("nrrd", "medical")
    dims = len(grid.shape)
    header: dict[str, Any] = {}
    if grid.affine is not None:
        header["space"] = "right-anterior-superior"
        directions = [grid.affine[:3, axis] for axis in range(dims)]
        header["space directions"] = np.array([*directions, *[np.full(3, np.nan)] * (values.ndim - dims)])
        header["space origin"] = grid.affine[:3, 3]
    header["kinds"] = ["domain"] * dims + ["list"] * (values.ndim - dims)
    nrrd.write(str(path), values, header, index_order="F")


def _itk(path: Path, values: Array, source: Path, grid: Grid) -> None:
    sitk = need("SimpleITK", "medical")
    dims = len(grid.shape)
    order = (*reversed(range(dims)), *range(dims, values.ndim))
    image = sitk.GetImageFromArray(np.ascontiguousarray(values.transpose(order)), isVector=values.ndim > dims)
    affine = np.eye(4) if grid.affine is None else np.diag([-1.0, -1.0, 1.0, 1.0]) @ grid.affine  # of RAS: ITK's LPS
    columns = affine[:dims, :dims]
    spacing = np.linalg.norm(columns, axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((columns / spacing).ravel().tolist())
    image.SetOrigin(affine[:dims, 3].tolist())
    sitk.WriteImage(image, str(path), useCompression=True)
