from pathlib import Path
from typing import IO

import nibabel
import numpy as np
import pytest
import torch

from ranp.adapters.mrf._files import (
    check_output,
    read_image,
    read_labels,
    read_scores,
    write_labels,
)
from ranp.errors import UsageError

SCORES = np.random.default_rng(0).normal(size=(3, 4, 5, 6)).astype(np.float32)  # (L, D, H, W)
AFFINE = np.diag([1.0, 2.0, 3.0, 1.0])


def nifti(path: Path, array: np.ndarray) -> Path:  # type: ignore[type-arg]
    nibabel.save(nibabel.Nifti1Image(array, AFFINE), path)
    return path


def test_every_format_gives_the_same_scores(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", SCORES)
    np.save(tmp_path / "batch.npy", SCORES[None])
    np.savez(tmp_path / "a.npz", logits=SCORES, other=np.zeros(3))
    np.savez(tmp_path / "single.npz", anything=SCORES)
    nifti(tmp_path / "a.nii.gz", np.moveaxis(SCORES, 0, -1))
    nifti(tmp_path / "vector.nii", np.moveaxis(SCORES, 0, -1)[:, :, :, None])
    for path in sorted(tmp_path.iterdir()):
        assert torch.equal(read_scores(path).values, torch.from_numpy(SCORES)), path.name
    affine = read_scores(tmp_path / "a.nii.gz").affine
    assert affine is not None
    assert np.array_equal(affine, AFFINE)


def test_images_come_with_their_channels_first(tmp_path: Path) -> None:
    np.save(tmp_path / "grey.npy", SCORES[0, 0])
    np.save(tmp_path / "colour.npy", SCORES[:, 0])
    nifti(tmp_path / "volume.nii.gz", np.moveaxis(SCORES, 0, -1))
    assert read_image(tmp_path / "grey.npy", (5, 6)).shape == (1, 5, 6)
    assert torch.equal(read_image(tmp_path / "colour.npy", (5, 6)), torch.from_numpy(SCORES[:, 0]))
    assert torch.equal(read_image(tmp_path / "volume.nii.gz", (4, 5, 6)), torch.from_numpy(SCORES))


@pytest.mark.parametrize("name", ["o.npy", "o.npz", "o.nii", "o.nii.gz"])
def test_labels_written_are_labels_read(tmp_path: Path, name: str) -> None:
    labels = np.arange(120).reshape(4, 5, 6)
    write_labels(tmp_path / name, labels, AFFINE)
    assert torch.equal(read_labels(tmp_path / name, (4, 5, 6), 120), torch.from_numpy(labels))
    assert [path.name for path in tmp_path.iterdir()] == [name]
    if ".nii" in name:
        assert np.array_equal(nibabel.load(tmp_path / name).affine, AFFINE)


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(file: IO[bytes], labels: object) -> None:
        file.write(b"half")
        raise RuntimeError("killed")

    monkeypatch.setattr(np, "save", fail)
    with pytest.raises(RuntimeError, match="killed"):
        write_labels(tmp_path / "o.npy", np.zeros((2, 2)), None)
    assert list(tmp_path.iterdir()) == []


def test_bad_scores_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "flat.npy", np.zeros((3, 4)))
    np.save(tmp_path / "nan.npy", np.full((2, 3, 3), np.nan))
    np.save(tmp_path / "words.npy", np.array([["a"]]))
    np.save(tmp_path / "pickle.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "many.npz", one=SCORES, two=SCORES)
    (tmp_path / "noise.npz").write_bytes(b"not a zip")
    (tmp_path / "noise.nii.gz").write_bytes(b"not a volume")
    (tmp_path / "scores.txt").write_text("1 2 3")
    expected = {
        "absent.npy": "no such file",
        "flat.npy": "got shape",
        "nan.npy": "found NaN",
        "words.npy": "expected numbers",
        "pickle.npy": "not a NumPy file of plain numbers",
        "many.npz": "expected one array",
        "noise.npz": "not a NumPy file",
        "noise.nii.gz": "not a NIfTI file",
        "scores.txt": "expected .npy, .npz",
    }
    for name, message in expected.items():
        with pytest.raises(UsageError, match=message):
            read_scores(tmp_path / name)


def test_images_and_labels_of_another_size_or_range_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.full((4, 5), 7))
    np.save(tmp_path / "half.npy", np.full((4, 5), 0.5))
    with pytest.raises(UsageError, match=r"^image=.* of size"):
        read_image(tmp_path / "a.npy", (5, 4))
    with pytest.raises(UsageError, match=r"^labels=.* expected size"):
        read_labels(tmp_path / "a.npy", (5, 4), 9)
    for name in ("a.npy", "half.npy"):
        with pytest.raises(UsageError, match="whole numbers from 0 to 2"):
            read_labels(tmp_path / name, (4, 5), 3)


def test_outputs_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    (tmp_path / "o.npy").touch()
    check_output(tmp_path / "o.npy", "out", (".npy",), force=True)
    for path, message in (
        (tmp_path / "o.npy", "exists: choose another name, or replace it with force=True"),
        (tmp_path / "o.txt", "expected a name ending in .npy"),
        (tmp_path / "no" / "o.npy", "there is no folder"),
    ):
        with pytest.raises(UsageError, match=message):
            check_output(path, "out", (".npy",), force=False)
