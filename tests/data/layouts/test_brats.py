from pathlib import Path

import numpy as np
import pytest

from ranp.data.labels import Labels
from ranp.data.layouts import open_dataset
from ranp.data.sources import Drawing, Reading, open_source
from ranp.errors import UsageError

pytestmark = pytest.mark.usefixtures("typed")  # messages are those of the command line

nibabel = pytest.importorskip("nibabel")
SHAPE = (8, 7, 6)
MODALITIES = ("flair", "t1", "t1ce", "t2")


@pytest.fixture
def brats(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for grade, name in (("HGG", "Brats18_2013_2_1"), ("HGG", "Brats18_CBICA_AAB_1"), ("LGG", "Brats18_2013_0_1")):
        folder = tmp_path / grade / name
        folder.mkdir(parents=True)
        for modality in MODALITIES:
            nibabel.save(nibabel.Nifti1Image(rng.normal(size=SHAPE), np.eye(4)), folder / f"{name}_{modality}.nii.gz")
        labels = rng.choice([0, 1, 2, 4], SHAPE).astype(np.uint8)
        nibabel.save(nibabel.Nifti1Image(labels, np.eye(4)), folder / f"{name}_seg.nii.gz")
    return tmp_path


def test_patients_of_both_grades(brats: Path) -> None:
    dataset = open_dataset(str(brats))
    assert dataset.word == "brats"
    assert [case.name for case in dataset.cases] == ["Brats18_2013_2_1", "Brats18_CBICA_AAB_1", "Brats18_2013_0_1"]
    assert (dataset.channels(), dataset.classes()) == ((4,), 4)
    assert [case.name for case in open_dataset(str(brats / "LGG")).cases] == ["Brats18_2013_0_1"]


@pytest.mark.parametrize(("classes", "values"), [(4, {0, 1, 2, 3}), (5, {0, 1, 2, 4})])
def test_labels_become_classes_in_order_or_as_published(brats: Path, classes: int, values: set[int]) -> None:
    source = open_source(str(brats)).batches([(4, *SHAPE)], (classes, *SHAPE), Drawing(3))
    assert {v for _, target in source for v in target.unique().tolist()} == values


def test_the_regions_of_the_challenge(brats: Path) -> None:
    source = open_source(str(brats), reading=Reading(regions="WT=1+2+4,TC=1+4,ET=enhancing"))
    assert (source.task, source.classes()) == ("regions", 3)
    _, target = next(iter(source.batches([(4, *SHAPE)], (3, *SHAPE), Drawing())))
    assert (target[:, 0] >= target[:, 1]).all()
    assert (target[:, 1] >= target[:, 2]).all()
    assert target[:, 1].sum() > target[:, 2].sum() > 0


def test_a_modality_that_is_missing_is_named(brats: Path) -> None:
    (brats / "HGG" / "Brats18_CBICA_AAB_1" / "Brats18_CBICA_AAB_1_t2.nii.gz").unlink()
    with pytest.raises(UsageError, match=r"Brats18_CBICA_AAB_1: Brats18_CBICA_AAB_1_t2.nii.gz: no such file"):
        open_dataset(str(brats))
    with pytest.raises(UsageError, match=r"expected HGG\|LGG/CASE/CASE_"):
        open_dataset(f"brats:{brats / 'HGG' / 'Brats18_2013_2_1'}")


def test_maps_read_names_ranges_and_the_rest() -> None:
    labels = Labels(values={"background": 0, "liver": 5, "spleen": 1})
    assert labels.mapped("liver=1,spleen=2").classes == {0: 0, 5: 1, 1: 2}
    grouped = Labels().mapped("75-77=1,*=2")
    assert grouped.apply(np.array([0, 75, 77, 78, 9]), "x").tolist() == [0, 1, 1, 2, 2]
    assert grouped.count() == 3
    with pytest.raises(UsageError, match=r"--label-map livr=1: 'livr' is no value or one of .*did you mean 'liver'\?"):
        labels.mapped("livr=1")
    with pytest.raises(UsageError, match="x: expected labels 0, 1, found 7; --label-map says what they are"):
        Labels().mapped("1=1").apply(np.array([7, 1]), "x")
