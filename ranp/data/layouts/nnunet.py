"""nnU-Net's data, raw or preprocessed, with a dataset.json that says what channels and labels are.

Raw data are a file for every modality of a case:

    Dataset004_Hippocampus/
        dataset.json      {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "anterior": 1, "posterior": 2},
                           "numTraining": 1, "file_ending": ".nii.gz"}
        imagesTr/hippocampus_001_0000.nii.gz
        labelsTr/hippocampus_001.nii.gz
        imagesTs/hippocampus_002_0000.nii.gz
        splits_final.json

Preprocessed, a case is an array of all channels, resampled and scaled, beside one of labels; its .pkl, a pickle, is not
read:

    Dataset004_Hippocampus/
        dataset.json, splits_final.json
        nnUNetPlans_3d_fullres/hippocampus_001.b2nd, hippocampus_001_seg.b2nd, hippocampus_001.pkl

A label that is a list is a region of several values; a network of regions has sigmoid outputs. "ignore" does not count.
Where splits_final.json lies beside, the first fold (`--set-data fold=`) says which cases validate.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from ranp.data.dataset import TESTING, TRAINING, VALIDATION, Case, refuse_settings
from ranp.data.labels import Labels
from ranp.data.scans import ARRAYS, ENDINGS
from ranp.data.volumes import Scale, Volumes
from ranp.errors import UsageError, listed, named
from ranp.files import read_json

_CHANNEL = re.compile(r"_\d{4}$")
IGNORE = "ignore"


class NNUNet(Volumes):
    """Cases of a raw nnU-Net data set."""

    word: ClassVar[str] = "nnunet"
    looks_like: ClassVar[str] = "imagesTr/CASE_0000.nii.gz, labelsTr/ and dataset.json with channel_names"

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether a folder has images numbered by channel, and a dataset.json."""
        images = path / "imagesTr"
        if not images.is_dir() or not (path / "dataset.json").is_file():
            return False
        return any(_CHANNEL.search(_split_ending(file.name)[0]) for file in images.iterdir())

    @classmethod
    def open(cls, path: Path, settings: Mapping[str, Any]) -> Self:
        """Read dataset.json and match images with labels.

        Args:
            path: the folder.
            settings: `fold`: of splits_final.json; 0 without it.

        Raises:
            UsageError: no such data set, a modality that is missing, or labels without an image.
        """
        refuse_settings(settings, ("fold",), cls.word)
        if not (path / "imagesTr").is_dir():
            raise UsageError(f"{named('data', path)}: expected {cls.looks_like}")
        names, labels = _known(path)
        ending = str(read_json(path / "dataset.json").get("file_ending", ".nii.gz"))
        cases = _cases(path, "imagesTr", "labelsTr", ending, names, TRAINING)
        if not cases:
            raise UsageError(f"{named('data', path)}: no CASE_0000{ending} in imagesTr/")
        cases = _validating(path, cases, settings.get("fold", 0), given="fold" in settings)
        cases += _cases(path, "imagesTs", "labelsTs", ending, names, TESTING)
        return cls(path, tuple(cases), labels, names)


