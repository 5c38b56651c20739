"""BraTS 2018: four modalities of every patient, in folders of high and low grade.

    MICCAI_BraTS_2018_Data_Training/
        HGG/Brats18_2013_2_1/Brats18_2013_2_1_{flair,t1,t1ce,t2,seg}.nii.gz
        LGG/...

Labels are 0, 1 (necrosis), 2 (oedema) and 4 (enhancing tumour): classes 0 to 3 in this order, or, for a network of five
classes as the published one, their values. `--regions WT=1+2+4,TC=1+4,ET=4` asks for the overlapping regions that the
challenge evaluates. Later years, without the folders of grades and with `-` in the names, are not this layout.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

from ranp.data.dataset import Case, refuse_settings
from ranp.data.labels import Labels
from ranp.data.volumes import Volumes
from ranp.errors import UsageError, named

GRADES = ("HGG", "LGG")
MODALITIES = ("t1", "t1ce", "t2", "flair")
PUBLISHED_CLASSES = 5
NAMES = {"background": 0, "necrosis": 1, "oedema": 2, "enhancing": 4}


class BraTS(Volumes):
    """Patients of BraTS 2018; those without a file of labels are cases without."""

    word: ClassVar[str] = "brats"
    looks_like: ClassVar[str] = "HGG|LGG/CASE/CASE_{t1,t1ce,t2,flair,seg}.nii.gz"

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether a folder has patients of a grade, or is one of a grade's."""
        return any(_patients(path))

    @classmethod
    def open(cls, path: Path, settings: Mapping[str, Any]) -> Self:
        """List the patients.

        Raises:
            UsageError: none, or one without a modality.
        """
        refuse_settings(settings, (), cls.word)
        cases = []
        for folder in sorted(_patients(path)):
            files = [_file(folder, modality) for modality in MODALITIES]
            for modality, file in zip(MODALITIES, files, strict=True):
                if file is None:
                    expected = f"{folder.name}_{modality}.nii.gz"
                    raise UsageError(f"{named('data', folder)}: {expected}: no such file, a modality of the case")
            cases.append(Case(folder.name, tuple(file for file in files if file), _file(folder, "seg")))
        if not cases:
            raise UsageError(f"{named('data', path)}: expected {cls.looks_like}")
        names = tuple(NAMES)
        classes = {value: rank for rank, value in enumerate(NAMES.values())}
        return cls(path, tuple(cases), Labels(classes, names=names, values=NAMES), MODALITIES)

    def for_classes(self, classes: int) -> Self:
        """Return the same cases; a network of five classes is compared with the values themselves, as published."""
        if classes == PUBLISHED_CLASSES and not self.labels.regions and self.labels.names == tuple(NAMES):
            return replace(self, labels=replace(self.labels, classes={value: value for value in range(classes)}))
        return super().for_classes(classes)


def _patients(path: Path) -> list[Path]:
    folders = [path / grade for grade in GRADES if (path / grade).is_dir()]
    if path.name in GRADES:
        folders = [path]
    return [each for folder in folders for each in folder.iterdir() if each.is_dir() and _any_modality(each)]


def _any_modality(folder: Path) -> bool:
    return any(_file(folder, modality) for modality in MODALITIES)


def _file(folder: Path, modality: str) -> Path | None:
    endings = (".nii.gz", ".nii")
    return next((f for ending in endings if (f := folder / f"{folder.name}_{modality}{ending}").is_file()), None)
