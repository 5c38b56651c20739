"""What `ranp predict` asks for: a network, images, and a folder of answers on their grids.

    DIR/CASE.nii.gz                  labels: NIfTI, NRRD or MHA as the image is, PNG of a picture
    DIR/CASE_probabilities.nii.gz    and CASE_logits.nii.gz, where asked for; .npy of a picture
    DIR/CASE.pfm                     disparities of a stereo pair
    DIR/classes.csv                  the classes of pictures and videos
    DIR/predictions.json             what was predicted by what

A case that is called `group/name` lies in a folder of its group.
"""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ranp.cost import synchronise
from ranp.data import answers
from ranp.data.dataset import TESTING, Case, Dataset
from ranp.data.geometry import Grid
from ranp.data.labels import Labels
from ranp.data.layouts import clips, pictures
from ranp.data.layouts.clips import VIDEOS
from ranp.data.layouts.pictures import PICTURES
from ranp.data.scans import NIFTI, is_scan, stem
from ranp.data.sources import GENERATORS, FromFiles, open_source
from ranp.data.volumes import Volumes
from ranp.errors import UsageError, named
from ranp.export import onnx_inputs, open_onnx
from ranp.files import KINDS, check_absent, read_json, whole_folder
from ranp.inputs import Shape, as_arguments, flatten
from ranp.jobs._judging import Subject, as_learned, as_trained, learned_by, run_of, subject_of
from ranp.jobs._source import reading_of
from ranp.jobs._task import as_planned, as_the_data
from ranp.jobs.options import Predict
from ranp.models.outputs import output_shape
from ranp.runs import check_place
from ranp.training import ALL, Answer, Kept, Whole, Windows, answer, probabilities, run, sized

Track = Callable[[Iterable[Any]], Iterable[Any]]
PREDICTIONS, CLASSES = "predictions.json", "classes.csv"


