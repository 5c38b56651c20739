"""ShapeNet part (Yi et al., SIGGRAPH Asia 2016): shapes as points, a part for each; to networks they are voxels.

    ROOT/02691156/points/NAME.pts                  x y z
    ROOT/02691156/points_label/NAME.seg            the part, of the category's own from 1

or, with normals,

    ROOT/02691156/NAME.txt                         x y z nx ny nz, and the part, of all 50 from 0

and beside the folders, where there are any,

    ROOT/synsetoffset2category.txt                 Airplane  02691156; the published table is known, so it isn't read
    ROOT/train_test_split/shuffled_{train,val,test}_file_list.json

Points are fitted into the patch by the box around them, all sides at one scale; a voxel has the part that most of its
points have, of equals the first; empty voxels are ignored (255). How the published networks were given their points is
not published in this detail.
"""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ranp.data.dataset import TESTING, TRAINING, VALIDATION, Case, Dataset, Facts, Sample, Shape, Task, Truth
from ranp.data.layouts._settings import Settings
from ranp.data.losses import IGNORED
from ranp.data.parts import CATEGORIES, FIRST
from ranp.errors import UsageError, listed, named, nearest, words_of
from ranp.figures import spell, spell_all

_OFFSETS = {offset: category for category, (offset, _) in CATEGORIES.items()}
_LISTS = {"train": TRAINING, "val": VALIDATION, "test": TESTING}
_PICTURE = (64, 64, 64)  # the published size


@dataclass(frozen=True)
class Points:
    """One shape.

    Args:
        places: (N, 3), x, y and z, y up.
        parts: (N,), the numbers that the network tells apart; None where the shape has none.
    """

    places: NDArray[np.float64]
    parts: NDArray[np.int64] | None


