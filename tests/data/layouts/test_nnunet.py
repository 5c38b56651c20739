import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ranp.data.dataset import TESTING, TRAINING, VALIDATION
from ranp.data.layouts import open_dataset
from ranp.data.sources import Drawing, open_source
from ranp.errors import UsageError

pytestmark = pytest.mark.usefixtures("typed")  # messages are those of the command line

nibabel = pytest.importorskip("nibabel")
SHAPE = (8, 7, 6)


def save(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([1.0, 1.0, 2.0, 1.0])), path)
    return path


def raw(folder: Path, **changed: Any) -> Path:
    rng = np.random.default_rng(0)
    for name in ("hip_001", "hip_002", "hip_003"):
        for channel in range(2):
            save(folder / "imagesTr" / f"{name}_{channel:04d}.nii.gz", rng.normal(100, 50, SHAPE))
        save(folder / "labelsTr" / f"{name}.nii.gz", rng.integers(0, 4, SHAPE).astype(np.uint8))
    for channel in range(2):
        save(folder / "imagesTs" / f"hip_009_{channel:04d}.nii.gz", rng.normal(size=SHAPE))
    content = {
        "channel_names": {"0": "CT", "1": "T2"},
        "labels": {"background": 0, "anterior": 1, "posterior": 2, "ignore": 3},
        "numTraining": 3,
        "file_ending": ".nii.gz",
        **changed,
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def test_cases_channels_and_labels(tmp_path: Path) -> None:
    dataset = open_dataset(str(raw(tmp_path)))
    assert (dataset.word, dataset.task) == ("nnunet", "segmentation")
    assert [case.name for case in dataset.of(TRAINING)] == ["hip_001", "hip_002", "hip_003"]
    assert [(case.name, case.target) for case in dataset.cases if case.split == TESTING] == [("hip_009", None)]
    assert (dataset.channels(), dataset.classes()) == ((2,), 3)
    assert dataset.class_names == ("background", "anterior", "posterior")


def test_what_is_ignored_becomes_255(tmp_path: Path) -> None:
    source = open_source(str(raw(tmp_path))).batches([(2, *SHAPE)], (3, *SHAPE), Drawing(3))
    assert {v for _, target in source for v in target.unique().tolist()} == {0, 1, 2, 255}


def test_regions_are_masks_and_the_network_is_told_sigmoid(tmp_path: Path) -> None:
    labels = {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}
    dataset = open_dataset(str(raw(tmp_path, labels=labels)))
    assert (dataset.task, dataset.classes(), dataset.class_names) == ("regions", 2, ("whole", "core"))
    _, target = dataset.whole(dataset.read(dataset.cases[0]))
    values = nibabel.load(dataset.cases[0].target).get_fdata()
    seen = values != 3
    assert np.array_equal(target[0].numpy()[seen], np.isin(values, [1, 2])[seen])
    assert np.array_equal(target[1].numpy()[seen], (values == 2)[seen])
    assert (target[:, torch.from_numpy(~seen)] == 255).all()


def test_a_ct_is_scaled_by_the_foreground_of_the_data_set(tmp_path: Path) -> None:
    dataset = open_dataset(str(raw(tmp_path)))
    foreground = np.concatenate(
        [
            nibabel.load(case.files[0]).get_fdata()[nibabel.load(case.target).get_fdata() > 0]
            for case in dataset.of(TRAINING)
        ]
    )
    low, high = np.percentile(foreground, [0.5, 99.5])
    case = dataset.cases[0]
    first, second = (nibabel.load(file).get_fdata() for file in case.files)
    held = dataset.read(case)
    assert np.allclose(held.image[0], (first.clip(low, high) - foreground.mean()) / foreground.std(), atol=1e-4)
    assert np.allclose(held.image[1], (second - second.mean()) / second.std(), atol=1e-4)


def test_splits_say_who_validates(tmp_path: Path) -> None:
    folds = [{"train": ["hip_001", "hip_002"], "val": ["hip_003"]}, {"train": ["hip_003"], "val": ["hip_001"]}]
    raw(tmp_path)
    (tmp_path / "splits_final.json").write_text(json.dumps(folds))
    assert [case.name for case in open_dataset(str(tmp_path)).of(VALIDATION)] == ["hip_003"]
    assert [case.name for case in open_dataset(str(tmp_path), {"fold": 1}).of(VALIDATION)] == ["hip_001"]
    with pytest.raises(UsageError, match="--set-data fold=2: expected a fold from 0 to 1"):
        open_dataset(str(tmp_path), {"fold": 2})
    (tmp_path / "splits_final.json").write_text("{")
    with pytest.raises(UsageError, match=r"splits_final.json: not JSON"):
        open_dataset(str(tmp_path))


def test_a_modality_or_labels_or_an_image_that_is_missing_is_named(tmp_path: Path) -> None:
    raw(tmp_path)
    (tmp_path / "imagesTr" / "hip_002_0001.nii.gz").unlink()
    with pytest.raises(UsageError, match=r"imagesTr/hip_002_0001.nii.gz: no such file, the T2 of hip_002"):
        open_dataset(str(tmp_path))
    raw(tmp_path)
    (tmp_path / "labelsTr" / "hip_003.nii.gz").unlink()
    with pytest.raises(UsageError, match=r"labelsTr/hip_003.nii.gz: no such file, the labels of hip_003"):
        open_dataset(str(tmp_path))
    raw(tmp_path)
    for channel in range(2):
        (tmp_path / "imagesTr" / f"hip_001_{channel:04d}.nii.gz").unlink()
    with pytest.raises(UsageError, match=r"imagesTr/hip_001_0000.nii.gz: no such file, the image of labelsTr/hip_001"):
        open_dataset(str(tmp_path))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"labels": {"background": 0, "a": "x"}}, "label 'a': expected a number or a list of numbers, found 'x'"),
        ({"labels": None}, 'expected "channel_names" and "labels"'),
        ({"file_ending": ".nrrd"}, "no CASE_0000.nrrd in imagesTr/"),
    ],
)
def test_mistakes(changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        open_dataset(f"nnunet:{raw(tmp_path, **changed)}")


CT = Path(__file__).parents[3] / ".." / "shared" / "data" / "ct"


@pytest.mark.data
@pytest.mark.skipif(not CT.exists(), reason="the CT with organs is not beside the checkout")
def test_the_real_ct_as_nnunet_raw(tmp_path: Path) -> None:
    (tmp_path / "imagesTr").mkdir()
    (tmp_path / "labelsTr").mkdir()
    (tmp_path / "imagesTr" / "ct_0000.nii.gz").symlink_to((CT / "ct.nii.gz").resolve())
    (tmp_path / "labelsTr" / "ct.nii.gz").symlink_to((CT / "organs.nii.gz").resolve())
    values = np.unique(np.asanyarray(nibabel.load(CT / "organs.nii.gz").dataobj)).tolist()
    labels = {"background" if value == 0 else f"organ {value}": value for value in values}
    content = {"channel_names": {"0": "CT"}, "labels": labels, "file_ending": ".nii.gz"}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    dataset = open_dataset(str(tmp_path))
    facts = dataset.facts(dataset.cases[0])
    assert facts.shape == (1, 122, 101, 112)
    assert np.allclose(facts.spacing, 3)
    assert facts.axes == "RAS"
    assert len(facts.labels) == dataset.classes() == len(values) == 1 + 61
    held = dataset.read(dataset.cases[0])
    assert held.labels is not None
    assert np.unique(held.labels).tolist() == list(range(62))
