"""What --data, --images and --labels name: where batches for a network come from, and what they must fit.

A SOURCE is the word of a generator, a path whose layout is recognised, LAYOUT:PATH, or a loader of the user's own,
`file.py:function`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import inf
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from ranp.data import volumes
from ranp.data._batches import Sample, Source, generator
from ranp.data._generators import generated
from ranp.data._intensity import Scale
from ranp.data._shapes import part_names, shapes
from ranp.data.augment import augmented
from ranp.data.dataset import TRAINING, Change, Dataset, Drawn, Task, refuse_settings
from ranp.data.labels import Labels
from ranp.data.layouts import LAYOUTS, open_dataset
from ranp.data.loaders import Loader, load, names_loader
from ranp.data.paired import Key
from ranp.data.volumes import Sampling, Volumes
from ranp.errors import UsageError, listed, named, nearest
from ranp.figures import spell
from ranp.inputs import flatten
from ranp.options import Augmentation

Shape = tuple[int, ...]
PHANTOM, SHAPES, NIFTI = "phantom", "shapes", "nifti"
GENERATORS = (PHANTOM, SHAPES)
_CHANGES = 2**49  # where changes of generated samples are drawn: indices no sample has


@dataclass(frozen=True)
class Drawing:
    """How many batches are drawn, and from which numbers.

    Args:
        batches: how many.
        batch_size: samples in each.
        seed: of everything drawn.
        workers: processes that draw ahead.
        maxdisp: of a stereo network: generated disparities stay below it.
        below: of every input the number its whole numbers are below; () where all are real.
        names: of keyword inputs of what is generated.
        dtypes: of the inputs of what is generated.
        values: generated targets are real numbers of the output's shape, no classes.
        training: whether cases come in a new order at every pass.
        hold: how many cases are kept once they were read.
        augment: how samples are changed.
    """

    batches: int = 8
    batch_size: int = 1
    seed: int = 0
    workers: int = 0
    maxdisp: int = 192
    below: tuple[int | None, ...] = ()
    names: tuple[str, ...] = ()
    dtypes: tuple[torch.dtype, ...] = ()
    values: bool = False
    training: bool = False
    hold: int = 1
    augment: Augmentation = "none"

    def change(self, task: str) -> Change | None:
        """Return what is done to every sample of a task, None for nothing."""
        return None if self.augment == "none" else partial(augmented, kind=self.augment, task=task)


@dataclass(frozen=True)
class _Changed:
    """Samples that are changed, each by numbers of its own."""

    sample: Callable[[int], Sample]
    change: Change
    seed: int

    def __call__(self, index: int) -> Sample:
        return self.change(self.sample(index), rng=generator(self.seed, _CHANGES + index))


@dataclass(frozen=True)
class Reading:
    """How files are read: --label-map, --ignore-label, --regions, and how volumes are normalised and cut.

    Args:
        label_map: --label-map, "" without one.
        ignore_label: --ignore-label.
        regions: --regions, "" without any.
        sampling: of volumes.
    """

    label_map: str = ""
    ignore_label: int | None = None
    regions: str = ""
    sampling: Sampling = field(default_factory=Sampling)

    def of(self, labels: Labels) -> Labels:
        """Return what labels mean, as the user says.

        Raises:
            UsageError: a map or regions that are none, or both.
        """
        if self.label_map and self.regions:
            raise UsageError(f"{named('label_map')} and {named('regions')}: give one of them")
        if self.label_map:
            labels = labels.mapped(self.label_map)
        if self.regions:
            labels = labels.split_into(self.regions)
        return labels if self.ignore_label is None else labels.ignoring(self.ignore_label)


class FromNumbers:
    """A generator: it follows the network."""

    task: Task | None = None

    def __init__(self, word: str, settings: Mapping[str, Any]) -> None:
        self.word = word
        refuse_settings(settings, ("background",) if word == SHAPES else (), word)
        self._settings = settings

    def channels(self) -> tuple[int, ...]:
        """Return the channels that a network for it has: none are asked for."""
        return ()

    def classes(self) -> int | None:
        """Return the classes that a network for it has: none are asked for."""
        return None

    def batches(self, input_shapes: Sequence[Shape], output: Shape, how: Drawing) -> Source:
        """Return generated batches for a network of these inputs and this output, without the batch.

        Raises:
            UsageError: a network that gives no score per voxel and class, for shapes.
        """
        if self.word == SHAPES:
            (channels, *patch), *more = input_shapes
            if more or len(output) != len(patch) + 1:
                gives = f"{len(input_shapes)} input(s) to an output of {spell(output)}"
                raise UsageError(
                    f"{named('data', SHAPES)}: needs one image to a score per voxel and class; this is {gives}"
                )
            source = shapes(patch, channels, output[0], how.batches, how.batch_size, how.seed, **self._settings)
        else:
            source = generated(
                input_shapes, output, how.batches, how.batch_size, how.seed, maxdisp=how.maxdisp, below=how.below,
                values=how.values,
            )  # fmt: skip
        change = how.change("stereo" if output == tuple(input_shapes[0][1:]) else "segmentation")
        if change is not None:
            source = replace(source, sample=_Changed(source.sample, change, how.seed))
        return replace(source, names=how.names, dtypes=how.dtypes, workers=how.workers)

    def names(self, classes: int) -> tuple[str, ...]:
        """Return the names of so many classes, () where they have none."""
        return part_names(classes, **self._settings) if self.word == SHAPES else ()

    def said(self) -> str:
        """Say what is drawn from."""
        what = "phantoms" if self.word == PHANTOM else self.word
        return f"{what}, which are generated, not your data"

    def input_shapes(self) -> None:
        """It follows the network's."""