@dataclass(frozen=True)
class ShapeNetPart(Dataset[Points]):
    """A folder of ShapeNet part.

    Args:
        root: the folder.
        cases: their names begin with the category.
        categories: that are read, in the published order; labels count the parts of these, from 0.
        background: whether empty voxels are the class 0, and parts are counted from 1.
        turn: whether samples are turned about the upright axis by a random angle.
    """

    word: ClassVar[str] = "shapenet"
    looks_like: ClassVar[str] = "02691156/points/*.pts with points_label/*.seg, or 02691156/*.txt"

    root: Path
    cases: tuple[Case, ...]
    categories: tuple[str, ...]
    background: bool = False
    turn: bool = False
    task: Task = "segmentation"

    @property
    def class_names(self) -> tuple[str, ...]:  # type: ignore[override]  # follows from the categories
        """Of the parts, after the background where it is a class."""
        parts = [f"{each} {part}".lower() for each in self.categories for part in CATEGORIES[each][1]]
        return ("background", *parts) if self.background else tuple(parts)

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether a folder holds one of a category, with points or texts."""
        try:
            return any(each.name in {**_OFFSETS, **CATEGORIES} and _suffix(each) for each in path.iterdir())
        except OSError:  # no folder, or not for us
            return False

    @classmethod
    def open(cls, path: Path, settings: Mapping[str, Any]) -> Self:
        """List the shapes; see `Dataset.open`. Settings: categories (a list), background and turn (true or false)."""
        known = Settings(cls.word, settings, ("categories", "background", "turn"))
        categories = known.some("categories", tuple(CATEGORIES))
        folders = _folders(path)
        splits = _splits(path)
        cases = tuple(case for each in categories for case in _cases(folders.get(each), splits))
        if not cases:
            what = f"no shapes of {listed(categories, 'and')}" if folders else f"no {cls.word} folder"
            raise UsageError(f"{named('data', path)}: {what}; expected {cls.looks_like}")
        return cls(path, cases, categories, known.switch("background"), known.switch("turn"))

    def channels(self) -> tuple[int, ...]:
        """One: the occupancy."""
        return (1,)

    def classes(self) -> int:
        """The parts of the categories, and the background where it is a class."""
        return len(self.class_names)

    def read(self, case: Case) -> Points:
        """Read the points of a shape, and the part of each."""
        category = case.name.partition("/")[0]
        number = len(CATEGORIES[category][1])
        if case.files[0].suffix == ".txt":
            table = _table(case.files[0], 7, "x y z nx ny nz part")
            places, parts, lowest = table[:, :3], table[:, 6], FIRST[category]
        else:
            places, parts, lowest = _table(case.files[0], 3, "x y z"), None, 1
            if isinstance(case.target, Path):
                parts = _table(case.target, 1, "a part")[:, 0]
                if len(parts) != len(places):
                    other = f"{case.files[0]} has {len(places)} points"
                    raise UsageError(f"{case.target}: {len(parts)} labels, and {other}; expected one for each")
        if parts is None:
            return Points(places, None)
        outside = parts[(parts < lowest) | (parts >= lowest + number) | (parts != np.round(parts))]
        if len(outside):
            expected = f"{category} has {lowest} to {lowest + number - 1}"
            raise UsageError(f"{case.target}: part {outside[0]:g}; {expected}")
        return Points(places, parts.astype(np.int64) - lowest + self.first(category))

    def draw(self, held: Points, shapes: Sequence[Shape], rng: np.random.Generator) -> Sample:
        """Fit a shape into the patch."""
        return self._voxels(held, self._patch(shapes), rng.uniform(0, 2 * np.pi) if self.turn else 0.0)

    def views(self, held: Points, shapes: Sequence[Shape]) -> Sequence[Sample]:
        """Fit a shape into the patch, not turned."""
        return [self._voxels(held, self._patch(shapes), 0.0)]

    def truth(self, case: Case, held: Points, target: Tensor) -> Truth:
        """Return the parts, and which of them things of this category have."""
        del held
        category = case.name.partition("/")[0]
        first = self.first(category)
        return Truth(target, group=category, classes=tuple(range(first, first + len(CATEGORIES[category][1]))))

    def _patch(self, shapes: Sequence[Shape]) -> Shape:
        (channels, *patch), *others = shapes
        if others or channels != 1:
            raise UsageError(
                f"{named('data', self.word)}: gives one input of one channel, and the network takes {spell_all(shapes)}"
            )
        if len(patch) != 3:
            raise UsageError(f"{named('patch', spell(patch))}: {self.word} needs three sizes")
        return tuple(patch)

    def whole(self, held: Points) -> Sample:
        """Fit a shape into 64 x 64 x 64 voxels, not turned."""
        return self._voxels(held, _PICTURE, 0.0)

    def facts(self, case: Case) -> Facts:
        """Look at a shape; its labels are counted by the numbers of the parts as the network tells them apart."""
        try:
            held = self.read(case)
        except UsageError as error:
            return Facts(problems=(str(error),))
        values, counts = np.unique(held.parts if held.parts is not None else [], return_counts=True)
        return Facts(held.places.shape, labels=dict(zip(values.astype(int).tolist(), counts.tolist(), strict=True)))

    def first(self, category: str) -> int:
        """Return the number of a category's first part, as the network tells them apart."""
        before = self.categories[: self.categories.index(category)]
        return self.background + sum(len(CATEGORIES[each][1]) for each in before)

    def _voxels(self, held: Points, patch: tuple[int, ...], angle: float) -> Sample:
        parts = np.zeros(len(held.places), dtype=np.int64) if held.parts is None else held.parts
        cosine, sine = np.cos(angle), np.sin(angle)
        x, y, z = held.places.T
        x, z = cosine * x + sine * z, cosine * z - sine * x
        labels = voxelised(np.stack([-z, -y, x], axis=1), parts, patch)  # away from the viewer, down and to the right
        occupancy = torch.from_numpy(labels >= 0)
        labels = np.where(labels >= 0, labels, 0 if self.background else IGNORED)
        return (occupancy.float()[None],), torch.from_numpy(labels)


