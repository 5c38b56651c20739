"""How good a network is, on cases it was not trained on: every case whole, as the field measures it.

Volumes and pictures are labelled by windows (`_windows.py`) and compared on the grid of the case's own file; clips of
a video vote with the mean of their probabilities; stereo pairs are padded to what the network takes and cropped back.
What is generated is drawn from another seed than that of the training.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from ranp.data import Source
from ranp.data.dataset import TESTING, VALIDATION, Case, Dataset, Truth
from ranp.data.losses import IGNORED
from ranp.data.sources import Drawing, FromFiles, FromNumbers, Opened
from ranp.errors import UsageError, listed, named
from ranp.figures import spell
from ranp.inputs import Inputs, Shape, as_arguments, flatten
from ranp.metrics import (
    BoundaryScores,
    EdgeScores,
    SegmentationScores,
    class_accuracy,
    disparity_figures,
    mask_figures,
    not_occluded,
    rank_figures,
)
from ranp.models.outputs import output_shape
from ranp.training._outputs import Whole, decided, probabilities, run, sized
from ranp.training._scores import CaseScores, Scores
from ranp.training._windows import Windows, slabs, windowed

Track = Callable[[Iterable[Any]], Iterable[Any]]

ALL = "all"
_OTHER = 1_000_003  # added to a seed: batches that no training saw
_PIECE = 2**22  # voxels whose confusion is counted at once


@dataclass(frozen=True)
class Judged:
    """A case, and what the network says of it.

    Args:
        name: of the case.
        inputs: (C, *spatial) each, of a video the first clip that was looked at.
        prediction: labels (*spatial), masks (regions, *spatial) bool, probabilities (K,), disparities (H, W), values.
        truth: what it is compared with.
    """

    name: str
    inputs: tuple[Tensor, ...]
    prediction: Tensor
    truth: Truth


@dataclass
class Evaluation:
    """A network and the cases it is judged on; what `evaluate` takes.

    Raises:
        UsageError: a network that does not fit the cases, or no cases.
    """

    network: nn.Module
    source: Opened
    inputs: Inputs
    how: Drawing = field(default_factory=Drawing)
    split: str | None = None
    outputs: Sequence[int] = ()
    windows: Windows = field(default_factory=Windows)
    device: torch.device | str = "cpu"

    def __post_init__(self) -> None:
        tensors = flatten(as_arguments(self.inputs))
        self.shapes: tuple[Shape, ...] = tuple(tuple(tensor.shape[1:]) for tensor in tensors)
        self.dtypes = tuple(tensor.dtype for tensor in tensors)
        self.names = tuple(self.inputs) if isinstance(self.inputs, Mapping) else ()
        self.given = output_shape(self.network, self.inputs, tuple(self.outputs))
        if isinstance(self.source, FromFiles):
            self._cases(self.source.fitted(self.shapes, self.given))

    def said(self) -> str:
        """Say what the network is judged on."""
        if not isinstance(self.source, FromFiles):
            return self.source.said()
        dataset, split = self.source.dataset, self._split()
        count = len(self._cases(dataset))
        which = f"{split} " if split != ALL and any(case.split for case in dataset.cases) else ""
        return f"{count} {which}case{'s'[: count != 1]} of {dataset.word}"

    def class_names(self, task: str, count: int) -> tuple[str, ...]:
        """Return the names of so many classes."""
        known = self.source.names(count)
        if len(known) == count:
            return known
        word = "region" if task == "regions" else "class"
        return tuple(f"{word} {number}" for number in range(count))

    def judged(self, only: Sequence[int] | None = None, track: Track = iter) -> Iterator[tuple[str, Judged]]:
        """Run the network on every case, and yield its task and what it says; only on those at some places.

        Raises:
            UsageError: a case that can't be read, or on which the network does not run.
        """
        was = {module: module.training for module in self.network.modules()}
        network = self.network.to(self.device).eval()
        files = isinstance(self.source, FromFiles)
        walk = self._files(network, only, track) if files else self._batches(network, track)
        try:
            with torch.no_grad():
                for number, judged in enumerate(walk):
                    if files or only is None or number in only:
                        yield judged
        finally:
            for module, training in was.items():
                module.training = training

    def _fed(self, parts: Sequence[Tensor]) -> Any:
        """Return inputs with the batch in front as the network takes them."""
        cast = tuple(part.to(self.device, dtype) for part, dtype in zip(parts, self.dtypes, strict=True))
        return dict(zip(self.names, cast, strict=True)) if self.names else cast

    def _split(self) -> str:
        """Return the split that is asked for; by default the testing cases, else those for validation."""
        assert isinstance(self.source, FromFiles)
        if self.split is not None:
            return self.split
        cases = self.source.dataset.cases
        return next(
            (word for word in (TESTING, VALIDATION) if any(c.split == word and c.target is not None for c in cases)),
            TESTING if any(case.split for case in cases) else ALL,
        )

    def _cases(self, dataset: Dataset[Any]) -> tuple[Case, ...]:
        split = self._split()
        cases = tuple(c for c in dataset.cases if c.target is not None) if split == ALL else dataset.of(split)
        if not cases:
            splits = sorted({case.split for case in dataset.cases if case.target is not None} - {""})
            have = f"those with a target are of {listed(splits, 'and')}" if splits else "none has a target"
            raise UsageError(f"{named('split', split)}: no case to measure on; {have}")
        return cases

    def _files(self, network: nn.Module, only: Sequence[int] | None, track: Track) -> Iterator[tuple[str, Judged]]:
        assert isinstance(self.source, FromFiles)
        dataset = self.source.fitted(self.shapes, self.given)
        cases = self._cases(dataset)
        whole = Whole(network, self.shapes[0][1:], self._fed, self.outputs)
        for case in track(cases if only is None else [cases[place] for place in only]):
            held = dataset.read(case)
            views = dataset.views(held, self.shapes)
            inputs, target = views[0]
            truth = dataset.truth(case, held, target)
            if dataset.task == "classification":
                votes = [
                    probabilities(run(network, self._fed([part[None] for part in view]), self.outputs)[0], "")
                    for view, _ in views
                ]
                prediction = torch.stack(votes).mean(0)
            elif dataset.task == "stereo":
                prediction = whole(inputs)[0]
            else:
                prediction = self._labelled(network, inputs[0], truth, dataset.task)
            yield dataset.task, Judged(case.name, inputs, prediction.cpu(), truth)

    def _labelled(self, network: nn.Module, image: Tensor, truth: Truth, task: str) -> Tensor:
        """Return the labels, or masks, of a whole image on the grid of the truth."""
        patch = self.shapes[0][1:]

        def predict(batch: Tensor) -> Tensor:
            return sized(run(network, self._fed([batch]), self.outputs), patch)

        if truth.back is not None:
            return decided(truth.back(windowed(image, patch, predict, self.windows).cpu()), task)
        labels: Tensor | None = None
        lead = (slice(None),) if task == "regions" else ()
        for slab in slabs(image, patch, predict, self.windows):
            part = decided(slab.scores, task).cpu()
            if labels is None:
                labels = torch.empty(*part.shape[: len(lead)], *image.shape[1:], dtype=part.dtype)
            labels[(*lead, *slab.place)] = part
        assert labels is not None
        return labels

    def _batches(self, network: nn.Module, track: Track) -> Iterator[tuple[str, Judged]]:
        assert not isinstance(self.source, FromFiles)
        drawn = isinstance(self.source, FromNumbers)
        how = replace(self.how, seed=self.how.seed + _OTHER) if drawn else self.how
        number = 0
        batches = self.source.batches(self.shapes, self.given, how)
        if isinstance(batches, Source):
            batches = replace(batches, names=self.names, dtypes=self.dtypes)
        for inputs, target in track(islice(batches, how.batches)):
            moved = tree_map_only(Tensor, lambda tensor: tensor.as_subclass(Tensor).to(self.device), inputs)
            scores = run(network, moved, self.outputs)
            parts = [part for part in tree_leaves(inputs) if isinstance(part, Tensor) and part.dim() > 1]
            truth = next(part for part in tree_leaves(target) if isinstance(part, Tensor)).as_subclass(Tensor).cpu()
            task = _task(scores, parts, truth)
            if task in ("segmentation", "regions"):
                scores = sized(scores, truth.shape[-(scores.dim() - 2) :])
            for k in range(len(scores)):
                number += 1
                one, wanted = scores[k], truth[k]
                if task == "classification":
                    one, wanted = probabilities(one, ""), wanted.long().reshape(())
                elif task in ("segmentation", "regions"):
                    one = decided(one, task)
                    wanted = wanted if task == "regions" else wanted.reshape(one.shape).long()
                elif task == "regression":
                    wanted = wanted.reshape(one.shape)
                sample = tuple(part[k].as_subclass(Tensor).cpu() for part in parts)
                yield task, Judged(f"sample {number}", sample, one.cpu(), Truth(wanted))
        if not number:
            raise UsageError(f"{named('data', self.source.word)}: gives no sample to measure on")


def evaluate(
    network: nn.Module,
    source: Opened,
    inputs: Inputs,
    *,
    how: Drawing | None = None,
    split: str | None = None,
    outputs: Sequence[int] = (),
    windows: Windows | None = None,
    device: torch.device | str = "cpu",
    tolerance: float = 1.0,
    surfaces: bool = True,
    track: Track = iter,
) -> Scores:
    """Measure a network on cases.

    Args:
        network: of one image, or of a stereo pair; it is moved to the device, and its mode is left as it was.
        source: of `ranp.data.sources.open_source`.
        inputs: example inputs with the batch, for shapes (1, C, *patch), dtypes and names; they need no data.
        how: how many batches are drawn where there are no files, from which seed (another one than a training's with
            that seed), and the largest disparity that counts.
        split: "testing", "validation", "training" or "all"; by default the first of the first two with cases, or all
            where the layout knows no splits.
        outputs: places of the outputs that count, as `--outputs`.
        windows: how volumes larger than the patch are looked at.
        device: where the network runs.
        tolerance: of the surface Dice, in millimetres, or voxels where nobody says how large these are.
        surfaces: whether surfaces and edges are compared, which takes longer than the network on small ones.
        track: wraps the iteration over cases, or batches.

    Returns:
        What was measured; `score` is one figure of which higher is better, `figures()` plain numbers by name.

    Raises:
        UsageError: no cases, cases that can't be read, or a network that does not fit them.
    """
    asked = Evaluation(
        network, source, inputs, how or Drawing(), split, outputs, windows or Windows(), torch.device(device)
    )
    return measured(asked, tolerance=tolerance, surfaces=surfaces, track=track)


def measured(asked: Evaluation, *, tolerance: float = 1.0, surfaces: bool = True, track: Track = iter) -> Scores:
    """Measure what `evaluate` was asked for; arguments and errors as there."""
    tally: _Tally | None = None
    for task, judged in asked.judged(track=track):
        if tally is None:
            count = _count(task, judged, asked.given)
            kind = {"classification": _Ranks, "stereo": _Disparities, "regression": _Values}.get(task, _Masks)
            tally = kind(task, asked.class_names(task, count), asked.how, tolerance, surfaces)
        tally.enter(judged)
    assert tally is not None
    return replace(tally.scores(), source=asked.said())


class _Tally(ABC):
    """What is gathered over cases; a task is a subclass."""

    def __init__(self, task: str, names: tuple[str, ...], how: Drawing, tolerance: float, surfaces: bool) -> None:
        self.task, self.names, self.how = task, names, how
        self.tolerance, self.surfaces = tolerance, surfaces
        self.cases: list[CaseScores] = []
        self.notes: list[str] = []

    @abstractmethod
    def enter(self, judged: Judged) -> None:
        """Measure a case."""

    @abstractmethod
    def scores(self) -> Scores:
        """Return what was measured of all."""


class _Masks(_Tally):
    """Classes of voxels, or masks of regions."""

    spacings: frozenset[bool] = frozenset()

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        first = self.names[0].lower() if self.names else ""
        background = self.task == "segmentation" and ("background" in first or first in ("class 0", "0"))
        self.first = int(background)
        self.confusion = SegmentationScores(len(self.names), IGNORED)
        self.edges = EdgeScores(ignore=IGNORED)
        self.boundaries = BoundaryScores(len(self.names), ignore=IGNORED)
        self.dims = 0

    def enter(self, judged: Judged) -> None:
        truth, prediction = judged.truth, judged.prediction
        self.dims = prediction.dim() - (self.task == "regions")
        self.spacings |= {bool(truth.spacing)}
        figures: dict[str, list[float]] = {}
        for number in range(len(self.names)):
            if self.task == "regions":
                masks = prediction[number], truth.target[number] == 1
                used = truth.target[number] != IGNORED
            else:
                masks = prediction == number, truth.target == number
                used = truth.target != IGNORED
            measured_ones = mask_figures(
                *masks, truth.spacing or None, used=used, tolerance=self.tolerance, surfaces=self.surfaces
            )
            for name, value in measured_ones.items():
                figures.setdefault(name, []).append(value)
        if self.task == "segmentation":
            self._count(prediction, truth.target)
        value = _mean(figures["dice"][self.first :])
        if truth.classes:  # as the benchmark of parts counts: what is neither there nor seen is right
            overlaps = [figures["iou"][k] for k in truth.classes]
            figures["shape_iou"] = [_mean([1.0 if math.isnan(v) else v for v in overlaps])] * len(self.names)
        self.cases.append(CaseScores(judged.name, value, figures, truth.group))

    def _count(self, prediction: Tensor, target: Tensor) -> None:
        """Count confusions and edges over all cases."""
        pieces = zip(prediction.flatten().split(_PIECE), target.flatten().split(_PIECE), strict=True)
        for labels, wanted in pieces:
            self.confusion.update(labels.long(), wanted)
        if self.surfaces:
            for counts in (self.edges, self.boundaries):
                counts.update(prediction.long()[None], target[None])

    def scores(self) -> Scores:
        overall: dict[str, float] = {}
        if self.task == "segmentation":
            overall = {"miou": self.confusion.miou(), "pixel_accuracy": self.confusion.pixel_accuracy()}
            if self.surfaces:
                overall["mean_accuracy"] = self.confusion.mean_accuracy()
                overall["boundary_iou"] = self.boundaries.mean()
                overall |= {f"edge_f{each.dilation}": each.f_measure for each in self.edges.compute()}
        groups: dict[str, list[float]] = {}
        cases = []
        for case in self.cases:
            figures = dict(case.figures)
            if "shape_iou" in figures:
                groups.setdefault(case.group, []).append(figures.pop("shape_iou")[0])
            cases.append(replace(case, figures=figures))
        if groups:
            of_groups = {group: _mean(values) for group, values in groups.items()}
            overall["category_miou"] = _mean(list(of_groups.values()))
            overall["shape_miou"] = _mean([value for values in groups.values() for value in values])
            overall |= {f"miou/{group}": value for group, value in of_groups.items()}
        without = "pixels" if self.dims == 2 else "voxels"
        unit = "mm" if self.spacings == {True} else without
        if len(self.spacings) == 2:
            self.notes.append(f"some cases have no spacing: their distances are in {without}")
        return Scores(
            self.task, self.names, tuple(cases), overall, (), self.first, unit, self.tolerance, notes=(*self.notes,)
        )


class _Ranks(_Tally):
    """Classes of whole samples."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.votes: list[Tensor] = []
        self.targets: list[int] = []

    def enter(self, judged: Judged) -> None:
        votes, target = judged.prediction.double(), int(judged.truth.target)
        if not 0 <= target < len(votes):
            raise UsageError(f"{judged.name}: class {target}; the network tells {len(votes)} apart")
        self.votes.append(votes)
        self.targets.append(target)
        rank = int((votes > votes[target]).sum()) + 1
        figures = {"class": target, "told": int(votes.argmax()), "rank": rank, "probability": float(votes[target])}
        self.cases.append(CaseScores(judged.name, float(votes[target]), {k: (float(v),) for k, v in figures.items()}))

    def scores(self) -> Scores:
        votes, targets = torch.stack(self.votes), torch.tensor(self.targets)
        per_class = tuple(class_accuracy(votes, targets))
        overall = {**rank_figures(votes, targets), "mean_class_accuracy": _mean(per_class)}
        return Scores(self.task, self.names, tuple(self.cases), overall, per_class)