class Spent:
    """Seconds of the parts of predictions, with what a device still had to do."""

    def __init__(self, device: str = "cpu") -> None:
        self.seconds: dict[str, float] = {}
        self._device = torch.device(device)

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Add the time that a part takes."""
        synchronise(self._device)
        start = perf_counter()
        yield
        synchronise(self._device)
        self.seconds[part] = self.seconds.get(part, 0.0) + perf_counter() - start


def predict(options: Predict, track: Track = iter, spent: Spent | None = None) -> dict[str, Any]:
    """Predict, and write a folder of answers, whole or not at all.

    Args:
        options: of the command.
        track: wraps the iteration over cases.
        spent: is told how long each part takes: `loading`, `windows` (with the network), `network`, `writing`.

    Returns:
        What predictions.json holds, and `out`.

    Raises:
        UsageError: a mistake in the options, an image that can't be read, or a network that does not fit it.
        CheckFailed: onnxruntime can't run the file.
        MissingExtra: a reader, a writer or onnxruntime is not installed.
    """
    _check_out(options.out, force=options.force)
    source_run = run_of(options.model)
    options = as_trained(options, source_run)
    if options.exported is not None:
        options = _of_onnx(options)
    named_source = _source(options) if options.data else None
    if named_source is not None and source_run is None:
        options = as_the_data(options, named_source)
    subject = subject_of(options, source_run)
    shapes = [tuple(tensor.shape[1:]) for tensor in flatten(as_arguments(subject.inputs))]
    given = output_shape(subject.network, subject.inputs, subject.outputs)
    learned = learned_by(source_run, options, given[0] if given else 0)
    dataset = named_source.fitted(shapes, given) if named_source else _of_images(options, given, learned)
    dataset = as_planned(as_learned(dataset, learned), options)
    asked = _Asked(options, subject, dataset, shapes, given, learned, spent or Spent(options.device))
    with whole_folder(options.out, force=options.force) as folder:
        found = asked.write(folder, track)
        (folder / PREDICTIONS).write_text(json.dumps(found, indent=2, allow_nan=False) + "\n")
    return {**found, "out": str(options.out)}


@dataclass(frozen=True)
class _Asked:
    """What is known to be right, and left to be done."""

    options: Predict
    subject: Subject
    dataset: Dataset[Any]
    shapes: Sequence[Shape]
    given: Shape
    learned: dict[str, Any]
    spent: Spent

    def write(self, folder: Path, track: Track) -> dict[str, Any]:
        """Predict every case into a folder, and return what was written."""
        dataset, network = self.dataset, self._network()
        values = self._values()
        written: list[dict[str, Any]] = []
        rows: list[list[Any]] = []
        with torch.no_grad():
            for case in track(self._cases()):
                place = folder / _safe(case.name)
                place.parent.mkdir(parents=True, exist_ok=True)
                if dataset.task == "classification":
                    rows.append([case.name, *self._class(network, case)])
                    continue
                if dataset.task == "stereo":
                    files = self._disparity(network, case, place)
                else:
                    files = self._labels(network, case, place, values, folder)
                written.append({"name": case.name, "files": [str(file.relative_to(folder)) for file in files]})
        if rows:
            with (folder / CLASSES).open("w", newline="") as file:
                csv.writer(file, lineterminator="\n").writerows([["case", "class", "name", "probability"], *rows])
        return {
            "model": self.options.model,
            "weights": self.subject.weights,
            "onnx": None if self.options.exported is None else str(self.options.exported),
            "task": dataset.task,
            "values": list(values),
            "cases": written or [{"name": row[0], "files": [CLASSES]} for row in rows],
        }

    def _cases(self) -> tuple[Case, ...]:
        cases = self.dataset.cases
        split = self.options.split or (TESTING if any(case.split == TESTING for case in cases) else ALL)
        chosen = tuple(case for case in cases if split == ALL or case.split == split)
        if not chosen:
            raise UsageError(f"{named('split', split)}: no case of {self.dataset.word} in {self.dataset.root}")
        names = [_safe(case.name) for case in chosen]
        twice = next((name for name in names if names.count(name) > 1), None) if len({*names}) < len(names) else None
        if twice is not None:
            raise UsageError(f"{named('images')}: two cases are called {twice}; expected names of their own")
        return chosen

    def _network(self) -> nn.Module:
        if self.options.exported is None:
            return self.subject.network.to(self.options.device).eval()
        return _Exported(self.options.exported)

    def _fed(self, parts: Sequence[Tensor]) -> Any:
        """Return inputs with the batch in front as the network takes them."""
        tensors = flatten(as_arguments(self.subject.inputs))
        cast = tuple(part.to(self.options.device, each.dtype) for part, each in zip(parts, tensors, strict=True))
        if isinstance(self.subject.inputs, dict) and self.options.exported is None:
            return dict(zip(self.subject.inputs, cast, strict=True))
        return cast

    def _values(self) -> tuple[int, ...]:
        """Return what is written for each class: the values of the training's files where each class has its own."""
        if self.dataset.task not in ("segmentation", "regions"):
            return ()
        count = max(self.given[0], 2) if self.dataset.task == "segmentation" else self.given[0]
        return tuple(self.learned.get("values") or self.dataset.answers(count))

    def _class(self, network: nn.Module, case: Case) -> list[Any]:
        with self.spent("loading"):
            views = self.dataset.views(self.dataset.read(case), self.shapes)
        with self.spent("windows"):
            outputs = [self._run(network, [part[None] for part in view]) for view, _ in views]
        votes = torch.stack([probabilities(output[0], "") for output in outputs]).mean(0)
        told = int(votes.argmax())
        names = tuple(self.dataset.class_names) or tuple(self.learned.get("names", ()))
        return [told, names[told] if told < len(names) else f"class {told}", f"{float(votes[told]):.6g}"]

    def _disparity(self, network: nn.Module, case: Case, place: Path) -> list[Path]:
        with self.spent("loading"):
            inputs, _ = self.dataset.whole(self.dataset.read(case))
        whole = Whole(network, self.shapes[0][1:], self._fed, self.subject.outputs, self.subject.network)
        file = place.with_name(place.name + ".pfm")
        with self.spent("windows"), self.spent("network"):
            said = whole(inputs)[0]
        with self.spent("writing"):
            answers.write_pfm(file, said.cpu().numpy())
        return [file]

    def _run(self, network: nn.Module, parts: Sequence[Tensor]) -> Tensor:
        fed = self._fed(parts)
        with self.spent("network"):
            return run(network, fed, self.subject.outputs)

    def _labels(self, network: nn.Module, case: Case, place: Path, values: Sequence[int], room: Path) -> list[Path]:
        dataset, task, options = self.dataset, self.dataset.task, self.options
        with self.spent("loading"):
            held = dataset.read(case)
            (image,), _ = dataset.views(held, self.shapes)[0]
        patch = self.shapes[0][1:]

        def compute(batch: Tensor) -> Tensor:
            return sized(self._run(network, [batch]), patch)

        keep: list[Kept] = [kind for kind in ("logits", "probabilities") if getattr(options, kind)]
        grid = dataset.grid(case) if isinstance(dataset, Volumes) else None
        resampled = isinstance(dataset, Volumes) and bool(dataset.sampling.spacing)
        with self.spent("windows"):
            said = answer(
                image, patch, compute, Windows(options.overlap, options.samples, options.mirror), task,
                keep=keep, room=room, grid=grid if resampled else None, affine=held.affine if resampled else None,
            )  # fmt: skip
        with self.spent("writing"):
            return self._written(said, case, place, values, grid)

    def _written(self, said: Answer, case: Case, place: Path, values: Sequence[int], grid: Grid | None) -> list[Path]:
        """Write what was said of a case, and return the files."""
        labels = _valued(said, self.dataset.task, values)
        if grid is None:
            file = place.with_name(place.name + (".png" if labels.ndim == 2 else ".npy"))
            answers.write_mask(file, labels) if labels.ndim == 2 else answers.write_array(file, labels)
            others = [(place.with_name(f"{place.name}_{kind}.npy"), np.moveaxis(s, -1, 0)) for kind, s in _all(said)]
            for path, scores in others:
                answers.write_array(path, scores)
        else:
            source, ending = case.files[0], answers.ending_for(case.files[0])
            file = place.with_name(place.name + ending)
            own, back = self._own(case, grid)
            answers.write_answer(file, np.transpose(labels, back), source, own)
            others = [(place.with_name(f"{place.name}_{kind}{ending}"), scores) for kind, scores in _all(said)]
            for path, scores in others:
                answers.write_answer(path, np.transpose(scores, (*back, len(back))), source, own)
        return [file, *(path for path, _ in others)]

    def _own(self, case: Case, grid: Grid) -> tuple[Grid, tuple[int, ...]]:
        """Return the grid of a case's file as it lies, and the order that takes voxels on `grid` back there."""
        assert isinstance(self.dataset, Volumes)
        axes = self.dataset.sampling.axes
        order = (*axes, *range(len(axes), len(grid.shape)))
        as_it_lies = replace(self.dataset, sampling=replace(self.dataset.sampling, axes=()))
        return as_it_lies.grid(case), tuple(int(place) for place in np.argsort(order))