class Preprocessed(Volumes):
    """Cases that nnU-Net has preprocessed for a configuration."""

    word: ClassVar[str] = "preprocessed"
    looks_like: ClassVar[str] = "CASE.b2nd and CASE_seg.b2nd, below a folder with dataset.json"
    prepared: ClassVar[bool] = True

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether a folder has arrays and their labels, and a dataset.json above it."""
        return path.is_dir() and (path.parent / "dataset.json").is_file() and bool(_arrays(path))

    @classmethod
    def open(cls, path: Path, settings: Mapping[str, Any]) -> Self:
        """Read the dataset.json above and match arrays with labels.

        Args:
            path: the folder of a configuration.
            settings: `fold`: of splits_final.json; 0 without it.

        Raises:
            UsageError: no such folder, or no dataset.json above it.
        """
        refuse_settings(settings, ("fold",), cls.word)
        files = _arrays(path) if path.is_dir() else []
        if not files:
            raise UsageError(f"{named('data', path)}: expected {cls.looks_like}")
        names, labels = _known(path.parent)
        cases = [Case(f.stem, (f,), f.with_name(f"{f.stem}_seg{f.suffix}"), TRAINING) for f in files]
        cases = _validating(path.parent, cases, settings.get("fold", 0), given="fold" in settings)
        return cls(path, tuple(cases), labels, names)

    def _scale(self, number: int) -> Scale | None:
        """Return no scale where none is asked for: the arrays are scaled."""
        if self.sampling.intensity == "auto" and not self.sampling.scales:
            return Scale()
        return super()._scale(number)

    def _values(self, case: Case) -> NDArray[np.integer[Any]]:
        """Read labels; -1, where nnU-Net found no image, is background, as in its trainings."""
        assert isinstance(case.target, Path)
        values = self._scan(case.target, self.options[1]).read(self.options[1]).stored
        inside: NDArray[np.integer[Any]] = np.maximum(values, 0)
        return inside


def _arrays(folder: Path) -> list[Path]:
    """Return the images of a folder that have labels beside them."""
    files = [file for file in folder.iterdir() if file.suffix in ARRAYS and not file.stem.endswith("_seg")]
    return sorted(file for file in files if file.with_name(f"{file.stem}_seg{file.suffix}").is_file())


def _known(path: Path) -> tuple[tuple[str, ...], Labels]:
    """Return the names of the channels in a folder's dataset.json, and its labels.

    Raises:
        UsageError: it is missing, or says neither.
    """
    known = read_json(path / "dataset.json")
    where = named("data", path / "dataset.json")
    channels = known.get("channel_names") or known.get("modality")
    if not isinstance(channels, dict) or not isinstance(known.get("labels"), dict):
        raise UsageError(f'{where}: expected "channel_names" and "labels", found {listed(known, "and")}')
    return tuple(str(channels[key]) for key in sorted(channels, key=int)), read_labels(known["labels"], where)


def read_labels(labels: Mapping[str, Any], where: str) -> Labels:
    """Read the labels of a dataset.json: a value for each name, or a list of values for a region.

    Args:
        labels: name to value or values; "ignore" is none.
        where: the file as messages name it.

    Raises:
        UsageError: a label that is neither.
    """
    values = {name: value if isinstance(value, list | tuple) else [value] for name, value in labels.items()}
    wrong = next((name for name in values if not all(isinstance(v, int) and v >= 0 for v in values[name])), None)
    if wrong is not None:
        raise UsageError(f"{where}: label {wrong!r}: expected a number or a list of numbers, found {labels[wrong]!r}")
    ignored = frozenset(values.pop(IGNORE, []))
    single = {name: value[0] for name, value in values.items() if len(value) == 1}
    if any(isinstance(value, list | tuple) for name, value in labels.items() if name != IGNORE):
        regions = {name: frozenset(value) for name, value in values.items() if set(value) != {0}}
        return Labels(ignored=ignored, regions=tuple(regions.values()), names=tuple(regions), values=single)
    ranked = sorted(single, key=lambda name: single[name])
    classes = {single[name]: rank for rank, name in enumerate(ranked)}
    return Labels(classes, ignored=ignored, names=tuple(ranked), values=single)


def _split_ending(name: str) -> tuple[str, str]:
    ending = max((ending for ending in (*ENDINGS, ".tif", ".png") if name.endswith(ending)), key=len, default="")
    return name[: len(name) - len(ending)], ending


def _cases(path: Path, images: str, labels: str, ending: str, channels: Sequence[str], split: str) -> list[Case]:
    """Match CASE_0000 to CASE_nnnn with the labels of CASE."""
    if not (path / images).is_dir():
        return []
    present = {file.name for file in (path / images).iterdir()}
    stems = {name.removesuffix(ending) for name in present if name.endswith(ending)}
    named_cases = sorted({_CHANNEL.sub("", stem) for stem in stems if _CHANNEL.search(stem)})
    cases = []
    for name in named_cases:
        files = tuple(path / images / f"{name}_{number:04d}{ending}" for number in range(len(channels)))
        lost = next((file for file in files if file.name not in present), None)
        if lost is not None:
            channel = channels[files.index(lost)]
            raise UsageError(f"{named('data', path)}: {images}/{lost.name}: no such file, the {channel} of {name}")
        target = path / labels / f"{name}{ending}"
        if split == TRAINING and not target.is_file():
            raise UsageError(f"{named('data', path)}: {labels}/{target.name}: no such file, the labels of {name}")
        cases.append(Case(name, files, target if target.is_file() else None, split))
    marked = {file.name.removesuffix(ending) for file in (path / labels).glob(f"*{ending}")}
    alone = sorted(marked - set(named_cases))
    if split == TRAINING and alone:
        first = f"{images}/{alone[0]}_0000{ending}"
        raise UsageError(f"{named('data', path)}: {first}: no such file, the image of {labels}/{alone[0]}{ending}")
    return cases


def _validating(path: Path, cases: list[Case], fold: Any, *, given: bool) -> list[Case]:
    """Return the cases with those of a fold as validation cases."""
    file = path / "splits_final.json"
    if not file.is_file():
        if given:
            raise UsageError(f"{named('data_settings', f'fold={fold}', flag='--set-data')}: {file} does not exist")
        return cases
    try:
        folds = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"{named('data', file)}: not JSON ({error})") from None
    if not isinstance(folds, list) or not isinstance(fold, int) or not 0 <= fold < len(folds):
        count = len(folds) if isinstance(folds, list) else 0
        expected = f"expected a fold from 0 to {count - 1} of {file}" if count else f"{file} lists no folds"
        raise UsageError(f"{named('data_settings', f'fold={fold}', flag='--set-data')}: {expected}")
    names = set(folds[fold].get("val", []))
    return [Case(c.name, c.files, c.target, VALIDATION if c.name in names else TRAINING) for c in cases]
