"""The built-in networks: a dict, a decorator that fills it, and the questions one may ask of it.

A built-in is a factory function whose keyword arguments are the `--set` keys. A preset is data: the settings, input
shapes, batch and strength with which a published network was measured.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import nn

from ranp.errors import UsageError, named, nearest, setting
from ranp.figures import spell
from ranp.models.settings import check_settings

Shape = tuple[int, ...]
Factory = TypeVar("Factory", bound=Callable[..., nn.Module])


@dataclass(frozen=True)
class Preset:
    """A published configuration of a built-in network."""

    name: str
    """The `--preset` word."""
    settings: Mapping[str, Any]
    """Keyword arguments of the factory."""
    shapes: tuple[Shape, ...]
    """One shape per input of the network, without the batch: (C, D, H, W) or (C, H, W)."""
    strength: float
    """lambda of Eq. 5.10."""
    batch: int = 1
    """The batch the published costs were counted at."""
    loss: str = "ce"
    """The `--loss` word the network was scored with."""

    @property
    def batched_shapes(self) -> tuple[Shape, ...]:
        """The shapes with the batch in front."""
        return tuple((self.batch, *shape) for shape in self.shapes)


@dataclass(frozen=True)
class BuiltIn:
    """One entry of the registry."""

    name: str
    factory: Callable[..., nn.Module]
    spatial: Shape
    """Spatial size of an example input where the user names none; of networks with a setting `spatial_dims` in their
    default number of dimensions."""
    inputs: int = 1
    """How many images the network takes; all have the same shape."""
    boxes: int = 0
    """How many boxes of two corners the network takes after them, as shares of the image; 0 for a network of images."""
    loss: str = "ce"
    presets: Mapping[str, Preset] = field(default_factory=dict)

    def preset(self, name: str) -> Preset:
        """The preset of that name, or a UsageError naming the nearest."""
        if name not in self.presets:
            choices = f"has {', '.join(self.presets)}" if self.presets else "has no presets"
            raise UsageError(f"{named('preset', name)}: {self.name} {choices}{nearest(name, self.presets)}")
        return self.presets[name]


_BUILT_INS: dict[str, BuiltIn] = {}


def register(
    name: str, *, spatial: Shape, inputs: int = 1, boxes: int = 0, loss: str = "ce", presets: Sequence[Preset] = ()
) -> Callable[[Factory], Factory]:
    """Enter a factory under a name; a name taken already is our mistake."""

    def enter(factory: Factory) -> Factory:
        assert name not in _BUILT_INS, f"built-in {name!r} is registered twice"
        _BUILT_INS[name] = BuiltIn(name, factory, spatial, inputs, boxes, loss, {p.name: p for p in presets})
        return factory

    return enter


def names() -> list[str]:
    """The built-in networks, sorted."""
    return sorted(_BUILT_INS)


def built_in(name: str) -> BuiltIn:
    """The entry of a built-in.

    Raises:
        UsageError: no such built-in; the nearest is named.
    """
    if name not in _BUILT_INS:
        raise UsageError(
            f"{named('MODEL', name)}: no such built-in (known: {', '.join(names())}){nearest(name, names())}"
        )
    return _BUILT_INS[name]


def presets(name: str) -> list[str]:
    """The presets of a built-in, in the order they are declared."""
    return list(built_in(name).presets)


def preset(name: str, preset: str) -> Preset:
    """A preset of a built-in.

    Raises:
        UsageError: no such built-in or preset; the nearest is named.
    """
    return built_in(name).preset(preset)


def build(name: str, preset: str | None = None, *, seed: int = 0, **settings: Any) -> nn.Module:
    """Build a built-in network.

    Args:
        name: one of `names()`.
        preset: one of `presets(name)`; `settings` win over it.
        seed: of the initial weights; the global generator is left as it was.
        settings: keyword arguments of the factory, the `--set` keys.

    Raises:
        UsageError: unknown name, preset or key (each with the nearest), or a value of the wrong type.
    """
    merged = full_settings(name, preset, settings)
    with seeded(seed):
        return built_in(name).factory(**merged)


def full_settings(name: str, preset: str | None = None, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Every setting of a built-in: its defaults, under the preset's, under the given ones.

    Raises:
        UsageError: as `build`.
    """
    entry, given = built_in(name), dict(settings or {})
    check_settings(entry.factory, given, name)
    for key, value in given.items():
        if isinstance(value, (int, float)) and not isinstance(value, bool) and value <= 0:
            raise UsageError(f"{setting(key, value)}: {name} expects a positive number")
        if key == "spatial_dims" and value > 3:
            raise UsageError(f"{setting(key, value)}: {name} expects 1, 2 or 3")
    defaults = {key: p.default for key, p in inspect.signature(entry.factory).parameters.items()}
    published = entry.preset(preset).settings if preset else {}
    return {**defaults, **published, **given}


def spatial_dims(name: str, settings: Mapping[str, Any] | None = None) -> int:
    """Number of spatial dimensions of a built-in's input: what its setting `spatial_dims` says, where it has one.

    Args:
        name: one of `names()`.
        settings: the `--set` keys; what is absent has its default.
    """
    return int(full_settings(name, None, settings).get("spatial_dims", len(built_in(name).spatial)))


def input_shapes(
    name: str, settings: Mapping[str, Any] | None = None, spatial: Sequence[int] | None = None
) -> list[Shape]:
    """The shape of every input of a built-in, without the batch.

    Args:
        name: one of `names()`.
        settings: the `--set` keys; what is absent has its default.
        spatial: spatial size; None is the built-in's example size.

    Raises:
        UsageError: unknown name or key, or a spatial size of the wrong number of dimensions.
    """
    entry, dims = built_in(name), spatial_dims(name, settings)
    size = tuple(spatial) if spatial is not None else (entry.spatial * 3)[:dims]
    if len(size) != dims:
        raise UsageError(f"{named('input', spell(size))}: {name} takes {dims} spatial dimensions, got {len(size)}")
    images = [(full_settings(name, None, settings)["in_channels"], *size)] * entry.inputs
    return [*images, (entry.boxes, 2 * dims)] if entry.boxes else images


def default_loss(name: str, preset: str | None = None) -> str:
    """The `--loss` word of a built-in or of one of its presets."""
    entry = built_in(name)
    return entry.preset(preset).loss if preset else entry.loss


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from a generator seeded here, and give the caller's back untouched."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
