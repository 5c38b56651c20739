"""What `ranp data` says of a source: what it was recognised as, what its cases hold, and what is wrong with them."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from ranp.data import part_names, phantom, shapes
from ranp.data.dataset import Dataset, Facts
from ranp.data.layouts import LAYOUTS, open_dataset
from ranp.data.loaders import load, names_loader
from ranp.data.losses import IGNORED
from ranp.data.sources import NIFTI, read_keys
from ranp.data.volumes import files
from ranp.errors import UsageError, listed, named, nearest, need
from ranp.files import check_file_place
from ranp.jobs.options import Data
from ranp.models.request import read_size
from ranp.models.settings import check_settings
from ranp.report.contact import FORMATS, Tile, tiles, write_sheet

Track = Callable[[Iterable[Any]], Iterable[Any]]
_GENERATORS: Mapping[str, Callable[..., Iterable[Any]]] = {"phantom": phantom, "shapes": shapes}
_BATCHES = 8  # of a loader or a generator that are looked at without --cases: it may have no end
_PATCH = "64"  # of a generator, without --patch
_SHOWN = 8  # samples on a contact sheet


def look(options: Data, track: Track = iter) -> dict[str, Any]:
    """Look at what a source holds, and draw a contact sheet where one is asked for.

    Args:
        options: of `ranp data`.
        track: counts the cases, or batches, while they are looked at.

    Returns:
        Plain values: `source`, `kind` ("files", "loader" or "generator"), `layout` and `path` of files, `task`,
        `cases` (of what has no known end the batches that were looked at) and how many were `looked_at`, `splits`,
        `without_target`, `channels`, `classes`, `class_names`; then of what was looked at `shapes`, `spacings` and
        `axes`, each with its number of cases, and `labels`, with their `count`, `share` of what is not ignored and
        number of `cases`; `problems`, and the `sheet`.

    Raises:
        UsageError: a source that can't be opened, or a sheet that can't be written.
        MissingExtra: a reader, or what draws the sheet, is not installed.
    """
    if options.sheet is not None:
        if options.sheet.suffix.lower() not in FORMATS:
            raise UsageError(f"{named('sheet', options.sheet)}: expected a picture: {listed(FORMATS)}")
        check_file_place(options.sheet, force=options.force, option="sheet")
        need("matplotlib.figure", "plots")
    opened = _open(options)
    facts = list(opened.facts(track))
    problems = [{"case": name, "problem": problem} for name, each in facts for problem in each.problems]
    labels = _labels([each for _, each in facts], opened)
    values, head = [label["value"] for label in labels], opened.head()
    found = head | {
        "cases": head["cases"] or len(facts),
        "source": options.data,
        "task": opened.task,
        "looked_at": len(facts),
        "classes": len(opened.class_names) or opened.classes(values),
        "class_names": list(opened.class_names),
        "shapes": _counted(each.shape for _, each in facts),
        "spacings": _counted(each.spacing for _, each in facts),
        "axes": _counted(each.axes for _, each in facts),
        "labels": labels,
        "problems": problems,
        "sheet": None if options.sheet is None else str(options.sheet),
    }
    if options.sheet is not None:
        pictures = list(opened.pictures(facts, problems))
        if not pictures:
            raise UsageError(f"{named('sheet', options.sheet)}: nothing can be drawn; {problems[0]['problem']}")
        write_sheet(options.sheet, pictures, opened.class_names)
    return found


class _Files:
    """Cases on the disk."""

    ignores = False  # 255 may be a class in files

    def __init__(self, dataset: Dataset[Any], limit: int | None) -> None:
        self.dataset, self.limit = dataset, limit
        self.task: str = dataset.task
        self.class_names = tuple(dataset.class_names)
        self.value_names = dataset.value_names() if dataset.task != "regions" else {}

    def head(self) -> dict[str, Any]:
        """Return what is known without looking at cases."""
        cases = self.dataset.cases
        return {
            "kind": "files",
            "layout": self.dataset.word,
            "path": str(self.dataset.root),
            "cases": len(cases),
            "splits": dict(Counter(case.split for case in cases if case.split)),
            "without_target": sum(case.target is None for case in cases),
            "channels": self._channels(),
        }

    def facts(self, track: Track) -> Iterator[tuple[str, Facts]]:
        """Look at every case."""
        for case in track(self.dataset.cases[: self.limit]):
            yield case.name, self.dataset.facts(case)

    def pictures(self, facts: Sequence[tuple[str, Facts]], problems: list[dict[str, str]]) -> Iterator[Tile]:
        """Draw a few cases without problems, from the first to the last; those with a target, where any has one.

        Args:
            facts: of the cases, as `facts` gave them.
            problems: takes what only reading a case's voxels shows.
        """
        fine = [
            (case, each.axes) for case, (_, each) in zip(self.dataset.cases, facts, strict=False) if not each.problems
        ]
        fine = [(case, axes) for case, axes in fine if case.target is not None] or fine
        for place in sorted({round(k) for k in np.linspace(0, len(fine) - 1, _SHOWN)} if fine else ()):
            case, axes = fine[place]
            try:
                inputs, target = self.dataset.whole(self.dataset.read(case))
            except UsageError as error:
                problems.append({"case": case.name, "problem": str(error)})
                continue
            shown = None if case.target is None else target
            yield from tiles(case.name, inputs, shown, self.task, self.class_names, axes)

    def classes(self, values: Sequence[int]) -> int | None:
        """Return how many classes there are, where values are all that tells."""
        if self.limit is None and not any(case.target is None for case in self.dataset.cases):
            with suppress(UsageError):  # looking at the case says so
                return self.dataset.classes()
        return len({0, *values}) if values else None

    def _channels(self) -> list[int]:
        """Return the channels of each input; none where the first case, which tells, is damaged."""
        try:
            return list(self.dataset.channels())
        except UsageError:  # looking at that case says so
            return []


class _Batches:
    """Batches of a generator or a loader; each counts as a case, and only the first sample of it is drawn."""

    ignores = True  # 255 is what losses leave out

    def __init__(self, kind: str, batches: Iterable[Any], limit: int, names: tuple[str, ...] = ()) -> None:
        self.kind, self.batches, self.limit, self.class_names = kind, batches, limit, names
        self.value_names = dict(enumerate(names))
        self.inputs, target = _tensors(next(iter(batches)))
        self.task = _task(self.inputs, target)

    def head(self) -> dict[str, Any]:
        """Return what the first batch tells."""
        return {
            "kind": self.kind,
            "layout": None,
            "path": None,
            "cases": 0,
            "batch_size": len(self.inputs[0]),
            "splits": {},
            "without_target": 0,
            "channels": [int(tensor.shape[1]) for tensor in self.inputs if tensor.ndim > 1],
        }

    def classes(self, values: Sequence[int]) -> int | None:
        """Return how many classes occur."""
        return len({0, *values} - {IGNORED}) if values else None

    def facts(self, track: Track) -> Iterator[tuple[str, Facts]]:
        """Look at batches."""
        for number, batch in enumerate(track(islice(self.batches, self.limit)), start=1):
            inputs, target = _tensors(batch)
            labelled = self.task in ("segmentation", "classification")
            values, counts = (each.tolist() for each in target.unique(return_counts=True)) if labelled else ((), ())
            labels = dict(zip(map(int, values), counts, strict=True))
            yield f"batch {number}", Facts(tuple(inputs[0].shape[1:]), labels=labels)

    def pictures(self, facts: Sequence[tuple[str, Facts]], problems: list[dict[str, str]]) -> Iterator[Tile]:
        """Draw the first sample of each of a few batches."""
        for (name, _), batch in zip(facts[:_SHOWN], self.batches, strict=False):
            inputs, target = _tensors(batch)
            one = target.reshape(len(target), *inputs[0].shape[2:]) if self.task == "segmentation" else target
            yield from tiles(name, [part[0] for part in inputs], one[0], self.task, self.class_names)


def _open(options: Data) -> _Files | _Batches:
    """Open what SOURCE names."""
    source, settings = options.data, options.data_settings
    limit, layouts = options.cases or _BATCHES, [layout.word for layout in LAYOUTS]
    if source == NIFTI:
        return _Files(files(options.images, options.labels), options.cases)
    if options.images or options.labels:
        said = f"are looked at as the SOURCE {NIFTI}, not {source}"
        raise UsageError(f"{named('images')} and {named('labels')}: {said}")
    if source in _GENERATORS:
        given = {
            "patch": read_size(options.patch or _PATCH, option="patch"),
            "batches": limit,
            "seed": options.seed,
        } | settings
        check_settings(_GENERATORS[source], given, source, "--set-data")
        batches = _GENERATORS[source](**given)
        named_so = {key: settings[key] for key in ("classes", "background") if key in settings}
        return _Batches("generator", batches, limit, part_names(**named_so) if source == "shapes" else ())
    if names_loader(source, layouts):
        return _Batches("loader", load(source, settings, read_keys(options.keys), limit, options.seed), limit)
    if ":" not in source and not Path(source).expanduser().exists():
        known = [*_GENERATORS, *(f"{word}:PATH" for word in layouts), "file.py:function"]
        what = f"no file or folder, nor one of {listed(known)}"
        raise UsageError(f"{named('SOURCE', source)}: {what}{nearest(source, _GENERATORS)}")
    return _Files(open_dataset(source, settings), options.cases)


def _tensors(batch: tuple[Any, Any]) -> tuple[list[Tensor], Tensor]:
    """Return the tensors among a batch's inputs, and the first of its target."""
    inputs, targets = ([leaf for leaf in tree_leaves(part) if isinstance(leaf, Tensor)] for part in batch)
    return inputs, targets[0]


