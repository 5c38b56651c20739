"""What MODEL, --preset, --set, --in-channels, --classes, --input and --batch ask for: a network and its inputs.

Every command that takes a network reads these words here, so that each has one meaning and one message.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from ranp import models
from ranp.errors import UsageError, named, setting
from ranp.figures import spell, spell_all
from ranp.files import read_json
from ranp.inputs import Inputs, Shape, draw, generator_of, map_tensors, range_of, ranged
from ranp.models.channels import CHANNELS, CLASSES, channels_of
from ranp.models.folders import Kind, kind_of
from ranp.models.input_words import WHOLES, InputKind, Spelled, read_words, written
from ranp.models.spec import check_is_built_in, resolve
from ranp.models.words import Recipe, recipe_of

_EXTERNAL_SIZE = 64  # spatial length of the example input of a network that is no built-in


@dataclass(frozen=True)
class Request:
    """A network and the shapes of its inputs, asked for and not yet built.

    Args:
        model: a built-in, `package.module:Factory` or `file.py:factory`; of a fused run the factory that loads it.
        preset: of a built-in, or None.
        settings: keyword arguments of the factory, over the preset's.
        shapes: of each input, with the batch: (B, C, D, H, W) or (B, C, H, W); in full also (B, C) or (B,).
        kinds: of each input; () where all are images, by their place and in the network's own dtype.
    """

    model: str
    preset: str | None
    settings: Mapping[str, Any]
    shapes: tuple[Shape, ...]
    kinds: tuple[InputKind, ...] = ()

    @property
    def built_in(self) -> bool:
        """Whether it is one of ranp's own networks."""
        return self.model in models.names()

    def sized(self, size: str | Sequence[int], option: str = "input") -> "Request":
        """Return the same network with inputs of another size; those without a size keep their shape.

        Raises:
            UsageError: it is no size, or not of as many dimensions.
        """

        def resized(shape: Shape) -> Shape:
            images = len(shape) == max(map(len, self.shapes))  # boxes have a dimension less
            return (*shape[:2], *read_size(size, len(shape) - 2, option)) if len(shape) > 2 and images else shape

        return replace(self, shapes=tuple(map(resized, self.shapes)))

    @property
    def batch(self) -> int:
        """Samples in a batch."""
        return self.shapes[0][0]

    def network(self, seed: int = 0, *, trusted: bool = True) -> nn.Module:
        """Build the network.

        Args:
            seed: of the initial weights.
            trusted: whether the user named the network; False for what a run's files name.

        Raises:
            UsageError: as `resolve`.
        """
        return resolve(self.model, self.settings, preset=self.preset, trusted=trusted, seed=seed)

    def fitted(self, network: nn.Module) -> "Request":
        """Return the same request with what was left open of its inputs as the network has it.

        Real numbers get the dtype of its first parameter that has real ones. Whole numbers stay below the rows of its
        smallest embedding table, or below 2 where it has none.
        """
        tables = [m.num_embeddings for m in network.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag)]
        own = next((p.dtype for p in network.parameters() if p.is_floating_point()), torch.float32)

        def of(kind: InputKind) -> InputKind:
            dtype = kind.dtype or str(own).removeprefix("torch.")
            below = kind.below or (2 if dtype == "bool" else min(tables, default=2))
            return replace(kind, dtype=dtype, below=below if dtype in WHOLES else None)

        return replace(self, kinds=tuple(map(of, self.kinds or (InputKind(),) * len(self.shapes))))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of keyword inputs; () where they go by their place."""
        return tuple(kind.name for kind in self.kinds if kind.name)

    @property
    def dtypes(self) -> tuple[torch.dtype, ...]:
        """Dtype of each input; float32 where it is left open."""
        return tuple(
            getattr(torch, kind.dtype or "float32") for kind in self.kinds or (InputKind(),) * len(self.shapes)
        )

    @property
    def below(self) -> tuple[int | None, ...]:
        """Of each input the number its whole numbers are below."""
        return tuple(kind.below for kind in self.kinds or (InputKind(),) * len(self.shapes))

    def inputs(self, seed: int = 0, device: str | torch.device = "cpu") -> tuple[Tensor, ...] | dict[str, Tensor]:
        """Draw inputs, the same on every device: standard normal, uniform where whole; on "meta" shapes alone.

        Returns:
            A tuple, or a dict where inputs have names.
        """
        empty = tuple(
            ranged(torch.empty(shape, dtype=dtype, device="meta"), below)
            for shape, dtype, below in zip(self.shapes, self.dtypes, self.below, strict=True)
        )
        given: Inputs = dict(zip(self.names, empty, strict=True)) if self.names else empty
        if torch.device(device).type != "meta":
            drawn = draw(given, generator_of(seed))
            given = map_tensors(drawn, lambda tensor: ranged(tensor.to(device), range_of(tensor)))
        return given  # type: ignore[return-value]  # a tuple or a dict, as it was made


def read_request(
    model: str,
    *,
    preset: str | None = None,
    settings: Mapping[str, Any] = MappingProxyType({}),
    in_channels: int | None = None,
    classes: int | None = None,
    size: str | Sequence[int] | Sequence[str] | None = None,
    batch: int | None = None,
    size_option: str = "input",
    batch_option: str = "batch",
    trusted: bool = False,
) -> Request:
    """Read what a person wrote on the command line.

    A built-in takes channels, classes, size and batch from what is given, else from its preset, else its own. Any other
    network is given `in_channels` channels (else what its setting, its factory's default or its first convolution says,
    else 1) of `size` (64 in every dimension) over as many dimensions as `size` names, else as the setting
    `spatial_dims` says, else 3. The folder of a fused run brings its settings, weights and input.

    Args:
        model: MODEL.
        preset: --preset.
        settings: the --set pairs.
        in_channels: --in-channels, on built-ins short for --set in_channels=.
        classes: --classes, on built-ins short for --set classes=; other networks are built from their settings alone.
        size: --input: "64" is a cube, "16x112x112" otherwise; or the lengths themselves; or words, one of which is a
            size, and several are inputs in full.
        batch: --batch.
        size_option: the option that named the size, for messages.
        batch_option: likewise the batch.
        trusted: whether the user named MODEL; if not, no factory is looked at for its channels.

    Raises:
        UsageError: a value that is no size, pair or count, or that the network does not take.
    """
    given = dict(settings)
    for option, count in (("in_channels", in_channels), ("classes", classes), (batch_option, batch)):
        if count is not None and count < 1:
            raise UsageError(f"{named(option, count)}: expected a positive number")
    size, spelled = read_words(size, size_option)
    if (recipe := recipe_of(model)) is not None:
        if spelled:
            raise UsageError(f"{named(size_option, written(spelled))}: {model} knows its inputs; expected a size")
        return _of_recipe(recipe, model, preset, given, in_channels, classes, size, batch, size_option)
    kind = kind_of(model)
    if spelled and kind is not None and kind.factory:
        raise UsageError(
            f"{named(size_option, written(spelled))}: {model} is a folder and knows its inputs; expected a size"
        )
    if spelled:
        return _spelled(model, preset, given, in_channels, classes, spelled, batch, size_option)
    if kind is not None and kind.factory:
        return _of_folder(kind, model, preset, given, in_channels, size, batch, size_option)
    if ":" in model:
        if in_channels is None and not isinstance(given.get("in_channels"), int) and trusted:
            in_channels = channels_of(model, given)
        shape = _external_shape(given, in_channels, size, size_option)
        return Request(model, preset, given, ((batch or 1, *shape),))
    check_is_built_in(model)
    return _built_in(model, preset, _with_shorthands(model, given, in_channels, classes), size, batch, size_option)


def read_size(size: str | Sequence[int], dims: int | None = None, option: str = "input") -> Shape:
    """Read a spatial size; one number stands for every dimension.

    >>> read_size("64", 3), read_size("16x112x112")
    ((64, 64, 64), (16, 112, 112))

    Raises:
        UsageError: no positive whole numbers between `x`, or not as many as there are dimensions.
    """
    text = size if isinstance(size, str) else spell(size)
    parts = text.lower().split("x")
    if not all(part.isascii() and part.isdigit() and int(part) > 0 for part in parts):
        raise UsageError(f"{named(option, text)}: expected a size such as 64 or 16x112x112")
    lengths = tuple(map(int, parts))
    if len(lengths) == 1:
        return lengths * (dims or 3)
    if dims is not None and len(lengths) != dims:
        raise UsageError(f"{named(option, text)}: expected {dims} spatial dimensions, got {len(lengths)}")
    return lengths


def _spelled(
    model: str,
    preset: str | None,
    settings: dict[str, Any],
    in_channels: int | None,
    classes: int | None,
    spelled: Spelled,
    batch: int | None,
    option: str,
) -> Request:
    """Return a request whose inputs are said in full; those of a built-in are compared with what it takes."""
    kinds, shapes = zip(*spelled, strict=True)
    if ":" in model:
        if in_channels is not None:
            raise UsageError(
                f"{named('in_channels', in_channels)}: {named(option, written(spelled))} says the channels"
            )
        return Request(model, preset, settings, tuple((batch or 1, *shape) for shape in shapes), kinds)
    check_is_built_in(model)
    own = _built_in(model, preset, _with_shorthands(model, settings, in_channels, classes), None, batch, option)
    if [(len(s), s[:1]) for s in shapes] != [(len(s) - 1, s[1:2]) for s in own.shapes]:
        takes = spell_all(shape[1:] for shape in own.shapes)
        raise UsageError(f"{named(option, written(spelled))}: {model} takes inputs such as {takes}")
    return replace(own, shapes=tuple((own.batch, *shape) for shape in shapes), kinds=kinds)


def _with_shorthands(
    model: str, settings: dict[str, Any], in_channels: int | None, classes: int | None
) -> dict[str, Any]:
    known, merged = models.full_settings(model), dict(settings)
    for key, value in (("in_channels", in_channels), ("classes", classes)):
        if value is None:
            continue
        if key not in known:
            raise UsageError(f"{named(key, value)}: {model} has no setting {key} (its settings: {', '.join(known)})")
        if merged.get(key, value) != value:
            raise UsageError(f"{named(key, value)}: {setting(key, merged[key])} says otherwise")
        merged[key] = value
    return merged


def _built_in(
    name: str,
    preset: str | None,
    settings: dict[str, Any],
    size: str | Sequence[int] | None,
    batch: int | None,
    size_option: str,
) -> Request:
    published = None if preset is None else models.preset(name, preset)
    merged = models.full_settings(name, preset, settings)
    spatial = None if published is None else published.shapes[0][1:]
    if size is not None:
        spatial = read_size(size, models.spatial_dims(name, merged), size_option)
    shapes = models.input_shapes(name, merged, spatial)
    count = batch or (1 if published is None else published.batch)
    return Request(name, preset, settings, tuple((count, *shape) for shape in shapes))


def _of_folder(
    kind: Kind,
    folder: str,
    preset: str | None,
    settings: dict[str, Any],
    in_channels: int | None,
    size: str | Sequence[int] | None,
    batch: int | None,
    size_option: str,
) -> Request:
    for option, value in (("preset", preset), ("in_channels", in_channels)):
        if value is not None:
            raise UsageError(f"{named(option, value)}: {folder} is a run of `{kind.made_by}` and brings its own")
    try:
        (shape,) = read_json(Path(folder, "report.json"))["inputs"]
        count, channels, *spatial = map(int, shape)
    except (UsageError, ValueError, TypeError, KeyError):
        wrote = f"expected one that `{kind.made_by}` wrote"
        raise UsageError(f"{named('MODEL', folder)}: no inputs in its report.json; {wrote}") from None
    sizes = tuple(spatial) if size is None else read_size(size, len(spatial), size_option)
    return Request(kind.factory, None, {"run": folder, **settings}, ((batch or count, channels, *sizes),))


def _of_recipe(
    recipe: Recipe,
    model: str,
    preset: str | None,
    settings: dict[str, Any],
    in_channels: int | None,
    classes: int | None,
    size: str | Sequence[int] | None,
    batch: int | None,
    size_option: str,
) -> Request:
    """Return what a file says, but for what is given beside it."""
    if preset is not None:
        raise UsageError(f"{named('preset', preset)}: only built-ins have presets, not {model}")
    merged = {**recipe.settings, **settings}
    for option, value, known in (("in_channels", in_channels, CHANNELS), ("classes", classes, CLASSES)):
        key = next((name for name in known if name in recipe.settings), None)
        if value is not None and key is None:
            raise UsageError(f"{named(option, value)}: {model} has no setting for it")
        if value is not None and key is not None:
            merged[key] = value
    channels = next((merged[name] for name in CHANNELS if name in merged), recipe.shape[0])
    spatial = recipe.shape[1:] if size is None else read_size(size, len(recipe.shape) - 1, size_option)
    return Request(recipe.model, None, merged, ((batch or recipe.batch, channels, *spatial),))


def _external_shape(
    settings: Mapping[str, Any], in_channels: int | None, size: str | Sequence[int] | None, size_option: str
) -> Shape:
    dims, channels = settings.get("spatial_dims"), settings.get("in_channels")
    dims = dims if isinstance(dims, int) and not isinstance(dims, bool) and dims > 0 else None
    channels = in_channels or (channels if isinstance(channels, int) and channels > 0 else 1)
    return channels, *(read_size(size, dims, size_option) if size is not None else (_EXTERNAL_SIZE,) * (dims or 3))
