"""Every format gives the same voxels in the same place."""

import locale
from pathlib import Path

import numpy as np
import pytest

from ranp.data.scans import _own_locale, open_scan, stem
from ranp.errors import UsageError

pytestmark = pytest.mark.usefixtures("typed")  # messages are those of the command line

nibabel = pytest.importorskip("nibabel")
nrrd = pytest.importorskip("nrrd")
sitk = pytest.importorskip("SimpleITK")

AFFINE = np.array([[1.5, 0, 0, -10], [0, 2, 0, 20], [0, 0, 3, 5], [0, 0, 0, 1.0]])
VALUES = np.random.default_rng(0).integers(-900, 900, (6, 5, 4)).astype(np.int16)


def as_itk(values: np.ndarray, vector: bool = False) -> "sitk.Image":
    axes = (2, 1, 0, *range(3, values.ndim))
    image = sitk.GetImageFromArray(np.ascontiguousarray(values.transpose(axes)), isVector=vector)
    image.SetSpacing((1.5, 2.0, 3.0))
    image.SetDirection((-1.0, 0, 0, 0, -1.0, 0, 0, 0, 1.0))  # right and anterior are negative in LPS
    image.SetOrigin((10.0, -20.0, 5.0))
    return image


def written(path: Path, values: np.ndarray) -> Path:
    if path.suffix == ".nrrd":
        header = {
            "space": "left-posterior-superior",
            "space directions": [[-1.5, 0, 0], [0, -2, 0], [0, 0, 3]] + [[np.nan] * 3] * (values.ndim - 3),
            "space origin": [10, -20, 5],
        }
        nrrd.write(str(path), values, header, index_order="F")
    elif path.suffix == "":
        path.mkdir()
        for number, slice_ in enumerate(values.transpose(2, 1, 0)):
            image = sitk.GetImageFromArray(slice_)
            image.SetSpacing((1.5, 2.0))
            for tag, text in {
                "0008|0060": "CT",
                "0020|000e": "1.2.3",
                "0020|000d": "1.2",
                "0020|0013": str(number),
                "0020|0032": f"10\\-20\\{5 + 3 * number}",
                "0020|0037": "-1\\0\\0\\0\\-1\\0",
                "0018|0050": "3",
                "0028|0030": "2\\1.5",
            }.items():
                image.SetMetaData(tag, text)
            writer = sitk.ImageFileWriter()
            writer.KeepOriginalImageUIDOn()
            writer.SetFileName(str(path / f"{number}.dcm"))
            with _own_locale():
                writer.Execute(image)
    elif path.suffix in (".mha", ".mhd"):
        sitk.WriteImage(as_itk(values, vector=values.ndim > 3), str(path))
    else:
        nibabel.save(nibabel.Nifti1Image(values, AFFINE), path)
    return path


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha", "a.mhd", "series"])
def test_every_format_gives_the_same_voxels_in_the_same_place(name: str, tmp_path: Path) -> None:
    scan = open_scan(written(tmp_path / name, VALUES), "images")
    assert scan.shape == VALUES.shape
    assert scan.affine is not None
    assert np.allclose(scan.affine, AFFINE)
    assert np.array_equal(scan.read("images").stored, VALUES)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd", "a.mha"])
def test_channels_come_last(name: str, tmp_path: Path) -> None:
    three = np.stack([VALUES, VALUES + 1, VALUES + 2], axis=-1)
    scan = open_scan(written(tmp_path / name, three), "images")
    assert scan.shape == (6, 5, 4, 3)
    assert np.array_equal(scan.read("images").stored, three)


def test_channels_that_stand_first_in_an_nrrd_are_moved(tmp_path: Path) -> None:
    path = tmp_path / "a.nrrd"
    header = {
        "kinds": ["list", "domain", "domain", "domain"],
        "space": "RAS",
        "space directions": np.array([[np.nan] * 3, [1.5, 0, 0], [0, 2, 0], [0, 0, 3]]),
        "space origin": [-10, 20, 5],
    }
    nrrd.write(str(path), np.stack([VALUES, VALUES + 1]), header, index_order="F")
    scan = open_scan(path, "images")
    assert scan.affine is not None
    assert np.allclose(scan.affine, AFFINE)
    assert np.array_equal(scan.read("images").stored, np.stack([VALUES, VALUES + 1], axis=-1))


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((6, 5, 4, 1, 3), (6, 5, 4, 3)), ((6, 5, 4, 1), (6, 5, 4)), ((6, 5, 1), (6, 5, 1)), ((6, 5), (6, 5))],
)
def test_sizes_of_one_behind_the_third_are_dropped(
    shape: tuple[int, ...], expected: tuple[int, ...], tmp_path: Path
) -> None:
    values = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    scan = open_scan(written(tmp_path / "a.nii", values), "images")
    assert scan.shape == expected
    assert np.array_equal(scan.read("images").stored, values.reshape(expected))


def test_a_header_scales_a_slab_at_a_time(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(VALUES.astype(np.float64) * 0.25 - 3, AFFINE)
    image.set_data_dtype(np.int16)
    nibabel.save(image, tmp_path / "a.nii")
    voxels = open_scan(tmp_path / "a.nii", "images").read("images")
    assert voxels.stored.dtype == np.int16
    assert voxels.scaled
    whole = np.concatenate([values for _, values in voxels.slabs()])
    assert np.allclose(whole, VALUES * 0.25 - 3, atol=0.01)
    assert np.array_equal(whole, nibabel.load(tmp_path / "a.nii").get_fdata())


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd", "a.mha"])
def test_what_is_damaged_is_named(name: str, tmp_path: Path) -> None:
    path = written(tmp_path / name, np.random.default_rng(1).integers(-900, 900, (20, 20, 20)).astype(np.int16))
    whole = path.read_bytes()
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(UsageError, match=f"^--images .*{name}: not a readable (NIfTI|NRRD|MetaImage) file"):
        open_scan(path, "images")
    path.write_bytes(whole[: len(whole) - 40])
    with pytest.raises(UsageError, match=f"^--images .*{name}: can't read the voxels"):
        open_scan(path, "images").read("images")


def test_what_is_no_volume_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    with pytest.raises(UsageError, match=r"a.txt: expected a file of voxels \(.nii, .nii.gz"):
        open_scan(tmp_path / "a.txt", "data")
    with pytest.raises(UsageError, match=r"--data .*a folder without DICOM slices"):
        open_scan(tmp_path, "data")
    with pytest.raises(UsageError, match=r"--data .*no such file"):
        open_scan(tmp_path / "b.nii", "data")


def test_the_locale_of_the_process_stays(tmp_path: Path) -> None:
    before = locale.setlocale(locale.LC_ALL)
    open_scan(written(tmp_path / "series", VALUES), "images").read("images")
    assert locale.setlocale(locale.LC_ALL) == before


def test_stems() -> None:
    assert [stem(Path(name)) for name in ("a.nii.gz", "b.nrrd", "c.1.mha", "series")] == ["a", "b", "c.1", "series"]