def voxelised(places: NDArray[np.float64], parts: NDArray[np.int64], patch: Shape) -> NDArray[np.int64]:
    """Fit points into a patch, and say which part most of a voxel's points have; of equals the first.

    Args:
        places: (N, dims), in the order of the patch's axes.
        parts: (N,), from 0.
        patch: sizes in voxels.

    Returns:
        The part of every voxel, or -1: (*patch). The outermost points lie in the middle of the outermost voxels along
        the axis that is filled first, and all axes have its scale.
    """
    low, high = places.min(axis=0), places.max(axis=0)
    step = ((high - low) / np.maximum(np.array(patch) - 1, 0.5)).max() or 1.0
    within = (places - (low + high) / 2) / step + np.array(patch) / 2
    voxels = np.clip(np.floor(within).astype(np.int64), 0, np.array(patch) - 1)  # of one size 1: all there is
    kinds = parts.max() + 1
    pairs, counts = np.unique(np.ravel_multi_index(tuple(voxels.T), patch) * kinds + parts, return_counts=True)
    order = np.lexsort((-pairs, counts))  # the most last, of equals the first part last
    labels = np.full(patch, -1, dtype=np.int64)
    labels.ravel()[pairs[order] // kinds] = pairs[order] % kinds
    return labels


def _suffix(folder: Path) -> str:
    """Return what the points of a category's folder end in, or "" where it holds none."""
    if (folder / "points").is_dir() and (folder / "points_label").is_dir():
        return ".pts"
    return ".txt" if folder.is_dir() and next(folder.glob("*.txt"), None) else ""


def _folders(root: Path) -> dict[str, Path]:
    """Return the folders of shapes by their category."""
    folders: dict[str, Path] = {}
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
        if not _suffix(folder) or folder.name == "train_test_split":
            continue
        category = _OFFSETS.get(folder.name, folder.name)
        if category not in CATEGORIES:
            raise UsageError(f"{folder}: no category of ShapeNet part{nearest(category, [*CATEGORIES, *_OFFSETS])}")
        if category in folders:
            raise UsageError(f"{folder}: {category} again; {folders[category]} is that too")
        folders[category] = folder
    return folders


def _splits(root: Path) -> dict[tuple[str, str], str]:
    """Return which split a shape of a category's offset and of a name is in."""
    splits: dict[tuple[str, str], str] = {}
    for word, split in _LISTS.items():
        path = root / "train_test_split" / f"shuffled_{word}_file_list.json"
        if not path.exists():
            continue
        try:
            entries = json.loads(path.read_text())
            names = [tuple(entry.split("/")) for entry in entries]
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise UsageError(
                f"{path}: {error}; expected a JSON list of names such as shape_data/02691156/NAME"
            ) from error
        for name in names:
            if len(name) != 3 or name[1] not in _OFFSETS:
                raise UsageError(f"{path}: {'/'.join(name)}; expected a name such as shape_data/02691156/NAME")
            if splits.setdefault(name[1:], split) != split:
                raise UsageError(f"{path}: {'/'.join(name)} is of the {splits[name[1:]]} shapes too")
    return splits


def _cases(folder: Path | None, splits: Mapping[tuple[str, str], str]) -> Iterator[Case]:
    """Yield the shapes of a category that lie in its folder or stand in a list."""
    if folder is None:
        return
    suffix, category = _suffix(folder), _OFFSETS.get(folder.name, folder.name)
    points = folder / "points" if suffix == ".pts" else folder
    names = {path.stem for path in points.glob(f"*{suffix}")}
    lone = sorted({path.stem for path in folder.glob("points_label/*.seg")} - names)
    if lone:
        raise UsageError(
            f"{folder / 'points_label' / lone[0]}.seg: labels of no points; expected {points / lone[0]}.pts"
        )
    offset = CATEGORIES[category][0]
    for name in sorted(names | {name for of, name in splits if of == offset}):
        file = points / f"{name}{suffix}"
        labels = folder / "points_label" / f"{name}.seg" if suffix == ".pts" else file
        target = labels if labels.exists() or not file.exists() else None
        yield Case(f"{category}/{name}", (file,), target, splits.get((offset, name), ""))


def _table(path: Path, columns: int, names: str) -> NDArray[np.float64]:
    """Read rows of numbers."""
    try:
        text = path.read_text()
        table = np.loadtxt(io.StringIO(text), ndmin=2) if text.strip() else np.empty((0, columns))
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file; a list in train_test_split names it") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: {words_of(error)}; expected {names} on each line") from None
    if table.shape[1] != columns or not len(table):
        raise UsageError(f"{path}: {spell(table.shape)} numbers; expected {names} on each line")
    if not np.isfinite(table).all():
        row = int(np.argmin(np.isfinite(table).all(axis=1)))
        raise UsageError(f"{path}: line {row + 1} is not finite; expected {names} on each line")
    return table
