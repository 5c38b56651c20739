"""Words that are a MODEL because a file says what network it is of: WORD:PATH, such as `nnunet:plans.json#3d_fullres`.

Packages announce theirs as entry points of the group "ranp.models", each the name of a `Word`, so that nothing here
names them. What a word leads to is a factory and its settings, and these are what a run keeps: the file may go.
"""

import functools
import importlib
import importlib.metadata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Recipe:
    """What a file says of a network and of its training.

    Args:
        model: the factory, `package.module:name`.
        settings: of the factory.
        shape: of an image, (C, *spatial); the patch of a training.
        batch: samples in a batch of a training.
        spacing: in millimetres, that volumes are resampled to; () where the file does not say.
        axes: the order in which the axes of a file of voxels are taken; () as they lie. Of a network of images, the
            last is the one across which it sees the slices of volumes.
        scales: of each channel mean, sd, low and high, None for the z-score of each case; () where nothing is said.
        weights: a checkpoint of the network, or None.
        unread: why no data are read for the network, or "".
    """

    model: str
    settings: Mapping[str, Any]
    shape: tuple[int, ...]
    batch: int = 1
    spacing: tuple[float, ...] = ()
    axes: tuple[int, ...] = ()
    scales: tuple[Mapping[str, float | None] | None, ...] = ()
    weights: Path | None = None
    unread: str = ""


@dataclass(frozen=True)
class Word:
    """A word before the colon of a MODEL.

    Args:
        name: the word.
        reader: `package.module:function` that reads what stands behind the colon and returns a `Recipe`; it raises a
            UsageError, which names MODEL.
        factory: `package.module:name` of the word's own factory, or "". It builds nothing but classes it knows, so
            that what a run's files name may be given to it.
    """

    name: str
    reader: str
    factory: str = ""


@functools.cache
def words() -> tuple[Word, ...]:
    """Return every word there is."""
    announced = importlib.metadata.entry_points(group="ranp.models")
    return tuple(entry.load() for entry in sorted(announced, key=lambda entry: entry.name))


def recipe_of(model: str) -> Recipe | None:
    """Return what the file says that MODEL names behind a word; None for another MODEL.

    Raises:
        UsageError: as the word's reader.
    """
    name, _, rest = model.partition(":")
    word = next((word for word in words() if word.name == name), None) if rest else None
    if word is None:
        return None
    where, _, function = word.reader.partition(":")
    read: Callable[[str], Recipe] = getattr(importlib.import_module(where), function)
    return read(rest)


def is_known_factory(spec: str) -> bool:
    """Whether a factory is one of a word's own, which builds only what it knows."""
    return any(spec == word.factory for word in words())