class _Exported(nn.Module):
    """An exported file in the place of its network; it runs on the CPU."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        known = onnx_inputs(path)
        self.batch = known[0][1][0] if known and known[0][1] else None  # None where it is free
        self.compute = open_onnx(path, [name for name, _ in known])

    def forward(self, *inputs: Tensor) -> list[Tensor]:
        """Run the file; a batch that is smaller than the file's is filled up with zeros."""
        count = len(inputs[0])
        lacking = 0 if self.batch is None else self.batch - count
        filled = [torch.cat([t.cpu(), t.new_zeros(lacking, *t.shape[1:], device="cpu")]) if lacking > 0 else t.cpu()
                  for t in inputs]  # fmt: skip
        return [output[:count] for output in self.compute(filled)]


def _all(said: Answer) -> Iterator[tuple[str, NDArray[np.float32]]]:
    yield from said.scores.items()


def _valued(said: Answer, task: str, values: Sequence[int]) -> NDArray[Any]:
    """Return labels as the training's files have them: values of classes, or of regions, the smaller above the larger.

    Regions without a value of their own stay masks, (*spatial, regions).
    """
    labels = said.labels
    if task == "regions":
        if not values:
            return np.moveaxis(labels, 0, -1).astype(np.uint8)
        merged = np.zeros(labels.shape[1:], np.min_scalar_type(max(values)))
        for number, value in enumerate(values):
            merged[labels[number]] = value
        return merged
    if not values:
        return labels.astype(np.min_scalar_type(int(labels.max(initial=0))), copy=False)
    table = np.array(values, np.min_scalar_type(max(values)))
    mapped: NDArray[Any] = table[labels]
    return mapped


