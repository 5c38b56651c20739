"""Cases of volumes: files of voxels that are checked against each other, read whole and normalised.

While a case is read, no more than 17 bytes a voxel are held: voxels stay as they are stored until they are normalised,
float64 a slab at a time.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ranp.data import _intensity
from ranp.data._batches import Sample
from ranp.data._fitting import Opened, fitted, whole_numbers
from ranp.data._intensity import Scale as Scale  # who applies a network's scales needs no other module of this room
from ranp.data._patches import Integers, Volume, centres_of, cut, target_of
from ranp.data._resampling import resampled
from ranp.data.dataset import TRAINING, Case, Dataset, Facts, Shape, Task, Truth, classes_in, refuse_settings
from ranp.data.geometry import Grid, axes_of, spacing_of
from ranp.data.labels import Labels, occurring_in, spell_values
from ranp.data.scans import Scan, Voxels, is_scan, open_scan, stem
from ranp.errors import UsageError, named
from ranp.options import Intensity, Pad

_CT_CASES = 30  # how many cases the foreground of a CT data set is taken from
_CT_VOXELS = 10_000  # of each of them
_IMAGES = ("imagesTr", "images", "image")
_LABELS = ("labelsTr", "labels", "label", "masks", "segmentations")


@dataclass(frozen=True)
class Sampling:
    """How cases of volumes are normalised and cut.

    Args:
        foreground: share of the patches that are centred on a labelled voxel.
        pad: what surrounds a volume that is smaller than the patch: "constant" is 0, the mean after a z-score, with
            background labels; "reflect" mirrors both.
        intensity: "zscore" of each channel of each case; "ct" clips at the 0.5 and 99.5 percentile of the data set's
            foreground, subtracts its mean and divides by its standard deviation; "none"; "auto" is what the channel
            names of the data set say, else "zscore".
        spacing: in millimetres, that all cases are resampled to; one for all axes; () leaves them as they are, and 0 an
            axis.
        axes: the order in which the axes of a file are taken, such as (2, 1, 0); () leaves them as they lie.
        scales: of each channel, as `Volumes.scales` gave them for the cases that a network was trained on; () where the
            cases themselves say.
    """

    foreground: float = 0.5
    pad: Pad = "constant"
    intensity: Intensity = "auto"
    spacing: tuple[float, ...] = ()
    axes: tuple[int, ...] = ()
    scales: tuple[Scale | None, ...] = ()


@dataclass(frozen=True)
class Volumes(Dataset[Volume]):
    """Cases of volumes and what their labels mean; a layout is a way to list them.

    Args:
        root: the folder or list they come from.
        cases: of each a file for every modality, or one whose last dimension they are.
        labels: what the values mean.
        modalities: names of the channels, () where nobody says.
        sampling: how they are normalised and cut.
        options: that name an image and a file of labels, for messages.
    """

    word: ClassVar[str] = "volumes"
    looks_like: ClassVar[str] = "images/ beside labels/, volumes with the same names; or volumes without labels"

    prepared: ClassVar[bool] = False
    """Whether files hold what a network sees: resampled and scaled."""

    root: Path
    cases: tuple[Case, ...]
    labels: Labels = field(default_factory=Labels)
    modalities: tuple[str, ...] = ()
    sampling: Sampling = field(default_factory=Sampling)
    options: tuple[str, str] = ("data", "data")
    task: Task = "segmentation"
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "task", "regions" if self.labels.regions else "segmentation")
        object.__setattr__(self, "class_names", self.labels.names)

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether a folder has volumes and labels in two folders, or a path is a volume or a folder of them."""
        if not path.is_dir():
            return path.is_file() and is_scan(path)
        return bool(_folders(path)) or is_scan(path) or any(is_scan(file) for file in path.iterdir() if file.is_file())

    @classmethod
    def open(cls, path: Path, settings: Mapping[str, Any]) -> Self:
        """Match volumes and labels by name; volumes without labels are cases without a target.

        Raises:
            UsageError: no volumes, or no labels with their names.
        """
        refuse_settings(settings, (), cls.word)
        folders = _folders(path)
        if folders is None and cls.recognises(path):
            loose = [path] if is_scan(path) else sorted(filter(is_scan, path.iterdir()))
            return cls(path, tuple(Case(stem(file), (file,)) for file in loose))
        if folders is None:
            raise UsageError(f"{named('data', path)}: expected {cls.looks_like}")
        labels = {stem(file): file for file in folders[1].iterdir() if is_scan(file)}
        cases = tuple(
            Case(stem(file), (file,), labels.get(stem(file))) for file in sorted(folders[0].iterdir()) if is_scan(file)
        )
        if all(case.target is None for case in cases):
            called = f"no labels in {folders[1].name}/ are called as {cases[0].files[0].name}"
            raise UsageError(f"{named('data', path)}: {called}")
        alone = sorted(set(labels) - {case.name for case in cases})
        if alone:
            file = labels[alone[0]]
            missing = f"no image in {folders[0].name}/ is called as {folders[1].name}/{file.name}"
            raise UsageError(f"{named('data', path)}: {missing}")
        return cls(path, cases)

    def channels(self) -> tuple[int, ...]:
        """Return the channels of the first case.

        Raises:
            UsageError: as `read`.
        """
        return (sum(part.channels for part in self._headers(self.cases[0])[0]),)

    def classes(self) -> int:
        """Return the classes, or regions, that the labels tell apart; reads all of them where only the values say."""
        return self.labels.count() or len({0, *self.occurring} - self.labels.ignored)

    @cached_property
    def occurring(self) -> tuple[int, ...]:
        """The values that occur in the labels of any case, before any map; all are read."""
        values = (occurring_in(self._values(case)) for case in self.cases if case.target is not None)
        return tuple(sorted({value for some in values for value in some}))

    def for_classes(self, classes: int) -> Self:
        """Return the same cases for a network that tells so many classes apart.

        Where nobody says what the values mean, those below `classes` are classes. Where a value lies beyond, as in
        masks of 0 and 255, the values that occur are taken in order, which is said, if there are as many of them.

        Raises:
            UsageError: labels of another number of classes.
        """
        option, count = named("classes", classes), self.labels.count()
        if count is not None:
            if count > classes or (self.labels.regions and count != classes):
                what = "regions" if self.labels.regions else "classes"
                raise UsageError(f"{option}: the labels of {self.root} tell {count} {what} apart")
            return self
        values = sorted({0, *self.occurring} - self.labels.ignored)
        if values[-1] < classes:
            return replace(self, labels=replace(self.labels, classes={value: value for value in range(classes)}))
        if len(values) == classes:
            warnings.warn(f"labels {spell_values(values)} are taken as classes 0 to {classes - 1}", stacklevel=2)
            return replace(self, labels=self.labels.of_values(values))
        wrong = [value for value in values if value >= classes]
        case = next(case for case in self.cases if case.target and np.isin(self._values(case), wrong).any())
        expected = f"expected labels 0 to {classes - 1} ({option}), found {spell_values(wrong)}"
        raise UsageError(
            f"{named(self.options[1], str(case.target))}: {expected}; {named('label_map')} says what they are"
        )

    def value_names(self) -> Mapping[int, str]:
        """Return what the values in the files are called."""
        return {value: name for name, value in self.labels.values.items()}

    def check_headers(self) -> tuple[int, ...]:
        """Read the headers of all cases, and return the channels they share.

        Raises:
            UsageError: files that don't fit each other.
            MissingExtra: a reader is not installed.
        """
        before = None
        for case in self.cases:
            channels = sum(part.channels for part in self._headers(case)[0])
            if before not in (None, channels):
                said = f"{channels} channel(s), the images before it have {before}"
                raise UsageError(f"{named(self.options[0], case.files[0])}: {said}")
            before = channels
        return (channels,)

    def check_labels(self) -> None:
        """Refuse labels that are background alone.

        Raises:
            UsageError: naming the first file.
        """
        if not {*self.occurring} - self.labels.ignored - {0}:
            more = f" (nor do the {len(self.cases) - 1} others)" if len(self.cases) > 1 else ""
            what = f"holds no label but 0, the background{more}; expected something to tell from it"
            raise UsageError(f"{named(self.options[1], str(self.cases[0].target))}: {what}")

    def read(self, case: Case) -> Volume:
        """Read a case whole and normalise it.

        Labels and further modalities whose axes point elsewhere are turned as the first's; any other difference of
        geometry is refused.

        Raises:
            UsageError: files, shapes, geometry or values that don't fit.
            MissingExtra: a reader is not installed.
        """
        parts, target = self._headers(case)
        labels = self._labels(case, target)
        image = np.empty((sum(part.channels for part in parts), *parts[0].turn.shape), np.float32)
        for number, (scan, voxels) in enumerate(self._channels_of(parts)):
            try:
                scale = self._scale(number) or _intensity.of_case(voxels)
            except ValueError as error:
                raise UsageError(f"{named(self.options[0], scan.path)}: {error}") from None
            scale.apply(voxels, image[number])
        affine = parts[0].turn.affine
        if self.sampling.spacing:
            image, labels, affine = resampled(image, labels, affine, self.sampling.spacing, parts[0].scan.path)
        return Volume(image, labels, () if labels is None else centres_of(labels, self.labels), affine)

    def draw(self, held: Volume, shapes: Sequence[Shape], rng: np.random.Generator) -> Sample:
        """Cut a patch, as `_patches.cut` says."""
        ((_, *patch),) = shapes
        return cut(held, patch, self.labels, rng, foreground=self.sampling.foreground, pad=self.sampling.pad)

    def whole(self, held: Volume) -> Sample:
        """Return a case with its labels, or with a class -1 where it has none."""
        target = torch.tensor(-1) if held.labels is None else target_of(held.labels, self.labels)
        return (torch.from_numpy(held.image),), target

    def truth(self, case: Case, held: Volume, target: Tensor) -> Truth:
        """Return the labels on the grid of the case's own file, also where cases are resampled."""
        grid = self.grid(case)
        spacing = spacing_of(grid.affine, len(grid.shape))
        if not self.sampling.spacing or case.target is None:
            return Truth(target, spacing, axes=axes_of(grid.affine))
        labels = self._labels(case, self._headers(case)[1])
        assert labels is not None
        back, axes = grid.taking(held.affine), axes_of(grid.affine)
        return Truth(target_of(labels, self.labels), spacing, back, axes=axes)

    def occurring_classes(self, case: Case) -> set[int]:
        """Return the classes, or regions, of a case; its images are not read."""
        labels = self.labels.apply(self._values(case), named(self.options[1], str(case.target)))
        return classes_in(target_of(labels, self.labels), self.task)

    def answers(self, classes: int) -> tuple[int, ...]:
        """Return the value that stands for each class, or each region."""
        return self.labels.answers(classes)

    def scales(self) -> tuple[Scale | None, ...]:
        """Return how each channel is scaled, the same in all cases; None for the z-score of each case by itself.

        Raises:
            UsageError: a CT, and no labelled case whose foreground says how.
        """
        return tuple(self._scale(number) for number in range(self.channels()[0]))

    def grid(self, case: Case) -> Grid:
        """Return where the voxels of a case's first file lie.

        Raises:
            UsageError: as `read`.
        """
        first = self._headers(case)[0][0]
        return Grid(first.turn.shape, first.turn.affine)

    def facts(self, case: Case) -> Facts:
        """Look at the headers of a case and count its labels."""
        try:
            parts, _ = self._headers(case)
            counts = {} if case.target is None else _counts(self._values(case))
        except UsageError as error:
            return Facts(problems=(str(error),))
        dims, affine = len(parts[0].turn.shape), parts[0].turn.affine
        channels = sum(part.channels for part in parts)
        return Facts((channels, *parts[0].turn.shape), spacing_of(affine, dims), axes_of(affine), counts)

    def _scan(self, path: Path, option: str) -> Scan:
        return open_scan(path, option).taken(self.sampling.axes)

    def _headers(self, case: Case) -> tuple[list[Opened], Opened | None]:
        """Open a case's images, and its labels if any, and see that they lie on one grid."""
        images = [self._scan(path, self.options[0]) for path in case.files]
        labels = self._scan(case.target, self.options[1]) if isinstance(case.target, Path) else None
        return fitted(images, labels, self.options)

    def _labels(self, case: Case, target: Opened | None) -> Integers | None:
        """Read a case's labels on the grid of its first file, as classes; None where it has none."""
        if target is None:
            return None
        where = named(self.options[1], target.scan.path)
        return self.labels.apply(target.turn.apply(self._values(case)), where)

    def _channels_of(self, parts: Sequence[Opened]) -> Iterator[tuple[Scan, Voxels]]:
        """Read a case's channels, (*spatial) each, on the grid of the first; one file is held at a time."""
        for part in parts:
            voxels = part.scan.read(self.options[0])
            stored = part.turn.apply(voxels.stored).reshape(*part.turn.shape, part.channels)
            for channel in range(part.channels):
                yield part.scan, replace(voxels, stored=stored[..., channel])

    def _values(self, case: Case) -> Integers:
        """Read the values of a case's labels, as `whole_numbers` says."""
        assert isinstance(case.target, Path)
        voxels = self._scan(case.target, self.options[1]).read(self.options[1])
        return whole_numbers(voxels, named(self.options[1], case.target))

    def _scale(self, number: int) -> Scale | None:
        """Return how a channel is scaled, the same in all cases; None where each has its own."""
        if scales := self.sampling.scales:
            if number >= len(scales):
                known = f"more than {len(scales)} channel(s), which {named('scales')} says how to scale"
                raise UsageError(f"{named('data', self.root)}: {known}")
            return scales[number]
        name = self.modalities[number] if number < len(self.modalities) else ""
        how = _intensity.for_channel(self.sampling.intensity, name)
        if how == "ct":
            return self._foregrounds[number]
        return Scale() if how == "none" else None

    @cached_property
    def _foregrounds(self) -> list[Scale]:
        """Of each channel, what a CT is scaled by: from labelled voxels of some cases."""
        labelled = self.of(TRAINING)
        if not labelled:
            expected = "expected cases with labels, whose values a CT is scaled by"
            raise UsageError(f"{named('intensity', 'ct')}: {expected}")
        values: dict[int, list[NDArray[np.float64]]] = {}
        for case in labelled[:: len(labelled) // _CT_CASES + 1]:
            parts, target = self._headers(case)
            assert target is not None
            marked = np.flatnonzero(target.turn.apply(self._values(case)))
            marked = marked[:: marked.size // _CT_VOXELS + 1]
            for number, (_, voxels) in enumerate(self._channels_of(parts)):
                some = voxels.stored.reshape(-1)[marked].astype(np.float64)
                values.setdefault(number, []).append(some * voxels.slope + voxels.intercept)
        return [_intensity.of_foreground(values[number]) for number in sorted(values)]


def files(
    images: Sequence[str | Path],
    labels: Sequence[str | Path],
    meaning: Labels | None = None,
    sampling: Sampling | None = None,
) -> Volumes:
    """Return the cases of files that are named one by one.

    Args:
        images: one file per case; the channels of a case are the last dimension of its file.
        labels: one file per image, in the same order.
        meaning: of the labels.
        sampling: how cases are normalised and cut.

    Raises:
        UsageError: no images, or not as many labels.
    """
    if not images:
        raise UsageError(f"{named('images')}: nothing given; expected at least one file of voxels")
    if len(images) != len(labels):
        counts = f"{len(labels)} given for {len(images)} {named('images')}"
        raise UsageError(f"{named('labels')}: {counts}; expected one per image, in order")
    pairs = zip(map(Path, images), map(Path, labels), strict=True)
    cases = tuple(Case(stem(image), (image,), target) for image, target in pairs)
    folder = cases[0].files[0].parent
    return Volumes(folder, cases, meaning or Labels(), (), sampling or Sampling(), ("images", "labels"))


def _counts(values: Integers) -> dict[int, int]:
    return dict(zip(*(part.tolist() for part in np.unique(values, return_counts=True)), strict=True))


def _folders(path: Path) -> tuple[Path, Path] | None:
    """Return the folders of images and of labels in a folder, if it has both, and volumes in the first."""
    pairs = [(path / image, path / label) for image in _IMAGES for label in _LABELS]
    return next(
        (pair for pair in pairs if pair[0].is_dir() and pair[1].is_dir() and any(map(is_scan, pair[0].iterdir()))), None
    )