class FromFiles:
    """Cases on the disk: a network has to fit them."""

    def __init__(self, word: str, dataset: Dataset[Any], *, targets: bool = True) -> None:
        self.word = word
        self.dataset = dataset
        self.task: Task | None = dataset.task
        self._training = dataset.of(TRAINING)
        self._told_apart: dict[int, Dataset[Any]] = {}
        if targets and not any(case.target is not None for case in dataset.cases):
            raise UsageError(f"{named('data', word)}: no case has a target to train on")

    def channels(self) -> tuple[int, ...]:
        """Return the channels of every input of a network for these cases."""
        return self.dataset.channels()

    def classes(self) -> int | None:
        """Return the classes that a network for these cases tells apart; None of stereo."""
        return self.dataset.classes()

    def batches(self, input_shapes: Sequence[Shape], output: Shape, how: Drawing) -> Source:
        """Return batches of samples from the training cases.

        Args:
            input_shapes: of every input, (C, *spatial).
            output: shape of the network's output, (classes, *spatial), (classes,), or (H, W) of stereo.
            how: they are drawn.

        Raises:
            UsageError: a network that does not fit the cases, or a first case that can't be read.
        """
        dataset = self.fitted(input_shapes, output)
        cases = dataset.of(TRAINING)
        if not cases:
            raise UsageError(f"{named('data', self.word)}: no case has a target to train on")
        total, change = how.batches * how.batch_size, how.change(dataset.task)
        drawn = Drawn(dataset, cases, tuple(input_shapes), how.seed, total, how.training, how.hold, change)
        source = Source(drawn, how.batches, how.batch_size, how.workers)
        drawn(0)
        return source

    def fitted(self, input_shapes: Sequence[Shape], output: Shape) -> Dataset[Any]:
        """Return the cases as a network of these inputs and this output is compared with them.

        Args:
            input_shapes: as of `batches`.
            output: as of `batches`.

        Raises:
            UsageError: a network that does not fit the cases.
        """
        channels, takes = self.dataset.channels(), tuple(shape[0] for shape in input_shapes)
        if len(channels) != len(takes):
            what = f"{len(channels)} image(s) a sample, the network takes {len(takes)} input(s)"
            raise UsageError(f"{named('data', self.word)}: {what}")
        if channels != takes:
            takes_words = f"the network takes {spell_each(takes)} ({named('channels', flag='--in-channels')})"
            raise UsageError(f"{named('data', self.word)}: {spell_each(channels)} channel(s), {takes_words}")
        task, dims = self.dataset.task, len(input_shapes[0]) - 1
        expected = {
            "segmentation": ("a score per voxel and class", len(output) == dims + 1),
            "regions": ("a score per voxel and region", len(output) == dims + 1),
            "classification": ("a score per class", len(output) == 1),
            "stereo": ("a disparity per pixel", tuple(output) == tuple(input_shapes[0][1:])),
        }
        words, fits = expected[task]
        if not fits:
            gives = f"the network gives an output of {spell(output)}"
            raise UsageError(f"{named('data', self.word)}: {task} needs {words}; {gives}")
        return self._telling(output[0])[1]

    def _telling(self, outputs: int) -> tuple[int, Dataset[Any]]:
        """Return how many classes a network of so many outputs tells apart, and the cases for it; the same each time.

        What a data set has found out of its files, such as the foreground a CT is scaled by, it finds out once so.
        """
        if self.dataset.task == "stereo":
            return outputs, self.dataset
        classes = 2 if outputs == 1 and self.dataset.task == "segmentation" else outputs
        if classes not in self._told_apart:
            self._told_apart[classes] = self.dataset.for_classes(classes)
        return classes, self._told_apart[classes]

    def learned(self, classes: int) -> dict[str, Any]:
        """Return what a network of so many classes that is trained on these cases has to know of them, as plain values.

        Returns:
            `names` of the classes; `values`: in a file of labels, what stands for each class; [] where that is not one
            value. Of volumes also `regions`: the values that each is made of; and `scales`: of each channel mean, sd,
            low and high (None where nothing is clipped), or None for the z-score of each case.
        """
        count, dataset = self._telling(classes)
        found: dict[str, Any] = {"names": list(dataset.class_names), "values": list(dataset.answers(count))}
        if isinstance(dataset, volumes.Volumes):
            found["regions"] = [sorted(region) for region in dataset.labels.regions]
            found["scales"] = [None if scale is None else scale.to_plain() for scale in dataset.scales()]
        return found

    def never(self, outputs: int) -> tuple[str, ...]:
        """Return the classes, or regions, that no training case has, of a network of so many outputs; by name.

        Cases are read until all were seen: all of them only where one is missing.
        """
        if self.dataset.task == "stereo":
            return ()
        count, dataset = self._telling(outputs)
        left = set(range(count))
        for case in dataset.of(TRAINING):
            left -= dataset.occurring_classes(case)
            if not left:
                return ()
        names = self.names(count)
        word = "region" if dataset.task == "regions" else "class"
        return tuple(names[number] if names else f"{word} {number}" for number in sorted(left))

    def input_shapes(self) -> None:
        """Patches are cut as the network wants them."""

    def names(self, classes: int) -> tuple[str, ...]:
        """Return the names of the classes, () where the cases do not say or there are not so many."""
        known = tuple(self.dataset.class_names)
        return known if len(known) == classes else ()

    def said(self) -> str:
        """Say what is drawn from."""
        dataset, count = self.dataset, len(self._training)
        what = "image" if self.word == NIFTI else f"{dataset.word} case"
        return f"{count} {what}{'s'[: count != 1]}"


