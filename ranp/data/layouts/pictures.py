"""Pictures with masks, as PASCAL VOC or in two folders, and pictures in folders of their classes.

    VOC (VOCdevkit/VOC2012)                       two folders
        JPEGImages/*.jpg                              images/*.png
        SegmentationClass/*.png                       labels/*.png or masks/*.png
        ImageSets/Segmentation/{train,val}.txt        (or {train,val,test}/images, ...)
    class folders
        CLASS/*.jpg ...   or   {train,val,test}/CLASS/*.jpg ...

VOC is that of Everingham et al., IJCV 2010, http://host.robots.ox.ac.uk/pascal/VOC: 20 classes and the background.

Of a picture with a mask the same random place is cropped from both; one that is smaller than the patch is padded at its
far ends, with the mean and label 255. The label 255 is ignored. In two folders the classes are the labels that occur in
any mask, in their order, and 0; masks of 0 and 255 alone are two classes. A picture of known class is resized as clips
are, its shorter side to 8/7 of the patch's (256 for 224), and a random place is cropped. Pixels are normalised by
ImageNet's mean and deviation, grey ones by the mean of its colours'.

Settings (--set-data): `channels` (1 or 3; those of the first picture), `mean` and `sd` (of pixels from 0 to 1); of VOC
`train` and `val` (the lists, such as trainaug) and `masks` (their folder, such as SegmentationClassAug); of two folders
`classes` (masks hold 0 to classes - 1 and 255, and are not looked through); of class folders `resize`.
"""

import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray

from ranp.data.dataset import TESTING, TRAINING, VALIDATION, Case, Dataset, Facts, Sample, Shape
from ranp.data.layouts._folders import (
    by_class,
    by_stem,
    check_there,
    files,
    folders,
    holds_classes,
    lines,
    name_of,
    splits,
)
from ranp.data.layouts._pillow import LOSSLESS, header, read_labels, read_picture, resized
from ranp.data.layouts._pillow import PICTURES as PICTURES
from ranp.data.layouts._pixels import IMAGENET, Scaling, anywhere, covering, middle, padded, spatial_size
from ranp.data.layouts._settings import Settings, named_setting
from ranp.errors import UsageError, listed, named
from ranp.figures import spell

_IGNORED = 255
_SHOWN = 5  # labels that a message lists
_SETTINGS = ("channels", "mean", "sd")
_VOC = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)


class _Pictures(Dataset[tuple[NDArray[Any], NDArray[np.int64]]]):
    """Pictures that were found. What is held of one is its pixels (H, W, C), and its labels (H, W) or its class ()."""

    def __init__(self, root: Path, cases: Sequence[Case], class_names: tuple[str, ...], settings: Settings) -> None:
        self.root, self.cases, self.class_names = root, tuple(cases), class_names
        mean, sd = IMAGENET
        self.scaling = Scaling(settings.numbers("mean", mean), settings.numbers("sd", sd, above_zero=True))
        self.asked = settings.whole("channels", None)
        if self.asked not in (None, 1, 3):
            raise UsageError(f"{named_setting(f'channels={self.asked}')}: expected 1 or 3")
        self.shorter = settings.whole("resize", None)
        self.declared = settings.whole("classes", None, 2, _IGNORED)

    def channels(self) -> tuple[int, ...]:
        """Return 1 or 3, as the first picture has; the others are turned into that."""
        return (self._channels,)

    @cached_property
    def _channels(self) -> int:
        return self.asked or header(self.cases[0].files[0])[0]

    def _size(self, shapes: Sequence[Shape]) -> Shape:
        return spatial_size(shapes, self.channels(), "a picture", "224x224")


