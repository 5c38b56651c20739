"""What every layout of files becomes: cases, found first, read one at a time, and cut to what a network takes."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar

import numpy as np
from torch import Tensor

from ranp.data._batches import Sample as Sample  # its readers need no other module of this room
from ranp.data._batches import generator
from ranp.data._maps import IGNORED
from ranp.errors import UsageError, listed, named, nearest

Shape = tuple[int, ...]
Change = Callable[..., Sample]
"""Of a sample and, as `rng`, the generator of its numbers."""
_ORDER = 2**48  # where the orders of epochs are drawn: indices no sample has
Task = Literal["segmentation", "regions", "classification", "stereo"]
TRAINING, VALIDATION, TESTING = "training", "validation", "testing"
Read = TypeVar("Read")


@dataclass(frozen=True)
class Case:
    """One case on the disk, found and not read.

    Args:
        name: the case's own, as its files are called.
        files: what the inputs are read from: the modalities of a scan, a left and a right image, a clip.
        target: the file of its labels or disparities, its class, or None where it has none.
        split: "training", "validation", "testing", or "" where the layout does not say.
    """

    name: str
    files: tuple[Path, ...]
    target: Path | int | None = None
    split: str = ""


@dataclass(frozen=True)
class Facts:
    """What one case holds.

    Args:
        shape: of its image or clip: (C, *spatial), of a clip (C, frames, H, W); of points (number of points, 3).
        spacing: of its voxels in millimetres, or () where the files say none.
        axes: which way its axes point, as "RAS", or "".
        labels: how many voxels or pixels have each value as the file has it, before any map; of a class its number: 1.
        problems: what is wrong with it, a line each; a case with problems may lack the rest.
    """

    shape: Shape = ()
    spacing: tuple[float, ...] = ()
    axes: str = ""
    labels: Mapping[int, int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Truth:
    """What the scores of a whole case are compared with.

    Args:
        target: as `Dataset.draw`'s.
        spacing: between its voxels in millimetres, or () where nobody says.
        back: brings scores (K, *spatial) of `Dataset.views` onto the target's grid; None where they lie on it.
        group: what kind of thing the case is, where quality is said for each kind.
        classes: that a thing of this kind has.
        axes: which way those of the target point, as "RAS", or "".
    """

    target: Tensor
    spacing: tuple[float, ...] = ()
    back: Callable[[Tensor], Tensor] | None = None
    group: str = ""
    classes: tuple[int, ...] = ()
    axes: str = ""


class Dataset(ABC, Generic[Read]):
    """Cases of one layout.

    A layout is a subclass in `ranp/data/layouts/`: it knows its folder when it sees it, lists the cases, reads one, and
    draws samples from what it read. Files are opened to list the cases only where the layout's own lists need it.
    """

    word: ClassVar[str]
    """Its name, as in `--data WORD:PATH`."""
    looks_like: ClassVar[str]
    """The files that it is known by, in a few words."""

    root: Path
    task: Task
    cases: tuple[Case, ...]
    class_names: tuple[str, ...]
    """Of the classes (of regions: the channels), in the network's order; () where only the values that occur tell."""

    @classmethod
    @abstractmethod
    def recognises(cls, path: Path) -> bool:
        """Whether a folder or file is of this layout, by its names alone; never raises."""

    @classmethod
    @abstractmethod
    def open(cls, path: Path, settings: Mapping[str, Any]) -> Self:
        """List the cases of a folder or file.

        Args:
            path: which `recognises` need not have accepted: the user may have named the layout.
            settings: --set-data, of the layout's own names.

        Raises:
            UsageError: naming --data, the path, what was found and what was expected; or a setting it has not.
        """

    @abstractmethod
    def channels(self) -> tuple[int, ...]:
        """Return the channels of each input, read off the first case's header."""

    @abstractmethod
    def classes(self) -> int | None:
        """Return how many classes (of regions: channels) a network tells apart; None of stereo. May read all labels."""

    @abstractmethod
    def read(self, case: Case) -> Read:
        """Read what is held of a case while samples are drawn from it.

        Raises:
            UsageError: a file that is missing, damaged or does not fit, with its path, what was found and expected.
        """

    @abstractmethod
    def draw(self, held: Read, shapes: Sequence[Shape], rng: np.random.Generator) -> Sample:
        """Draw one sample from a case: inputs of these shapes (C, *spatial), and their target.

        Targets are int64 labels (*spatial) or a class (); of regions float32 masks (regions, *spatial); of stereo
        float32 disparities (H, W), inf where unknown.

        Raises:
            UsageError: shapes that the case can't give, naming --patch.
        """

    @abstractmethod
    def whole(self, held: Read) -> Sample:
        """Return a case as it is, for a picture: inputs (C, *spatial) as they are fed, and a target like `draw`'s."""

    def views(self, held: Read, shapes: Sequence[Shape]) -> Sequence[Sample]:
        """Return what a network looks at to judge a case: the whole, or several parts whose scores are averaged.

        Args:
            held: of `read`.
            shapes: of the network's inputs, (C, *spatial).
        """
        del shapes
        return [self.whole(held)]

    def truth(self, case: Case, held: Read, target: Tensor) -> Truth:
        """Return what scores are compared with: by default the target of the views."""
        del case, held
        return Truth(target)

    def answers(self, classes: int) -> tuple[int, ...]:
        """Return the value in a file of labels that stands for each class; () where that is not one value."""
        del classes
        return ()

    def occurring_classes(self, case: Case) -> set[int]:
        """Return the classes, or regions, that a case with a target has.

        Raises:
            UsageError: as `read`.
        """
        if isinstance(case.target, int):
            return {case.target}
        return classes_in(self.whole(self.read(case))[1], self.task)

    @abstractmethod
    def facts(self, case: Case) -> Facts:
        """Look at a case, and say what is in it; what is wrong becomes a problem and does not raise."""

    def value_names(self) -> Mapping[int, str]:
        """Return what the values are called that `facts` counts; nothing where nobody says."""
        return dict(enumerate(self.class_names))

    def for_classes(self, classes: int) -> Self:
        """Return the same cases for a network that tells so many classes apart.

        Raises:
            UsageError: they are of another number.
        """
        if self.classes() != classes:
            what = f"the {self.word} cases of {self.root} are of {self.classes()}"
            raise UsageError(f"{named('classes', classes)}: {what}")
        return self

    def with_cases(self, cases: Sequence[Case]) -> Self:
        """Return a data set of other cases of the same layout."""
        other = copy.copy(self)
        object.__setattr__(other, "cases", tuple(cases))  # layouts may be frozen
        return other

    def folded(self, fold: int, parts: int) -> Self:
        """Return the training cases, the `fold`-th of so many parts of them, in a drawn order, for validation.

        Raises:
            UsageError: no such part, or fewer cases than parts.
        """
        training = self.of(TRAINING)
        if parts < 2 or not 0 <= fold < parts or parts > len(training):
            expected = f"expected K/N, a part K from 0 on of N parts, at most one for each of {len(training)} cases"
            raise UsageError(f"{named('fold', f'{fold}/{parts}')}: {expected}")
        order = generator(0, _ORDER).permutation(len(training))
        held_out = {training[place].name for place in order[fold::parts].tolist()}
        splits = [VALIDATION if case.name in held_out else TRAINING for case in training]
        return self.with_cases([replace(case, split=split) for case, split in zip(training, splits, strict=True)])

    def of(self, split: str) -> tuple[Case, ...]:
        """Return the cases of a split; all that have a target where the layout knows no splits."""
        splits = {case.split for case in self.cases} - {""}
        return tuple(case for case in self.cases if case.target is not None and (not splits or case.split == split))