def _task(inputs: Sequence[Tensor], target: Tensor) -> str:
    """Return what a batch is for, as its shapes tell; "" for something else."""
    spatial = inputs[0].shape[2:]
    if len(inputs) == 2 and target.is_floating_point() and target.shape[1:] == spatial:
        return "stereo"
    if target.is_floating_point() and not torch.equal(target, target.round()):
        return ""
    if target.ndim == 1:
        return "classification"
    return "segmentation" if target.shape[1:] in (spatial, (1, *spatial)) else ""


def _labels(facts: Sequence[Facts], opened: _Files | _Batches) -> list[dict[str, Any]]:
    """Return every value that occurs: its name where the values are the classes, and how much there is of it."""
    counts: Counter[int] = Counter()
    cases: Counter[int] = Counter()
    for each in facts:
        counts.update(each.labels)
        cases.update(each.labels.keys())
    names = opened.value_names
    are_named = all(value in names or value == IGNORED for value in counts)
    ignores = (opened.ignores or (bool(names) and are_named)) and IGNORED not in names
    total = counts.total() - (counts[IGNORED] if ignores else 0)
    listed_labels = []
    for value, count in sorted(counts.items()):
        ignored = ignores and value == IGNORED
        name = "ignored" if ignored else names.get(value, "")
        share = None if ignored else count / total
        listed_labels.append({"value": value, "name": name, "count": count, "share": share, "cases": cases[value]})
    return listed_labels


def _counted(values: Iterable[Any]) -> list[dict[str, Any]]:
    """Return the values that cases have, and how many cases have each, the most frequent first; () and "" are none."""
    counts = Counter(value for value in values if value)
    return [
        {"value": list(value) if isinstance(value, tuple) else value, "cases": number}
        for value, number in counts.most_common()
    ]
