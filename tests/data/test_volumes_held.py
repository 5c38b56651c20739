"""What reading a case holds in memory, by what NumPy allocates."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from ranp.data.dataset import Drawn
from ranp.data.labels import Labels
from ranp.data.volumes import Sampling, files

nibabel = pytest.importorskip("nibabel")

SIDE = 128  # the twenty cases are of 128^3
VOXELS = SIDE**3


def peak_of(action: object) -> int:
    tracemalloc.start()
    try:
        action()  # type: ignore[operator]
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def scaled(path: Path, values: np.ndarray, dtype: type) -> Path:
    image = nibabel.Nifti1Image(values, np.eye(4))
    image.set_data_dtype(dtype)
    nibabel.save(image, path)
    return path


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("held")
    rng = np.random.default_rng(0)
    image = scaled(folder / "image.nii.gz", rng.normal(size=(SIDE, SIDE, SIDE)), np.int16)
    labels = (rng.random((SIDE, SIDE, SIDE)) < 0.9).astype(np.float64) * 3
    return image, scaled(folder / "labels.nii.gz", labels, np.float32)


def test_reading_a_case_holds_17_bytes_a_voxel_at_most(pair: tuple[Path, Path]) -> None:
    dataset = files([pair[0]], [pair[1]], Labels(classes={0: 0, 3: 1}))
    dataset.read(dataset.cases[0])  # what is imported and cached for good
    assert peak_of(lambda: dataset.read(dataset.cases[0])) <= 17 * VOXELS


def test_twenty_cases_hold_no_more_than_two(pair: tuple[Path, Path]) -> None:
    dataset = files([pair[0]] * 20, [pair[1]] * 20, Labels(classes={0: 0, 3: 1}))
    drawn = Drawn(dataset, dataset.cases, ((1, 8, 8, 8),), seed=0, total=20)
    drawn(0)
    held = dataset.read(dataset.cases[0])
    one = held.image.nbytes + (0 if held.labels is None else held.labels.nbytes) + sum(c.nbytes for c in held.centres)
    del held

    def all_of_them() -> None:
        assert len({float(drawn(index)[0][0].sum()) for index in range(20)}) > 1

    assert peak_of(all_of_them) <= 17 * VOXELS + one


def test_what_is_read_a_slab_at_a_time_is_what_it_would_be_at_once(pair: tuple[Path, Path]) -> None:
    dataset = files([pair[0]], [pair[1]], Labels(classes={0: 0, 3: 1}), Sampling(foreground=0))
    held = dataset.read(dataset.cases[0])
    values = nibabel.load(pair[0]).get_fdata()
    assert np.allclose(held.image[0], (values - values.mean()) / values.std(), atol=1e-5)
    assert held.labels is not None
    assert np.array_equal(held.labels, np.rint(nibabel.load(pair[1]).get_fdata()) / 3)
    (image,), target = dataset.whole(held)
    assert image.shape == (1, SIDE, SIDE, SIDE)
    assert target.dtype == torch.int64