class _Masked(_Pictures):
    """Pictures with a mask each."""

    task = "segmentation"
    _padding_said = False

    def read(self, case: Case) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Read a picture and its labels, as classes; where it has none all are 255.

        Raises:
            UsageError: a file is damaged, the sizes differ, or a label is none of the classes.
        """
        pixels, labels = self._as_it_is(case)
        if isinstance(case.target, Path):
            labels = self._as_classes(labels, case.target)
        return pixels, labels

    def draw(
        self, held: tuple[NDArray[Any], NDArray[np.int64]], shapes: Sequence[Shape], rng: np.random.Generator
    ) -> Sample:
        """Draw one crop (C, H, W) and its labels (H, W); padded where it is smaller, which is said once.

        Raises:
            UsageError: shapes that are no picture's.
        """
        pixels, labels = held
        patch = self._size(shapes)
        place = anywhere(labels.shape, patch, rng)
        image, target = self.scaling(pixels[place]), torch.from_numpy(labels[place].copy())
        if target.shape != patch and not self._padding_said:
            self._padding_said = True
            size = f"{named('patch', spell(patch))}: larger than a picture of {spell(labels.shape)}"
            warnings.warn(f"{size}, and others: padded with the mean, and label {_IGNORED}", stacklevel=2)
        return (padded(image, patch, 0),), padded(target, patch, _IGNORED)

    def whole(self, held: tuple[NDArray[Any], NDArray[np.int64]]) -> Sample:
        """Return a picture and its labels at their full size."""
        pixels, labels = held
        return (self.scaling(pixels),), torch.from_numpy(labels.copy())

    def facts(self, case: Case) -> Facts:
        """Read a picture and count the labels of its mask as they are in the file."""
        try:
            pixels, labels = self._as_it_is(case)
            if isinstance(case.target, Path) and (self.class_names or self.declared):  # no need of the other masks
                self._as_classes(labels, case.target)
        except UsageError as error:
            return Facts(problems=(str(error),))
        shape = (pixels.shape[2], *labels.shape)
        return Facts(shape=shape, labels=_counted(labels) if case.target is not None else {})

    def _as_it_is(self, case: Case) -> tuple[NDArray[Any], NDArray[np.int64]]:
        pixels = read_picture(case.files[0], self._channels)
        if not isinstance(case.target, Path):
            return pixels, np.full(pixels.shape[:2], _IGNORED, np.int64)
        labels = read_labels(case.target)
        if labels.shape != pixels.shape[:2]:
            expected = f"expected {spell(pixels.shape[:2])}, as {case.files[0]}"
            raise UsageError(f"{named('data', case.target)}: a mask of {spell(labels.shape)}; {expected}")
        return pixels, labels

    def _as_classes(self, labels: NDArray[np.int64], file: Path) -> NDArray[np.int64]:
        """Return the class of each label, 255 where it is ignored."""
        classes = self._classes
        table = np.full(max(_IGNORED, *classes) + 1, -1, np.int64)
        table[_IGNORED] = _IGNORED
        table[list(classes)] = np.arange(len(classes))  # 255 is a class where it is the only one beside 0
        if labels.max() >= len(table) or (table[labels] < 0).any():
            wrong = np.setdiff1d(np.unique(labels), [*classes, _IGNORED])
            more = f" and {wrong.size - _SHOWN} more" if wrong.size > _SHOWN else ""
            shown = ", ".join(map(str, wrong[:_SHOWN].tolist())) + more
            expected = f"expected 0 to {len(classes) - 1}, and {_IGNORED} where it is ignored"
            raise UsageError(f"{named('data', file)}: a mask with label {shown}; {expected}")
        return table[labels]

    def answers(self, classes: int) -> tuple[int, ...]:
        """Return the labels that are classes, in their order."""
        return self._classes if len(self._classes) == classes else ()

    @property
    def _classes(self) -> tuple[int, ...]:
        """The labels that are classes, in their order."""
        return tuple(range(len(self.class_names)))


def _counted(labels: NDArray[np.int64]) -> dict[int, int]:
    values, counts = np.unique(labels, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


class Voc(_Masked):
    """PASCAL VOC's segmentation, of one year; the lists train and val are the splits, test where it is there."""

    word: ClassVar[str] = "voc"
    looks_like: ClassVar[str] = "ImageSets/Segmentation/train.txt, JPEGImages/*.jpg, SegmentationClass/*.png"

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether the folder, or `VOCdevkit/VOC*` in it, holds lists of segmentation."""
        return bool(_years(path))

    @classmethod
    def open(cls, path: Path, settings: Mapping[str, Any]) -> Self:
        """List the pictures of the lists.

        Raises:
            UsageError: several years, no list, or a list that names a file that is not there.
        """
        known = Settings(cls.word, settings, ("train", "val", "masks", *_SETTINGS))
        years = _years(path)
        if len(years) != 1:
            shown = f"several years, {listed([p.name for p in years], 'and')}" if years else "no year of VOC"
            raise UsageError(f"{named('data', path)}: holds {shown}; expected one, with {cls.looks_like}")
        (year,) = years
        lists, masks = year / "ImageSets" / "Segmentation", year / known.word("masks", "SegmentationClass")
        cases = []
        for word, split in (("train", TRAINING), ("val", VALIDATION), ("test", TESTING)):
            name = known.word(word, word) if word != "test" else word
            file = lists / f"{name}.txt"
            if word in settings:
                check_there(file, named_setting(f"{word}={name}"))
            for number, stem in lines(file) if file.is_file() else ():
                where = f"line {number} of {file}"
                picture = check_there(year / "JPEGImages" / f"{stem}.jpg", where)
                mask = masks / f"{stem}.png"
                target = None if split == TESTING and not mask.is_file() else check_there(mask, where)
                cases.append(Case(stem, (picture,), target, split))
        if not cases:
            raise UsageError(f"{named('data', lists)}: lists no picture; expected names in train.txt or val.txt")
        return cls(year, cases, _VOC, known)

    def classes(self) -> int:
        """Return 21: the background and VOC's classes."""
        return len(_VOC)


