"""What a constructor can say: which of its arguments are widths, and how wide each of them makes every layer.

A network of MONAI is built from a few whole numbers: `UNet` from one for each level, `BasicUNet` from six, of which
transposed convolutions get half, `SegResNet` from one alone, which is doubled at every level. A plan whose widths are
what some numbers make is a call of the same class, without ranp. How wide a number makes a layer is not written down
here but asked of the class: it is built on meta tensors with other numbers.
"""

import copy
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from ranp.errors import CheckFailed, UnsupportedError, described, named
from ranp.models.registry import seeded
from ranp.modules import tensors_of

MONAI = "monai.networks.nets"
EACH = "*"
WIDTHS: dict[str, tuple[tuple[str, ...], ...]] = {
    "AttentionUnet": (("channels", EACH),),
    "BasicUNet": (("features", EACH),),
    "DenseNet": (("growth_rate",), ("init_features",)),
    "DynUNet": (("filters", EACH),),
    "FlexibleUNet": (("decoder_channels", EACH),),
    "HighResNet": (("layer_params", EACH, "n_features"),),
    "MedNeXt": (("init_filters",),),
    "ResNet": (("block_inplanes", EACH),),
    "SegResNet": (("init_filters",),),
    "SegResNetDS": (("init_filters",),),
    "UNet": (("channels", EACH),),
}
"""Where classes of MONAI have their widths; `EACH` is every place of a list. Several paths are widened together."""
_PROBED = (0.25, 0.5, 0.75)  # shares of a number at which a rule is compared with the class
Place = tuple[Any, ...]
Widths = dict[str, int]