class FromLoader:
    """A loader of the user's own: its batches are what they are."""

    task: Task | None = None

    def __init__(self, word: str, loader: Loader) -> None:
        self.word = word
        self._loader = loader
        self._shapes = [tuple(tensor.shape[1:]) for tensor in flatten(loader.first()[0])]

    def channels(self) -> tuple[int, ...]:
        """Return the channels of every input."""
        return tuple(shape[0] for shape in self._shapes if shape)

    def classes(self) -> None:
        """A loader does not say."""

    def count(self) -> int | None:
        """Return how many batches there are, None where it does not say."""
        try:
            return len(self._loader)
        except TypeError:
            return None

    def input_shapes(self) -> list[Shape]:
        """Return the shapes of the inputs of its first batch, without the batch."""
        return self._shapes

    def batches(self, input_shapes: Sequence[Shape], output: Shape, how: Drawing) -> Loader:
        """Return its batches, of any network; what does not fit is said by the network or the loss."""
        del input_shapes, output
        return replace(self._loader, batches=how.batches, seed=how.seed)

    def names(self, classes: int) -> tuple[str, ...]:
        """Return no names: a loader does not say."""
        del classes
        return ()

    def said(self) -> str:
        """Say what is drawn from."""
        return f"batches of {self.word}"


Opened = FromNumbers | FromFiles | FromLoader


def open_source(
    source: str | None,
    images: Sequence[Path] = (),
    labels: Sequence[Path] = (),
    *,
    settings: Mapping[str, Any] = MappingProxyType({}),
    keys: str = "image,label",
    reading: Reading | None = None,
    trusted: bool = True,
    targets: bool = True,
) -> Opened:
    """Open what the user names; files are listed and looked at, and no network is needed.

    Args:
        source: --data; None is a phantom, or the files of --images and --labels.
        images: --images.
        labels: --labels.
        settings: --set-data.
        keys: --keys, of a loader's dicts.
        reading: how files are read.
        trusted: whether the user named it; a loader that a run's files name is never called.
        targets: whether files of which none has a target are refused.

    Raises:
        UsageError: no such source, files that are missing or don't fit each other, or options that it has no use for.
        MissingExtra: a reader is not installed.
    """
    reading = reading or Reading()
    word = source or (NIFTI if images or labels else PHANTOM)
    if (images or labels) and word != NIFTI:
        raise UsageError(
            f"{named('images')} and {named('labels')}: are the data themselves; leave out {named('data', word)}"
        )
    if word == NIFTI:
        listed_files = volumes.files(images, labels, reading.of(Labels()), reading.sampling)
        listed_files.check_headers()
        listed_files.check_labels()
        return FromFiles(NIFTI, listed_files)
    if word in GENERATORS:
        if reading != Reading():
            raise UsageError(f"{named('data', word)}: is generated; label maps and how files are read are of files")
        return FromNumbers(word, settings)
    if names_loader(word, (layout.word for layout in LAYOUTS)):
        return FromLoader(word, load(word, settings, read_keys(keys), trusted=trusted))
    known = [*GENERATORS, NIFTI, *(f"{layout.word}:PATH" for layout in LAYOUTS)]
    if ":" not in word and not Path(word).expanduser().exists():
        close = nearest(word, [*GENERATORS, NIFTI])
        raise UsageError(f"{named('data', word)}: no such file or folder, nor one of {listed(known)}{close}")
    dataset = open_dataset(word, settings)
    if isinstance(dataset, Volumes):
        dataset = replace(dataset, labels=reading.of(dataset.labels), sampling=reading.sampling)
    elif reading != Reading():
        raise UsageError(
            f"{named('data', word)}: label maps and how volumes are read are of volumes, not of {dataset.word}"
        )
    return FromFiles(word, dataset, targets=targets)