@dataclass
class Drawn:
    """The k-th sample of cases, the same whichever samples were drawn before.

    Args:
        dataset: whose cases they are.
        cases: to draw from.
        shapes: of the inputs, (C, *spatial).
        seed: of every draw.
        total: how many samples there are.
        shuffled: whether every pass draws one sample of each case, in a new order; else the cases come in turn, each
            for as many samples in a row as it gives.
        hold: how many cases are kept once they were read.
        change: what is done to every sample, such as an augmentation.
    """

    dataset: Dataset[Any]
    cases: Sequence[Case]
    shapes: Sequence[Shape]
    seed: int
    total: int
    shuffled: bool = False
    hold: int = 1
    change: Change | None = None
    _held: dict[int, Any] = field(default_factory=dict, init=False, repr=False)

    def __call__(self, index: int) -> Sample:
        """Draw the sample of an index."""
        place = self._place(index)
        if place not in self._held:
            while len(self._held) >= self.hold:  # the oldest goes first: never one more than is held
                del self._held[next(iter(self._held))]
            self._held[place] = self.dataset.read(self.cases[place])
        rng = generator(self.seed, index)
        sample = self.dataset.draw(self._held[place], self.shapes, rng)
        return sample if self.change is None else self.change(sample, rng=rng)

    def _place(self, index: int) -> int:
        if not self.shuffled:
            return index * len(self.cases) // self.total
        epoch, number = divmod(index, len(self.cases))
        return int(generator(self.seed, _ORDER + epoch).permutation(len(self.cases))[number])


def classes_in(target: Tensor, task: Task) -> set[int]:
    """Return the classes of labels (*spatial), or the regions of masks (regions, *spatial) that are not empty."""
    if task == "regions":
        return {number for number, mask in enumerate(target) if bool((mask == 1).any())}
    return {int(value) for value in target.unique()} - {IGNORED}


def refuse_settings(settings: Mapping[str, Any], known: Sequence[str], layout: str) -> None:
    """Refuse --set-data of names that a layout has not.

    Raises:
        UsageError: the first; the nearest is given.
    """
    for key in settings:
        if key not in known:
            has = f"expected {listed(known)}{nearest(key, known)}" if known else "it has none"
            raise UsageError(f"{named('data_settings', key, flag='--set-data')}: no setting of {layout}; {has}")