def _years(path: Path) -> list[Path]:
    """Return the folders of one year each: the folder itself, or those in it, or in `VOCdevkit/` in it."""
    try:
        for place in ((path,), path.glob("VOC*"), path.glob("VOCdevkit/VOC*")):
            if years := sorted(year for year in place if (year / "ImageSets" / "Segmentation").is_dir()):
                return years
    except OSError:
        pass
    return []


class Masks(_Masked):
    """Pictures and masks of one name in two folders, in splits or not. A mask may be called NAME_mask or NAME_label."""

    word: ClassVar[str] = "masks"
    looks_like: ClassVar[str] = "images/*.png, labels/*.png or masks/*.png"

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether there are pictures in `images/`, and masks in `labels/` or `masks/`."""
        try:
            return path.is_dir() and any(
                (place / "images").is_dir()
                and bool(files(place / "images", PICTURES))
                and any((place / word).is_dir() and files(place / word, PICTURES) for word in ("labels", "masks"))
                for _, place in splits(path)
            )
        except (UsageError, OSError):
            return False

    @classmethod
    def open(cls, path: Path, settings: Mapping[str, Any]) -> Self:
        """List the pictures and their masks.

        Raises:
            UsageError: a folder is not there, or a file has no counterpart; masks are JPEGs, which change labels.
        """
        known = Settings(cls.word, settings, ("classes", *_SETTINGS))
        cases = [case for split, place in splits(path) for case in cls._pairs(path, place, split)]
        if not cases:
            raise UsageError(f"{named('data', path)}: holds no picture; expected {cls.looks_like}")
        return cls(path, cases, (), known)

    @classmethod
    def _pairs(cls, root: Path, place: Path, split: str) -> list[Case]:
        inside = {folder.name: folder for folder in folders(place)}
        truths = [inside[word] for word in ("labels", "masks") if word in inside]
        if "images" not in inside or len(truths) > 1 or (not truths and split != TESTING):
            had = listed(sorted(inside), "and") if inside else "no folder"
            raise UsageError(f"{named('data', place)}: has {had}; expected images and either labels or masks")
        images = by_stem(files(inside["images"], PICTURES))
        masks = _masks(truths[0], images) if truths else {}
        for stem, file in images.items():
            if truths and stem not in masks:
                raise UsageError(f"{named('data', file)}: a picture without a mask; expected {stem}.* in {truths[0]}")
        return [Case(name_of(file, root), (file,), masks.get(stem), split) for stem, file in images.items()]

    def classes(self) -> int:
        """Return how many labels occur in any mask, 0 and not 255; all masks are read once."""
        return len(self._classes)

    @cached_property
    def _classes(self) -> tuple[int, ...]:
        if self.declared:
            return tuple(range(self.declared))
        occurring = {0}
        for case in self.cases:
            if isinstance(case.target, Path):
                occurring.update(np.unique(read_labels(case.target)).tolist())
        if occurring == {0, _IGNORED}:
            warnings.warn(f"masks hold 0 and {_IGNORED} alone: taken as classes 0 and 1", stacklevel=2)
            return 0, _IGNORED
        values = tuple(sorted(occurring - {_IGNORED}))
        if values[-1] >= len(values):
            shown = ", ".join(map(str, values[:_SHOWN])) + (", ..." if len(values) > _SHOWN else "")
            warnings.warn(f"labels {shown} are taken as classes 0 to {len(values) - 1}", stacklevel=2)
        return values


def _masks(folder: Path, images: Mapping[str, Path]) -> dict[str, Path]:
    """Return the mask of each picture by the picture's name."""
    masks: dict[str, Path] = {}
    for file in files(folder, tuple({*PICTURES, *LOSSLESS})):
        endings = ("", "_mask", "_label")
        stem = next((s for e in endings if file.stem.endswith(e) and (s := file.stem.removesuffix(e)) in images), None)
        if stem is None:
            raise UsageError(f"{named('data', file)}: a mask without a picture; expected {file.stem}.* in images")
        if stem in masks:
            raise UsageError(f"{named('data', file)}: {masks[stem].name} is a mask of the same picture; expected one")
        if file.suffix.lower() not in LOSSLESS:
            raise UsageError(f"{named('data', file)}: a mask whose format changes labels; expected {listed(LOSSLESS)}")
        masks[stem] = file
    return masks