class _Disparities(_Tally):
    """Disparities of stereo pairs."""

    def enter(self, judged: Judged) -> None:
        predicted, true = judged.prediction, judged.truth.target
        if predicted.shape != true.shape:
            raise UsageError(f"{judged.name}: disparities of {spell(predicted.shape)}; expected {spell(true.shape)}")
        counted = true.isfinite() & (true < self.how.maxdisp)
        figures = disparity_figures(predicted, true, counted)
        seen = disparity_figures(predicted, true, counted & not_occluded(true))
        figures |= {f"{name}_noc": value for name, value in seen.items()}
        self.cases.append(CaseScores(judged.name, -figures["epe"], {k: (v,) for k, v in figures.items()}))

    def scores(self) -> Scores:
        scores = Scores(self.task, (), tuple(self.cases), unit="pixels")
        return replace(scores, overall={name: scores.mean(name) for name in scores.measures})


class _Values(_Tally):
    """Values, of regression and reconstruction."""

    def enter(self, judged: Judged) -> None:
        off = judged.prediction.double() - judged.truth.target.double()
        figures = {"mae": float(off.abs().mean()), "mse": float(off.square().mean())}
        self.cases.append(CaseScores(judged.name, -figures["mae"], {k: (v,) for k, v in figures.items()}))

    def scores(self) -> Scores:
        scores = Scores(self.task, (), tuple(self.cases))
        return replace(scores, overall={name: scores.mean(name) for name in scores.measures})