def read_keys(text: str) -> tuple[Key, Key]:
    """Read --keys: those of the inputs and of the target of a dict; several inputs are joined by +.

    >>> read_keys("image,label"), read_keys("t1+t2,seg")
    (('image', 'label'), (('t1', 't2'), 'seg'))

    Raises:
        UsageError: not two, or an empty one.
    """
    parts = [tuple(key.strip() for key in part.split("+")) for part in text.split(",")]
    if len(parts) != 2 or not all(all(keys) for keys in parts):
        raise UsageError(
            f"{named('keys', text)}: expected those of the inputs and the target: image,label or t1+t2,seg"
        )
    inputs, target = (keys if len(keys) > 1 else keys[0] for keys in parts)
    return inputs, target


def read_spacing(text: str | None) -> tuple[float, ...]:
    """Read --spacing; an axis of 0 stays as it is.

    >>> read_spacing("1.5x1.5x3"), read_spacing(None)
    ((1.5, 1.5, 3.0), ())

    Raises:
        UsageError: no numbers between `x`, of which at least one is positive.
    """
    if text is None:
        return ()
    try:
        lengths = tuple(map(float, text.lower().split("x")))
    except ValueError:
        lengths = ()
    if not any(lengths) or not all(0 <= length < inf for length in lengths):
        raise UsageError(f"{named('spacing', text)}: expected millimetres such as 1.5 or 1.5x1.5x3")
    return lengths


def read_axes(text: str | None) -> tuple[int, ...]:
    """Read --axes.

    >>> read_axes("zyx"), read_axes(None)
    ((2, 1, 0), ())

    Raises:
        UsageError: no order of x, y and, of volumes, z.
    """
    if text is None:
        return ()
    if sorted(text.lower()) not in (["x", "y"], ["x", "y", "z"]):
        raise UsageError(f"{named('axes', text)}: expected an order of the axes of a file, such as zyx or yx")
    return tuple("xyz".index(letter) for letter in text.lower())


def read_scales(text: str | None) -> tuple[Scale | None, ...]:
    """Read --scales: of each channel mean, standard deviation and bounds, or None for the z-score of each case.

    >>> read_scales("zscore,40:350:-1000:1000"), read_scales(None)
    ((None, Scale(mean=40.0, sd=350.0, low=-1000.0, high=1000.0)), ())

    Raises:
        UsageError: a channel that is neither.
    """

    def of(word: str) -> Scale | None:
        if word == "zscore":
            return None
        try:
            numbers = [float(number) for number in word.split(":")]
        except ValueError:
            numbers = []
        if len(numbers) not in (2, 4) or not 0 < numbers[1] < inf or not abs(numbers[0]) < inf:
            raise UsageError(f"{named('scales', text)}: expected zscore, MEAN:SD or MEAN:SD:LOW:HIGH, found {word!r}")
        return Scale(*numbers)

    return () if text is None else tuple(map(of, text.lower().split(",")))


def spell_scales(scales: Sequence[Scale | None]) -> str | None:
    """Return what `read_scales` reads as these; None for none.

    >>> spell_scales((None, Scale(0.5, 2.0))), spell_scales(())
    ('zscore,0.5:2.0:-inf:inf', None)
    """
    words = ["zscore" if each is None else f"{each.mean!r}:{each.sd!r}:{each.low!r}:{each.high!r}" for each in scales]
    return ",".join(words) or None


def spell_each(counts: Sequence[int]) -> str:
    """Return numbers as words.

    >>> spell_each((3, 3))
    '3 and 3'
    """
    return listed(map(str, counts), "and")