@dataclass(frozen=True)
class Variable:
    """A whole number of a constructor, or several that change in step.

    Args:
        places: where it stands in the arguments.
        steps: its values, ascending, each with one for every place; the last is the network's own.
        widths: of the layers that it makes wider: their output channels at each step, by the name of the weight.
    """

    places: tuple[Place, ...]
    steps: tuple[tuple[int, ...], ...]
    widths: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Constructor:
    """A class of MONAI and the arguments it is called with.

    Args:
        name: of the class, one of `WIDTHS`.
        settings: its arguments.
    """

    name: str
    settings: Mapping[str, Any]

    @classmethod
    def of(cls, spec: str, settings: Mapping[str, Any]) -> "Constructor | None":
        """Return the constructor that MODEL and its settings are; None where its widths are not known."""
        where, _, name = spec.rpartition(":")
        return cls(name, settings) if where == MONAI and name in WIDTHS else None

    @cached_property
    def arguments(self) -> dict[str, Any]:
        """The arguments that say widths, with defaults where they were not given."""
        parameters = inspect.signature(self._class).parameters
        found: dict[str, Any] = {}
        for key in {path[0] for path in WIDTHS[self.name]}:
            value = self.settings.get(key, parameters[key].default)
            if value is None:  # DynUNet reckons its filters itself
                value = getattr(_built(self._class, self.settings), key, None)
            if value is None or value is inspect.Parameter.empty:
                raise UnsupportedError(f"{named('tie', 'stage')}: {self.name} is built without {key}, its widths")
            found[key] = copy.deepcopy(list(value) if isinstance(value, tuple | list) else value)
        return found

    @cached_property
    def variables(self) -> tuple[Variable, ...]:
        """The numbers, and what they make.

        Raises:
            UnsupportedError: a layer depends on two of them.
        """
        paths = [list(_places(self.arguments, path)) for path in WIDTHS[self.name]]
        several = [(place,) for place in paths[0]] if len(paths) == 1 else [tuple(place for (place,) in paths)]
        found = tuple(self._variable(places) for places in several)
        names = [name for each in found for name in each.widths]
        twice = next((name for name in names if names.count(name) > 1), None) if len({*names}) < len(names) else None
        if twice is not None:
            raise UnsupportedError(f"{named('tie', 'stage')}: {twice} of {self.name} depends on two of its arguments")
        return tuple(each for each in found if each.widths)

    def ties(self) -> list[Mapping[str, tuple[int, ...]]]:
        """Return what `ranp.selection.select` takes: of each number the widths of its layers, step by step.

        What no number makes wider has one width, its own.
        """
        tied = {name for each in self.variables for name in each.widths}
        rest = {name: (width,) for name, width in self._widths({}).items() if name not in tied}
        return [each.widths for each in self.variables] + [rest] * bool(rest)

    def narrowed(self, slim: nn.Module) -> dict[str, Any]:
        """Return all arguments of the call that makes a slim network; it is built and compared.

        Raises:
            CheckFailed: no call makes it.
        """
        own = _widths_of(slim)
        chosen: dict[Place, int] = {}
        for each in self.variables:
            fits = (
                all(own[name] == widths[at] for name, widths in each.widths.items()) for at in range(len(each.steps))
            )
            step = next((at for at, right in enumerate(fits) if right), None)
            if step is None:
                raise CheckFailed(f"no call of {self.name} makes this network: {next(iter(each.widths))} differs")
            chosen.update(zip(each.places, each.steps[step], strict=True))
        settings = self._with(chosen)
        made, given = (
            {name: tuple(tensor.shape) for name, tensor in tensors_of(each).items()}
            for each in (_built(self._class, settings), slim)
        )
        apart = next((name for name in given if made.get(name) != given[name]), None)
        if apart is not None or made.keys() != given.keys():
            raise CheckFailed(f"no call of {self.name} makes this network: {apart} differs")
        return settings

    def spelled(self, settings: Mapping[str, Any]) -> str:
        """Return a call as Python writes it."""
        return f"{MONAI}.{self.name}({', '.join(f'{key}={value!r}' for key, value in settings.items())})"

    @property
    def _class(self) -> Any:
        import monai.networks.nets as nets  # takes seconds

        return getattr(nets, self.name)

    def _with(self, values: Mapping[Place, int]) -> dict[str, Any]:
        """Return the arguments with numbers put in their places."""
        changed = copy.deepcopy(self.arguments)
        for place, value in values.items():
            inner = changed
            for key in place[:-1]:
                inner = inner[key]
            inner[place[-1]] = value
        return {**self.settings, **changed}

    def _widths(self, values: Mapping[Place, int]) -> Widths:
        return _widths_of(_built(self._class, self._with(values)))

    def _variable(self, places: tuple[Place, ...]) -> Variable:
        whole = tuple(int(_at(self.arguments, place)) for place in places)
        full = self._widths({})

        def values(number: int) -> tuple[int, ...]:
            return tuple(max(1, each * number // whole[0]) for each in whole)

        def made(number: int) -> Widths | None:  # None also where two equal widths leave out a projection
            try:
                found = self._widths(dict(zip(places, values(number), strict=True)))
            except Exception:  # whatever a constructor raises on a number that it does not take
                return None
            return found if found.keys() == full.keys() and min(found.values()) > 0 else None

        top = whole[0]
        step = next(each for each in range(1, top + 1) if top % each == 0 and (each == top or made(top - each)))
        least = next(number for number in range(step, top + 1, step) if made(number))
        numbers = list(range(least, top + 1, step))
        probes = {numbers[0], *(numbers[int(share * (len(numbers) - 1))] for share in _PROBED)}
        asked = {number: made(number) or {} for number in probes}
        changed = [name for name in full if any(found.get(name, full[name]) != full[name] for found in asked.values())]
        # A layer that would get no channels is something else: BasicUNet then leaves a width as it was.
        numbers = [number for number in numbers if all(full[name] * number // top for name in changed)]
        ruled = {name: tuple(full[name] * number // top for number in numbers) for name in changed}
        at = {number: place for place, number in enumerate(numbers)}
        right = all(
            found.get(name) == ruled[name][at[number]]
            for number, found in asked.items() if number in at for name in changed
        )  # fmt: skip
        if not right:  # no simple share: every number is tried
            asked = {number: found for number in numbers if (found := made(number))}
            numbers_made = list(asked)
            ruled = {name: tuple(asked[number][name] for number in numbers_made) for name in changed}
            return Variable(places, tuple(map(values, numbers_made)), ruled)
        return Variable(places, tuple(map(values, numbers)), ruled)


def _built(factory: Any, settings: Mapping[str, Any]) -> nn.Module:
    with seeded(0), torch.device("meta"):
        network = factory(**copy.deepcopy(dict(settings)))
    assert isinstance(network, nn.Module), described(network)
    return network


def _widths_of(network: nn.Module) -> Widths:
    """Return the output channels of every convolution and linear layer, by each name of its weight."""
    found = {}
    for path, module in network.named_modules(remove_duplicate=False):
        width = getattr(module, "out_channels", getattr(module, "out_features", None))
        if isinstance(module, nn.modules.conv._ConvNd | nn.Linear) and isinstance(width, int):
            found[f"{path}.weight"] = width
    return found


def _places(arguments: Any, path: tuple[str, ...], before: Place = ()) -> Iterator[Place]:
    """Yield the places that a path with `EACH` in it stands for, where there are any."""
    if not path:
        yield before
    elif path[0] != EACH:
        if path[0] in arguments:
            yield from _places(arguments[path[0]], path[1:], (*before, path[0]))
    else:
        for number, inner in enumerate(arguments):
            yield from _places(inner, path[1:], (*before, number))


def _at(arguments: Any, place: Place) -> Any:
    for key in place:
        arguments = arguments[key]
    return arguments
