import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ranp.data.dataset import TRAINING, VALIDATION
from ranp.data.layouts import open_dataset
from ranp.errors import UsageError

pytestmark = pytest.mark.usefixtures("typed")  # messages are those of the command line

nibabel = pytest.importorskip("nibabel")


def save(path: Path, values: np.ndarray) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)
    return f"./{path.parent.name}/{path.name}"


def task(folder: Path, **changed: Any) -> Path:
    rng = np.random.default_rng(0)
    entries = [
        {
            "image": save(folder / "imagesTr" / f"BRATS_{k}.nii.gz", rng.normal(size=(6, 5, 4, 2)).astype(np.float32)),
            "label": save(folder / "labelsTr" / f"BRATS_{k}.nii.gz", rng.integers(0, 3, (6, 5, 4)).astype(np.uint8)),
            "fold": k,
        }
        for k in range(3)
    ]
    content = {
        "modality": {"0": "FLAIR", "1": "CT"},
        "labels": {"0": "background", "1": "edema", "2": "tumour"},
        "training": entries[:2],
        "validation": entries[2:],
        "test": ["./imagesTr/BRATS_0.nii.gz"],
        **changed,
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def test_a_list_names_cases_splits_channels_and_classes(tmp_path: Path) -> None:
    dataset = open_dataset(str(task(tmp_path)))
    assert dataset.word == "decathlon"
    assert [(case.name, case.split) for case in dataset.cases] == [
        ("BRATS_0", "training"), ("BRATS_1", "training"), ("BRATS_2", "validation"), ("BRATS_0", "testing"),
    ]  # fmt: skip
    assert (dataset.channels(), dataset.classes()) == ((2,), 3)
    assert dataset.class_names == ("background", "edema", "tumour")
    assert [case.name for case in dataset.of(VALIDATION)] == ["BRATS_2"]
    facts = dataset.facts(dataset.cases[0])
    assert (facts.shape, facts.spacing, facts.axes, facts.problems) == ((2, 6, 5, 4), (1, 1, 1), "RAS", ())
    assert sum(facts.labels.values()) == 120


def test_the_list_itself_may_be_named_and_a_modality_may_have_a_file_of_its_own(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    files = [save(tmp_path / "images" / f"{m}.nii", rng.normal(size=(6, 5, 4))) for m in ("t1", "t2")]
    label = save(tmp_path / "labels" / "a.nii", rng.integers(0, 2, (6, 5, 4)).astype(np.uint8))
    (tmp_path / "list.json").write_text(json.dumps({"training": [{"image": files, "label": label}]}))
    dataset = open_dataset(str(tmp_path / "list.json"))
    assert dataset.channels() == (2,)
    held = dataset.read(dataset.cases[0])
    assert held.image.shape == (2, 6, 5, 4)


def test_a_fold_of_the_list_validates(tmp_path: Path) -> None:
    dataset = open_dataset(str(task(tmp_path)), {"fold": 1})
    assert [case.name for case in dataset.of(TRAINING)] == ["BRATS_0"]
    assert [case.name for case in dataset.of(VALIDATION)] == ["BRATS_1", "BRATS_2"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"training": [{"label": "a"}]}, r'training\[0\]: expected an "image", found label'),
        ({"training": [{"image": "imagesTr/x.nii"}]}, r"training\[0\]: .*imagesTr/x.nii: no such file"),
        ({"training": [7]}, r'training\[0\]: expected an "image", found 7'),
        ({"training": [], "validation": [], "test": []}, "the list names no case"),
    ],
)
def test_mistakes(changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        open_dataset(str(task(tmp_path, **changed)))


def test_what_is_no_list_is_not_taken_for_one(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text("[1")
    with pytest.raises(UsageError, match=r'expected dataset.json with a list "training"'):
        open_dataset(f"decathlon:{tmp_path}")
    with pytest.raises(UsageError, match=r"no setting of decathlon; expected fold"):
        open_dataset(str(task(tmp_path)), {"flod": 1})