def _safe(name: str) -> str:
    """Return a case's name as a path below a folder."""
    return "/".join(part for part in name.split("/") if part not in ("", ".", ".."))


def _check_out(path: Path, *, force: bool) -> None:
    """Refuse a folder that is there, unless it is one of predictions and nothing else and may be replaced.

    Raises:
        UsageError: naming what is in the way.
    """
    check_absent(path, force=force)
    check_place(path)
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if not (path / PREDICTIONS).is_file():
        what = f"not {KINDS['predictions'].name}, so {named('force', True)} does not replace it"
        raise UsageError(f"{named('out', path)}: {what}")
    own = {PREDICTIONS, CLASSES}
    for case in read_json(path / PREDICTIONS).get("cases", []):
        own.update(map(str, case.get("files", [])))
    foreign = sorted(
        str(p.relative_to(path)) for p in path.rglob("*") if p.is_file() and str(p.relative_to(path)) not in own
    )
    if foreign:
        kept = f"so {named('force', True)} does not replace it"
        raise UsageError(f"{named('out', path)}: holds {foreign[0]}, which is not of the predictions, {kept}")


def _of_onnx(options: Predict) -> Predict:
    """Return the options with the patch and the batch that an exported file takes, where they are fixed in it.

    Raises:
        UsageError: another patch or batch was asked for.
    """
    assert options.exported is not None
    shape = onnx_inputs(options.exported)[0][1]
    update: dict[str, Any] = {}
    if len(shape) > 2 and all(shape[2:]):
        size = "x".join(map(str, shape[2:]))
        update["patch"] = size
    if shape and shape[0] is not None:
        update["batch_size"] = shape[0]
    return options.model_copy(update=update)


def _source(options: Predict) -> FromFiles:
    said = named("data", options.data)
    if options.images:
        raise UsageError(f"{named('images')}: are the data themselves; leave out {said}")
    what = "expected files: answers are written for files"
    if options.data in GENERATORS:
        raise UsageError(f"{said}: {what}")
    opened = open_source(
        options.data, settings=options.data_settings, keys=options.keys, reading=reading_of(options), targets=False
    )
    if not isinstance(opened, FromFiles):
        raise UsageError(f"{said}: {what}")
    return opened


def _of_images(options: Predict, given: Shape, learned: dict[str, Any]) -> Dataset[Any]:
    """Return the files of --images as cases without targets."""
    paths = options.images
    if not paths:
        raise UsageError(f"{named('images')} is missing: files, or cases of {named('data')}")
    if options.split is not None:
        raise UsageError(
            f"{named('split', options.split)}: is of {named('data')}; files of {named('images')} have none"
        )
    lost = next((path for path in paths if not path.exists()), None)
    if lost is not None:
        raise UsageError(f"{named('images', lost)}: no such file")
    if all(path.suffix.lower() in VIDEOS for path in paths):
        return clips.of_files(paths, options.data_settings)
    if all(path.suffix.lower() in PICTURES for path in paths):
        return pictures.of_files(paths, options.data_settings, masked=len(given) > 1)
    wrong = next((path for path in paths if not is_scan(path)), None)
    if wrong is not None:
        kinds = f"files of voxels ({', '.join(NIFTI)}, ...), or pictures, or videos alone"
        raise UsageError(f"{named('images', wrong)}: expected {kinds}")
    reading = reading_of(options)
    cases = tuple(Case(stem(path), (path,)) for path in paths)
    labels = Labels(regions=tuple(map(frozenset, learned.get("regions") or ())))
    labels = labels if labels.regions and not reading.label_map else reading.of(Labels())
    return Volumes(paths[0].parent, cases, labels, (), reading.sampling, ("images", "images"))
