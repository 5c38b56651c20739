"""Where images and labels lie, labels a header scales, and classes that are not 0, 1, 2, ..."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from ranp.data import nifti
from ranp.data.geometry import difference
from ranp.data.volumes import Sampling, files
from ranp.errors import UsageError

SHAPE = (12, 10, 8)
AFFINE = np.diag([1.0, 1.5, 2.0, 1.0])
Save = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def written(name: str, values: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
        path = tmp_path / f"{name}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(values, affine), path)
        return path

    return written


def volume() -> np.ndarray:
    return np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)


def masks(*values: int) -> np.ndarray:
    found = np.zeros(SHAPE, np.uint8)
    for place, value in enumerate(values):
        found[1 + 2 * place : 3 + 2 * place, 2:6, 2:6] = value
    return found


def moved(by: float = 5.0) -> np.ndarray:
    affine = AFFINE.copy()
    affine[0, 3] = by
    return affine


def turned() -> np.ndarray:
    angle = np.deg2rad(20)
    affine = AFFINE.copy()
    affine[:2, :2] = [[np.cos(angle), -1.5 * np.sin(angle)], [np.sin(angle), 1.5 * np.cos(angle)]]
    return affine


OTHERS = [  # the first two would lie elsewhere even if turned
    (np.diag([-1.0, 1.5, 2.0, 1.0]), "orientation LAS, not RAS"),
    (AFFINE[:, [1, 0, 2, 3]], "orientation ARS, not RAS"),
    (np.diag([1.0, 1.5, 3.0, 1.0]), "spacing 1 x 1.5 x 3, not 1 x 1.5 x 2"),
    (moved(), "origin 5 x 0 x 0, not 0 x 0 x 0"),
    (turned(), "axes turned by up to"),
]


@pytest.mark.parametrize(("affine", "said"), OTHERS)
def test_labels_elsewhere_are_refused(affine: np.ndarray, said: str, save: Save) -> None:
    image, labels = save("image", volume()), save("labels", masks(1), affine)
    with pytest.raises(UsageError, match=f"^labels='.*labels.nii.gz': {said}.*: resample one of them$"):
        nifti([image], [labels], (8, 8, 8), 2)


TURNS = [((0, 1, 2), (1, 0, 0)), ((1, 0, 2), (0, 0, 0)), ((2, 0, 1), (0, 1, 1)), ((2, 1, 0), (1, 1, 1))]


@pytest.mark.parametrize(("order", "flips"), TURNS)
def test_labels_whose_axes_point_elsewhere_are_turned(
    order: tuple[int, ...], flips: tuple[int, ...], save: Save
) -> None:
    """The same places in the room, written with axes in another order and direction."""
    marked = np.random.default_rng(0).integers(0, 3, SHAPE).astype(np.uint8)
    axes = [axis for axis, flip in enumerate(flips) if flip]
    swap = np.eye(4)
    for axis in axes:
        swap[axis, axis], swap[axis, 3] = -1, marked.shape[axis] - 1
    permuted = np.eye(4)[:, [*order, 3]]
    elsewhere = np.flip(marked, axes).transpose(order)
    image = save("image", volume())
    plain = files([image], [save("labels", marked)]).for_classes(3)
    turned_labels = files([image], [save("turned", elsewhere, AFFINE @ swap @ permuted)]).for_classes(3)
    one, other = plain.read(plain.cases[0]), turned_labels.read(turned_labels.cases[0])
    assert one.labels is not None
    assert other.labels is not None
    assert np.array_equal(one.labels, other.labels)
    assert np.array_equal(one.image, other.image)


def test_volumes_are_resampled_where_asked(save: Save) -> None:
    """A linear ramp stays one; labels stay whole."""
    ramp = np.broadcast_to(np.arange(SHAPE[0], dtype=np.float32)[:, None, None], SHAPE)
    image, labels = save("image", ramp), save("labels", (ramp > 5).astype(np.uint8))
    dataset = files([image], [labels], sampling=Sampling(spacing=(0.5, 1.5, 2.0), intensity="none"))
    held = dataset.read(dataset.cases[0])
    assert held.image.shape == (1, 2 * SHAPE[0] - 1, *SHAPE[1:])
    assert np.allclose(np.diff(held.image[0], axis=0), 0.5, atol=1e-5)
    assert held.labels is not None
    assert np.unique(held.labels).tolist() == [0, 1]
    assert held.affine is not None
    assert np.allclose(np.abs(np.diag(held.affine)[:3]), (0.5, 1.5, 2.0))
    with pytest.raises(UsageError, match=r"spacing='1x2': .*the volumes have 3 dimensions"):
        replace(dataset, sampling=Sampling(spacing=(1.0, 2.0))).read(dataset.cases[0])


def test_rounding_of_headers_is_no_difference(save: Save) -> None:
    almost = AFFINE + np.random.default_rng(0).uniform(-1e-4, 1e-4, (4, 4)) * [[1], [1], [1], [0]]
    assert difference(AFFINE, almost, SHAPE) is None
    assert len(nifti([save("image", volume())], [save("labels", masks(1), almost)], (8, 8, 8), 2)) == 8


def test_a_file_that_says_no_place_fits_anywhere(tmp_path: Path, save: Save) -> None:
    header = nibabel.Nifti1Image(masks(1), None)
    header.header.set_sform(None, 0)
    header.header.set_qform(None, 0)
    nibabel.save(header, tmp_path / "labels.nii.gz")
    assert len(nifti([save("image", volume())], [tmp_path / "labels.nii.gz"], (8, 8, 8), 2)) == 8


@pytest.mark.parametrize(("values", "count"), [((255,), 2), ((1, 2, 4), 4), ((1,), 2), ((7,), 2), ((1, 2, 3), 4)])
def test_classes_are_those_that_occur(values: tuple[int, ...], count: int, save: Save) -> None:
    dataset = files([save("image", volume())], [save("labels", masks(*values))])
    assert (dataset.channels(), dataset.classes()) == ((1,), count)


@pytest.mark.parametrize("values", [(255,), (1, 2, 4)])
def test_as_many_labels_as_classes_are_taken_in_order(values: tuple[int, ...], save: Save) -> None:
    image, labels = save("image", volume()), save("labels", masks(*values))
    first = save("first", masks(1)) if len(values) == 3 else labels
    classes = len(values) + 1
    said = f"labels 0, {', '.join(map(str, values))} are taken as classes 0 to {classes - 1}"
    with pytest.warns(UserWarning, match=said):
        found = [target for _, target in nifti([image, image], [first, labels], SHAPE, classes, batches=2)]
    expected = masks(*range(1, classes))
    assert np.array_equal(found[1][0].numpy(), expected)


def test_labels_within_the_classes_keep_their_numbers(save: Save) -> None:
    image, labels = save("image", volume()), save("labels", masks(2))
    ((_, target),) = nifti([image], [labels], SHAPE, 3, batches=1)
    assert set(np.unique(target)) == {0, 2}


@pytest.mark.parametrize(("slope", "inter"), [(1 / 255, 0.0), (2.0, 0.0), (1.0, -1.0)])
def test_labels_that_the_header_scales(slope: float, inter: float, tmp_path: Path, save: Save) -> None:
    wanted = masks(1) if slope != 2 else masks(2)
    stored = np.rint((wanted - inter) / slope).astype(np.uint8)
    image = nibabel.Nifti1Image(stored, AFFINE)
    image.header.set_slope_inter(slope, inter)
    nibabel.save(image, tmp_path / "labels.nii")
    raw = bytearray((tmp_path / "labels.nii").read_bytes())
    raw[112:120] = np.array([slope, inter], "<f4").tobytes()  # nibabel rescales what it writes
    (tmp_path / "labels.nii").write_bytes(bytes(raw))
    ((_, target),) = nifti([save("image", volume())], [tmp_path / "labels.nii"], SHAPE, 3, batches=1)
    assert np.array_equal(target[0].numpy(), wanted)


def test_fractions_are_no_labels(save: Save) -> None:
    image, labels = save("image", volume()), save("labels", masks(1).astype(np.float32) / 2)
    with pytest.raises(UsageError, match=r"expected integer labels, found 0\.5$"):
        nifti([image], [labels], (8, 8, 8), 2)