class PictureFolders(_Pictures):
    """Pictures in folders of their classes."""

    task = "classification"
    word: ClassVar[str] = "pictures"
    looks_like: ClassVar[str] = "CLASS/*.png, *.jpg, ..."

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether a folder in it holds pictures."""
        return holds_classes(path, PICTURES)

    @classmethod
    def open(cls, path: Path, settings: Mapping[str, Any]) -> Self:
        """List the pictures of each class; classes are numbered from 0 in the order of their names.

        Raises:
            UsageError: no folders, or one without pictures.
        """
        known = Settings(cls.word, settings, ("resize", *_SETTINGS))
        return cls(path, *by_class(path, PICTURES, "picture"), known)

    def classes(self) -> int:
        """Return how many classes there are."""
        return len(self.class_names)

    def read(self, case: Case) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Read a picture.

        Raises:
            UsageError: it is damaged.
        """
        label = -1 if case.target is None else case.target
        return read_picture(case.files[0], self._channels), np.array(label, np.int64)

    def draw(
        self, held: tuple[NDArray[Any], NDArray[np.int64]], shapes: Sequence[Shape], rng: np.random.Generator
    ) -> Sample:
        """Draw one crop (C, H, W) of the resized picture, and its class.

        Raises:
            UsageError: shapes that are no picture's.
        """
        pixels, label = held
        patch = self._size(shapes)
        size = covering(pixels.shape[:2], patch, self.shorter)
        place = anywhere(size, patch, rng)
        return (self.scaling(resized(pixels, size)[place]),), torch.tensor(int(label))

    def views(self, held: tuple[NDArray[Any], NDArray[np.int64]], shapes: Sequence[Shape]) -> Sequence[Sample]:
        """Return the crop (C, H, W) in the middle of the resized picture.

        Raises:
            UsageError: shapes that are no picture's.
        """
        pixels, label = held
        patch = self._size(shapes)
        size = covering(pixels.shape[:2], patch, self.shorter)
        return [((self.scaling(resized(pixels, size)[middle(size, patch)]),), torch.tensor(int(label)))]

    def whole(self, held: tuple[NDArray[Any], NDArray[np.int64]]) -> Sample:
        """Return a picture at its full size, and its class."""
        pixels, label = held
        return (self.scaling(pixels),), torch.tensor(int(label))

    def facts(self, case: Case) -> Facts:
        """Read a picture: its size."""
        try:
            pixels, label = self.read(case)
        except UsageError as error:
            return Facts(problems=(str(error),))
        return Facts(shape=(pixels.shape[2], *pixels.shape[:2]), labels={int(label): 1})


def of_files(paths: Sequence[Path], settings: Mapping[str, Any], *, masked: bool) -> Masks | PictureFolders:
    """Return pictures that are named one by one, without masks or classes.

    Args:
        paths: of the pictures.
        settings: as of the layouts.
        masked: whether a network labels their pixels, or tells their class.
    """
    cases = tuple(Case(path.stem, (path,)) for path in paths)
    kind = Masks if masked else PictureFolders
    known = ("classes", *_SETTINGS) if masked else ("resize", *_SETTINGS)
    given = {key: value for key, value in settings.items() if key in known}
    return kind(paths[0].parent, cases, (), Settings(kind.word, given, known))
