"""Which setting of a factory holds the channels of the image, and which the classes: by its name, or found by trying.

Networks of other people call them as they like. A setting is the one that is meant if the network that is built with
another value of it takes an input of that many channels, or gives that many classes; it runs on meta tensors.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvNd

from ranp.errors import UsageError
from ranp.inputs import Inputs, Shape
from ranp.models.settings import integers
from ranp.models.spec import factory_named, resolve

CHANNELS = (
    "in_channels", "n_input_channels", "in_chans", "input_channels", "n_channels", "num_channels", "in_ch",
    "num_input_channels", "img_channels", "channels_in",
)  # fmt: skip
CLASSES = (
    "classes", "out_channels", "num_classes", "n_classes", "nclass", "output_channels", "num_output_channels", "out_ch",
    "num_labels", "out_chans",
)  # fmt: skip
Runs = Callable[[nn.Module, Inputs], Shape]


def setting_by_name(spec: str, names: Sequence[str], settings: Mapping[str, Any], *, trusted: bool) -> str | None:
    """Return which of the usual names a factory's setting has."""
    known = integers(factory_named(spec, trusted=trusted), settings)
    return next((name for name in names if name in known), None)


def setting_by_trying(
    spec: str,
    names: Sequence[str],
    settings: Mapping[str, Any],
    value: int,
    inputs: Inputs,
    runs: Runs,
) -> str | None:
    """Return the setting that makes a network take so many channels, or give so many classes.

    Args:
        spec: MODEL, of a factory that the user named.
        names: `CHANNELS` or `CLASSES`: what is looked for; these are tried first.
        settings: of the network as it is.
        value: other than what the network has now.
        inputs: for shapes and dtypes, with the channels that are asked for.
        runs: returns the shape of a network's output without the batch, or raises a UsageError.
    """
    for key in _candidates(spec, names, settings):
        try:
            network = resolve(spec, {**settings, key: value})
            output = runs(network, inputs)
        except UsageError:  # the network does not like it
            continue
        if names is CHANNELS or output[:1] == (value,):
            return key
    return None


def _candidates(spec: str, names: Sequence[str], settings: Mapping[str, Any]) -> Iterator[str]:
    known = integers(factory_named(spec), settings)
    yield from (name for name in names if name in known)
    yield from (name for name in known if name not in names)


def channels_of(spec: str, settings: Mapping[str, Any]) -> int | None:
    """Return the channels an own network takes: its setting, the factory's default, or its first convolution's.

    Raises:
        UsageError: the network can't be built.
    """
    known = integers(factory_named(spec), settings)
    for name in CHANNELS:
        if value := known.get(name):
            return value
    network = resolve(spec, settings)
    return next((module.in_channels for module in network.modules() if isinstance(module, _ConvNd)), None)
