"""`refine` on what is no logits, and on an image that lies elsewhere."""

from pathlib import Path

import nibabel
import numpy as np
import pytest

from ranp.adapters.mrf.case import load
from ranp.errors import UsageError


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32])
@pytest.mark.parametrize("suffix", [".npy", ".nii.gz"])
def test_a_label_map_is_no_logits(dtype: type, suffix: str, tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(4, size=(6, 8, 8)).astype(dtype)
    path = tmp_path / f"labels{suffix}"
    if suffix == ".npy":
        np.save(path, labels)
    else:
        nibabel.save(nibabel.Nifti1Image(labels, np.eye(4), dtype=labels.dtype), path)
    with pytest.raises(UsageError, match=r"^logits=.*: holds whole numbers from 0 to 3 alone, as a label map does"):
        load(path, tmp_path / "out.npy")


@pytest.mark.parametrize("kind", ["one-hot", "logits", "negative"])
def test_scores_that_are_whole_numbers_pass(kind: str, tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(3, size=(8, 8))
    hot = np.eye(3, dtype=np.float32)[labels].transpose(2, 0, 1)
    np.save(tmp_path / "a.npy", {"one-hot": hot, "logits": hot + 0.5, "negative": hot - 1}[kind])
    assert load(tmp_path / "a.npy", tmp_path / "out.npy").classes == 3


def test_an_image_that_lies_elsewhere(tmp_path: Path) -> None:
    drawn = np.random.default_rng(0)
    nibabel.save(nibabel.Nifti1Image(drawn.normal(size=(8, 8, 4, 3)).astype("f4"), np.eye(4)), tmp_path / "l.nii")
    for name, affine in (("here", np.eye(4)), ("there", np.diag([1.0, 1.0, 2.0, 1.0]))):
        nibabel.save(nibabel.Nifti1Image(drawn.normal(size=(8, 8, 4)).astype("f4"), affine), tmp_path / f"{name}.nii")
    assert load(tmp_path / "l.nii", tmp_path / "o.npy", image=tmp_path / "here.nii").image is not None
    with pytest.raises(UsageError, match=r"^image=.*there.nii.: spacing 1 x 1 x 2, not 1 x 1 x 1 as LOGITS"):
        load(tmp_path / "l.nii", tmp_path / "o.npy", image=tmp_path / "there.nii")


def test_one_score_for_each_pixel_and_a_flat_map_are_no_logits(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.random.default_rng(0).normal(size=(1, 8, 8)))
    with pytest.raises(
        UsageError, match=r"^logits=.*: holds one score for each pixel, .* \(of a sigmoid's logit z: 0 and z\)"
    ):
        load(tmp_path / "one.npy", tmp_path / "out.npy")
    np.save(tmp_path / "flat.npy", np.zeros((8, 8), dtype=np.uint8))
    with pytest.raises(UsageError, match=r"^logits=.*: expected .*, got shape \(8, 8\), that of a label map$"):
        load(tmp_path / "flat.npy", tmp_path / "out.npy")
