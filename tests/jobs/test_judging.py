"""What a training knew of its data goes with its network: how a CT was scaled, and which values its classes are."""

import json
from pathlib import Path

import numpy as np
import pytest

from ranp.data.sources import FromFiles, Reading, open_source
from ranp.data.volumes import Sampling, Volumes
from ranp.jobs._judging import as_learned

nibabel = pytest.importorskip("nibabel")


def folder(root: Path, shift: int) -> FromFiles:
    rng = np.random.default_rng(shift)
    for name in ("a", "b"):
        labels = rng.integers(0, 3, (9, 8, 7))
        image = (labels * 100 + shift + rng.normal(size=labels.shape) * 20).astype(np.int16)
        for kind, values in (("images", image), ("labels", np.array([0, 1, 4], np.uint8)[labels])):
            (root / kind).mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), root / kind / f"{name}.nii.gz")
    source = open_source(str(root), reading=Reading(label_map="1=1,4=2", sampling=Sampling(intensity="ct")))
    assert isinstance(source, FromFiles)
    return source


def test_other_cases_are_scaled_as_those_of_the_training(tmp_path: Path) -> None:
    trained_on, other = folder(tmp_path / "one", 0), folder(tmp_path / "other", 500)
    learned = json.loads(json.dumps(trained_on.learned(3), allow_nan=False))
    assert learned["values"] == [0, 1, 4]
    (scale,) = learned["scales"]
    case = other.dataset.cases[0]
    stored = np.asarray(nibabel.load(case.files[0]).dataobj).astype(np.float64)
    by_itself = other.dataset.read(case).image[0]
    adapted = as_learned(other.dataset, learned)
    expected = (stored.clip(scale["low"], scale["high"]) - scale["mean"]) / scale["sd"]
    assert np.allclose(adapted.read(case).image[0], expected, atol=1e-4)
    assert not np.allclose(by_itself, expected, atol=0.1)


def test_a_z_score_is_that_of_each_case(tmp_path: Path) -> None:
    source = folder(tmp_path, 0)
    plain = open_source(str(tmp_path))
    assert isinstance(plain, FromFiles)
    assert plain.learned(5)["scales"] == [None]
    adapted = as_learned(source.dataset, plain.learned(5))
    assert isinstance(adapted, Volumes)
    image = adapted.read(adapted.cases[0]).image
    assert abs(float(image.mean())) < 1e-5
    assert as_learned(source.dataset, {}) is source.dataset
