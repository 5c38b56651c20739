"""MONAI's data lists, as the Medical Segmentation Decathlon has them: JSON that names every image and its labels.

    Task01_BrainTumour/
        dataset.json      {"modality": {"0": "FLAIR"}, "labels": {"0": "background", "1": "edema"}, "training":
                           [{"image": "./imagesTr/BRATS_001.nii.gz", "label": "./labelsTr/BRATS_001.nii.gz"}]}
        imagesTr/BRATS_001.nii.gz
        labelsTr/BRATS_001.nii.gz

An image may be a list of files, one for each modality. Paths are relative to the folder of the list. Entries with a
"fold" are training cases but for those of the fold `--set-data fold=` names.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from ranp.data.dataset import TESTING, TRAINING, VALIDATION, Case, refuse_settings
from ranp.data.labels import Labels
from ranp.data.scans import stem
from ranp.data.volumes import Volumes
from ranp.errors import UsageError, listed, named

_SPLITS = {"training": TRAINING, "validation": VALIDATION, "test": TESTING, "testing": TESTING}


class Decathlon(Volumes):
    """Cases that a list names."""

    word: ClassVar[str] = "decathlon"
    looks_like: ClassVar[str] = 'dataset.json with a list "training"'

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether a folder's dataset.json, or a JSON file, has a list of training cases."""
        content = _content(path)
        return isinstance(content, dict) and isinstance(content.get("training"), list)

    @classmethod
    def open(cls, path: Path, settings: Mapping[str, Any]) -> Self:
        """Read the list.

        Args:
            path: the list, or its folder.
            settings: `fold`: the fold that validates.

        Raises:
            UsageError: no such list, or an entry without an image or whose file is missing.
        """
        refuse_settings(settings, ("fold",), cls.word)
        content = _content(path)
        if not isinstance(content, dict) or not isinstance(content.get("training"), list):
            raise UsageError(f"{named('data', path)}: expected {cls.looks_like}")
        folder = path if path.is_dir() else path.parent
        cases = [
            _case(entry, folder, split, f"{named('data', path)}: {key}[{number}]", settings.get("fold"))
            for key, split in _SPLITS.items()
            for number, entry in enumerate(content.get(key) or [])
        ]
        if not cases:
            raise UsageError(f"{named('data', path)}: the list names no case")
        modality = content.get("modality") or content.get("channel_names") or {}
        return cls(folder, tuple(cases), _labels(content.get("labels")), tuple(map(str, modality.values())))


def _content(path: Path) -> Any:
    file = path / "dataset.json" if path.is_dir() else path
    try:
        return json.loads(file.read_text()) if file.suffix == ".json" and file.is_file() else None
    except (OSError, ValueError):
        return None


def _case(entry: Any, folder: Path, split: str, where: str, fold: object) -> Case:
    entry = {"image": entry} if isinstance(entry, str | list) else entry
    if not isinstance(entry, dict) or not entry.get("image"):
        has = listed(map(str, entry), "and") if isinstance(entry, dict) else repr(entry)
        raise UsageError(f'{where}: expected an "image", found {has}')
    images, label = entry["image"], entry.get("label")
    files = tuple(folder / str(file) for file in (images if isinstance(images, list) else [images]))
    target = folder / str(label) if label else None
    for file in (*files, *([target] if target else [])):
        if not file.exists():
            raise UsageError(f"{where}: {file}: no such file")
    if split == TRAINING and fold is not None and entry.get("fold") == fold:
        split = VALIDATION
    return Case(stem(files[0]), files, target, split)


def _labels(names: Any) -> Labels:
    """Read {"0": "background", "1": "edema"}, in order of the values."""
    if not isinstance(names, dict) or not all(str(value).isdigit() for value in names):
        return Labels()
    called = {int(value): str(name) for value, name in names.items()}
    ranked = sorted(called)
    return Labels(
        classes={value: rank for rank, value in enumerate(ranked)},
        names=tuple(called[value] for value in ranked),
        values={name: value for value, name in called.items()},
    )