def _mean(values: Sequence[float]) -> float:
    """Return the mean of what is a number; NaN where nothing is."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def _count(task: str, judged: Judged, given: Shape) -> int:
    """Return how many classes, or regions, are told apart."""
    if task == "classification":
        return len(judged.prediction)
    if task == "regions":
        return given[0]
    return max(given[0], 2) if task == "segmentation" else 0


def _task(scores: Tensor, inputs: Sequence[Tensor], target: Tensor) -> str:
    """Return what a batch asks of a network, by the shapes of its output (B, ...), inputs and target.

    Raises:
        UsageError: they fit no task.
    """
    whole = not target.is_floating_point() or bool(torch.equal(target, target.round()))
    spatial = tuple(inputs[0].shape[2:])
    if scores.dim() == 2 and target.numel() == len(target) and whole:
        return "classification"
    if scores.dim() == 3 and len(inputs) == 2 and tuple(target.shape) == tuple(scores.shape):
        return "stereo"
    if scores.dim() == len(spatial) + 2 and whole and tuple(target.shape[1:]) in (spatial, (1, *spatial)):
        return "segmentation"
    if tuple(target.shape) == tuple(scores.shape):
        masks = whole and bool(((target == 0) | (target == 1) | (target == IGNORED)).all())
        return "regions" if masks and scores.dim() > 3 else "regression"
    if target.dim() == scores.dim() - 1 and scores.shape[1] == 1 and target.shape[1:] == scores.shape[2:]:
        return "regression"
    shapes = f"a target of {spell(target.shape)} for an output of {spell(scores.shape)}"
    raise UsageError(f"{named('data')}: {shapes}; expected labels, a class, masks, disparities or values")
