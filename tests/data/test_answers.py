"""Answers lie where the file lies that they answer, whatever its format."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranp.data.answers import ending_for, write_answer, write_array, write_mask, write_pfm
from ranp.data.geometry import Grid
from ranp.data.labels import Labels
from ranp.data.layouts._pfm import read_pfm
from ranp.data.scans import open_scan

nibabel = pytest.importorskip("nibabel")
nrrd = pytest.importorskip("nrrd")
sitk = pytest.importorskip("SimpleITK")

TURNED = np.array([[0.0, -1.2, 0.0, 10.0], [0.9, 0.0, 0.1, -5.0], [0.0, 0.1, 2.5, 3.0], [0.0, 0.0, 0.0, 1.0]])


def image(path: Path, shape: tuple[int, ...]) -> Path:
    """Write an image whose axes are turned, in the format of its name."""
    values = np.random.default_rng(0).integers(-100, 900, shape).astype(np.int16)
    if path.name.endswith((".nii", ".nii.gz")):
        made = nibabel.Nifti1Image(values, TURNED)
        made.header.set_xyzt_units("mm", "sec")
        made.header["descrip"] = b"scanner 7"
        made.header.set_slope_inter(2.0, -1024.0)
        made.header["cal_max"] = 300
        nibabel.save(made, path)
    elif path.name.endswith(".nrrd"):
        flipped = np.diag([-1.0, -1.0, 1.0]) @ TURNED[:3]
        directions = [flipped[:, k] for k in range(len(shape))]
        nrrd.write(str(path), values, {
            "space": "left-posterior-superior", "space directions": np.array(directions), "space origin": flipped[:, 3],
        })  # fmt: skip
    else:
        flipped = np.diag([-1.0, -1.0, 1.0]) @ TURNED[:3]
        spacing = np.linalg.norm(flipped[:, :3], axis=0)
        made = sitk.GetImageFromArray(values.transpose())
        made.SetSpacing(spacing.tolist())
        made.SetDirection((flipped[:, :3] / spacing).ravel().tolist())
        made.SetOrigin(flipped[:, 3].tolist())
        sitk.WriteImage(made, str(path))
    return path


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha"])
@pytest.mark.parametrize("channels", [(), (3,)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_voxels_and_geometry_come_back(tmp_path: Path, name: str, channels: tuple[int, ...], dtype: Any) -> None:
    source = image(tmp_path / name, (6, 5, 4))
    scan = open_scan(source, "images")
    values = (np.random.default_rng(1).random((6, 5, 4, *channels)) * 200).astype(dtype)
    written = tmp_path / f"said{ending_for(source)}"
    write_answer(written, values, source, Grid(scan.shape[:3], scan.affine))
    back = open_scan(written, "images")
    assert back.shape == values.shape
    voxels = back.read("images")
    assert np.array_equal(voxels.stored * voxels.slope + voxels.intercept, values)
    assert back.affine is not None
    np.testing.assert_allclose(back.affine, scan.affine, atol=1e-5)
    assert {path.name for path in tmp_path.iterdir()} == {name, written.name}


def test_a_nifti_header_is_kept_but_for_what_is_of_the_values(tmp_path: Path) -> None:
    source = image(tmp_path / "a.nii.gz", (6, 5, 4))
    write_answer(tmp_path / "b.nii.gz", np.ones((6, 5, 4), np.uint8), source, Grid((6, 5, 4), TURNED))
    before, after = (nibabel.load(tmp_path / name).header for name in ("a.nii.gz", "b.nii.gz"))
    assert after.get_xyzt_units() == ("mm", "sec")
    assert bytes(after["descrip"]) == bytes(before["descrip"])
    assert after["cal_max"] == 0
    assert int(after["sform_code"]) == int(before["sform_code"])
    assert nibabel.load(tmp_path / "b.nii.gz").get_data_dtype() == np.uint8


def test_what_is_mapped_to_memory_is_written_as_it_is(tmp_path: Path) -> None:
    source = image(tmp_path / "a.nii", (6, 5, 4))
    mapped = np.memmap(tmp_path / "raw", np.float32, "w+", shape=(6, 5, 4, 2), order="F")
    mapped[:] = np.random.default_rng(2).random(mapped.shape)
    write_answer(tmp_path / "b.nii", mapped, source, Grid((6, 5, 4), TURNED))
    assert np.array_equal(np.asarray(nibabel.load(tmp_path / "b.nii").dataobj), mapped)


def test_the_same_answer_is_the_same_bytes(tmp_path: Path) -> None:
    source = image(tmp_path / "a.nii.gz", (6, 5, 4))
    for name in ("b.nii.gz", "c.nii.gz"):
        write_answer(tmp_path / name, np.ones((6, 5, 4), np.uint8), source, Grid((6, 5, 4), TURNED))
    assert (tmp_path / "b.nii.gz").read_bytes() == (tmp_path / "c.nii.gz").read_bytes()


def test_pictures_maps_and_arrays(tmp_path: Path) -> None:
    pillow = pytest.importorskip("PIL.Image")
    for top in (200, 40_000):
        labels = np.array([[0, 1], [top, 3]])
        write_mask(tmp_path / "a.png", labels)
        assert np.array_equal(np.asarray(pillow.open(tmp_path / "a.png")), labels)
    values = np.random.default_rng(0).random((5, 7)).astype(np.float32)
    write_pfm(tmp_path / "a.pfm", values)
    assert np.array_equal(read_pfm(tmp_path / "a.pfm"), values)
    write_array(tmp_path / "a.npy", values)
    assert np.array_equal(np.load(tmp_path / "a.npy"), values)


@given(st.permutations(range(4)), st.integers(0, 3))
def test_classes_are_values_again_where_each_has_one(values: list[int], merged: int) -> None:
    labels = Labels({10 * value: number for number, value in enumerate(values)})
    assert labels.answers(4) == tuple(10 * value for value in values)
    two = Labels({**(labels.classes or {}), 99: merged})
    assert two.answers(4) == ()
    assert labels.answers(5) == ()
    assert Labels().answers(2) == ()


def test_a_region_is_what_lies_in_no_smaller_one() -> None:
    brats = Labels().split_into("WT=1+2+4,TC=1+4,ET=4")
    assert brats.answers(3) == (2, 1, 4)
    assert Labels().split_into("A=1+2,B=3").answers(2) == ()
    assert Labels().split_into("ET=4,WT=1+4").answers(2) == (4, 1)
