from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ranp import data
from ranp.errors import UsageError

pytestmark = pytest.mark.usefixtures("typed")  # messages are those of the command line

nibabel = pytest.importorskip("nibabel")

SHAPE = (20, 24, 16)
Write = Callable[[str, np.ndarray], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def save(name: str, values: np.ndarray) -> Path:
        path = tmp_path / f"{name}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)
        return path

    return save


def volume(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(0).normal(100, 20, shape).astype(np.float32)


def tissue(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 4, shape).astype(np.uint8)


def test_patches_are_cut_alike_from_image_and_labels(write: Write) -> None:
    places = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    image, labels = write("image", places), write("labels", (places % 4).astype(np.uint8))
    source = data.nifti([image], [labels], (8, 8, 8), 4, batches=3, batch_size=2)
    for patch, target in source:
        assert patch.shape == (2, 1, 8, 8, 8)
        assert target.shape == (2, 8, 8, 8)
        restored = (patch[:, 0].double() * places.std(dtype=np.float64) + places.mean(dtype=np.float64)).round().long()
        assert torch.equal(restored % 4, target)


def test_the_whole_volume_is_normalised_per_channel(write: Write) -> None:
    four = np.stack([volume() * k + k for k in range(1, 5)], axis=-1)
    source = data.nifti([write("image", four)], [write("labels", tissue())], SHAPE, 4, batches=1, channels=4)
    patch, _ = next(iter(source))
    assert patch.shape == (1, 4, *SHAPE)
    assert torch.allclose(patch.mean(dim=(0, 2, 3, 4)), torch.zeros(4), atol=1e-4)
    assert torch.allclose(patch.std(dim=(0, 2, 3, 4)), torch.ones(4), atol=1e-3)


def test_seed_decides_and_iterations_repeat(write: Write) -> None:
    files = [write("image", volume())], [write("labels", tissue())]
    draws = [
        torch.cat([x for x, _ in source]) for source in (data.nifti(*files, (8, 8, 8), 4, seed=s) for s in (1, 1, 2))
    ]
    source = data.nifti(*files, (8, 8, 8), 4, seed=1)
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert torch.equal(torch.cat([x for x, _ in source]), torch.cat([x for x, _ in source]))


def test_small_structures_are_seen(write: Write) -> None:
    labels = np.zeros(SHAPE, np.uint8)
    labels[3, 4, 5] = 1
    source = data.nifti([write("image", volume())], [write("labels", labels)], (3, 3, 3), 2, batches=40)
    share = sum((target == 1).any().item() for _, target in source) / 40
    assert 0.3 < share < 0.8


def test_every_case_is_used(write: Write) -> None:
    images = [write(f"image{k}", volume()) for k in range(3)]
    labels = [write(f"labels{k}", np.full(SHAPE, k, np.uint8)) for k in range(3)]
    targets = [target.unique().tolist() for _, target in data.nifti(images, labels, (4, 4, 4), 3, batches=6)]
    assert targets == [[0], [0], [1], [1], [2], [2]]


def test_two_sizes_cut_slices(write: Write) -> None:
    source = data.nifti([write("image", volume())], [write("labels", tissue())], (8, 10), 4, spatial_dims=2)
    patch, target = next(iter(source))
    assert patch.shape == (1, 1, 8, 10)
    assert target.shape == (1, 8, 10)


def with_nan() -> np.ndarray:
    values = volume()
    values[3, 3, 3] = np.nan
    return values


@pytest.mark.parametrize(
    ("image", "labels", "options", "message"),
    [
        (volume(), tissue((20, 24, 15)), {}, "--labels .*20x24x15 differs from 20x24x16 of --images"),
        (volume((*SHAPE, 2)), tissue(), {"channels": 1}, r"--images .*2 channel\(s\), the network takes 1"),
        (volume((*SHAPE, 2, 2)), tissue(), {}, "--labels .*differs"),
        (volume(), tissue(), {"classes": 3}, r"--labels .*0 to 2 \(--classes 3\), found 3"),
        (volume(), tissue() * 255, {"classes": 3}, "found 253, 254, 255"),
        (volume(), tissue().astype(np.int16) - 1, {}, "found -1"),
        (volume(), tissue() * np.float32(0.5), {}, "expected integer labels, found 0.5, 1.5"),
        (volume((20, 24)), tissue((20, 24)), {}, "--patch 8x8x8: the volumes have 2 dimensions"),
        (volume(), tissue(), {"patch": (8, 8), "spatial_dims": 3}, "--patch 8x8: the network takes 3"),
        (with_nan(), tissue(), {}, "--images .*NaN"),
        (np.full(SHAPE, np.inf, np.float32), tissue(), {}, "--images .*NaN or infinite"),
        (np.ones(SHAPE, np.float32), tissue(), {}, "--images .*same value everywhere"),
        (volume(), tissue((*SHAPE, 2)), {}, "--labels .*expected two or three dimensions"),
        (volume().astype(np.complex64), tissue(), {}, "--images .*expected one number per voxel"),
    ],
)
def test_mistakes(write: Write, image: np.ndarray, labels: np.ndarray, options: dict[str, Any], message: str) -> None:
    arguments = {"patch": (8, 8, 8), "classes": 4, **options}
    with pytest.raises(UsageError, match=message):
        data.nifti([write("image", image)], [write("labels", labels)], **arguments)


def test_missing_and_unreadable_files(write: Write, tmp_path: Path) -> None:
    image, labels = write("image", volume()), write("labels", tissue())
    text = tmp_path / "text.nii.gz"
    text.write_text("not a volume")
    cut = tmp_path / "cut.nii.gz"
    cut.write_bytes(image.read_bytes()[:2000])
    with pytest.raises(UsageError, match=r"--images .*absent.nii: no such file"):
        data.nifti([tmp_path / "absent.nii"], [labels], (8, 8, 8), 4)
    with pytest.raises(UsageError, match=r"--labels .*text.nii.gz: not a readable NIfTI file"):
        data.nifti([image], [text], (8, 8, 8), 4)
    with pytest.raises(UsageError, match=r"--images .*cut.nii.gz: can't read the voxels"):
        data.nifti([cut], [labels], (8, 8, 8), 4)
    with pytest.raises(UsageError, match=r"--images .*a folder without DICOM slices"):
        data.nifti([tmp_path], [labels], (8, 8, 8), 4)


def test_one_label_file_per_image(write: Write) -> None:
    image, labels = write("image", volume()), write("labels", tissue())
    with pytest.raises(UsageError, match="--labels: 1 given for 2 --images"):
        data.nifti([image, image], [labels], (8, 8, 8), 4)
    with pytest.raises(UsageError, match="--images: nothing given"):
        data.nifti([], [], (8, 8, 8), 4)


BRAIN = Path(__file__).parents[2] / ".." / "shared" / "data" / "brain"


@pytest.mark.data
@pytest.mark.skipif(not BRAIN.is_dir(), reason="needs the brain MRI beside the checkout")
def test_the_brain() -> None:
    source = data.nifti([BRAIN / "t1.nii.gz"], [BRAIN / "tissue.nii.gz"], (64, 64, 64), 4, batches=2)
    for patch, target in source:
        assert patch.shape == (1, 1, 64, 64, 64)
        assert target.unique().tolist() == [0, 1, 2, 3]
