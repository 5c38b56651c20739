"""The networks of nnU-Net, built as it builds them, whole or slim.

Both factories are called by what files name, a run's or plans', and so build nothing but classes of
`dynamic_network_architectures` out of its and torch's parts.
"""

import copy
import importlib
import inspect
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import nn

from ranp.errors import UsageError, listed, nearest, need
from ranp.graph.resize import resize_

LIBRARY = "dynamic_network_architectures"
_UNETS = f"{LIBRARY}.architectures.unet"
SLIM = "ranp.adapters.nnunet.slim_network"
_PARTS = ("torch.nn", f"{LIBRARY}.building_blocks")


def network(
    network_class_name: str,
    arch_kwargs: Mapping[str, Any],
    requires_import: Sequence[str],
    input_channels: int,
    num_classes: int,
    deep_supervision: bool = True,
) -> nn.Module:
    """Build what nnU-Net builds from the architecture of a configuration, with its initial weights.

    Args:
        network_class_name: a class of `dynamic_network_architectures`, or `slim_network`.
        arch_kwargs: its keyword arguments, as they stand in plans.
        requires_import: which of them are names of classes.
        input_channels: of the image.
        num_classes: of the output, regions where labels are regions.
        deep_supervision: whether every resolution of the decoder gives an output, the finest first.

    Raises:
        UsageError: a class that is none of these, or arguments that it refuses.
        MissingExtra: dynamic_network_architectures is not installed.
    """
    given = {key: _part(key, value) if key in requires_import else value for key, value in arch_kwargs.items()}
    factory = slim_network if network_class_name == SLIM else _class(network_class_name)
    _check(factory, given, network_class_name)
    built: nn.Module = factory(
        input_channels=input_channels, num_classes=num_classes, deep_supervision=deep_supervision, **given
    )
    initialise = getattr(built, "initialize", None)
    return built if initialise is None else built.apply(initialise)


def slim_network(
    input_channels: int,
    num_classes: int,
    full_class_name: str,
    shapes: Mapping[str, Sequence[int]],
    deep_supervision: bool = False,
    **arch_kwargs: Any,
) -> nn.Module:
    """Build a network of nnU-Net whose layers have widths of their own, for plans that name this function as a class.

    It is an instance of the full network's class, so that nnU-Net switches deep supervision, initialises, trains and
    predicts with it as with any.

    Args:
        input_channels: of the image.
        num_classes: of the output.
        full_class_name: the class whose layers are made narrower.
        shapes: of each parameter and buffer that is smaller than the class makes it.
        deep_supervision: as of the class.
        arch_kwargs: the arguments of the full network, classes imported.

    Raises:
        UsageError: a shape of what the class does not have.
        MissingExtra: dynamic_network_architectures is not installed.
    """
    slim: nn.Module = _class(full_class_name)(
        input_channels=input_channels, num_classes=num_classes, deep_supervision=deep_supervision, **arch_kwargs
    )
    full = copy.deepcopy(slim)
    owners: dict[str, nn.Module] = {}
    for name, shape in shapes.items():
        path, _, last = name.rpartition(".")
        try:
            module = slim.get_submodule(path)
            before = getattr(module, last)
        except AttributeError:
            raise UsageError(f"plans: shapes name {name}, which {full_class_name} does not have") from None
        made = torch.empty(tuple(shape), dtype=before.dtype)
        setattr(module, last, nn.Parameter(made) if isinstance(before, nn.Parameter) else made)
        owners[path] = module
    for path, module in owners.items():
        resize_(module, full.get_submodule(path), None)
        reset: Any = getattr(module, "reset_parameters", None)
        if reset is not None:
            reset()
    return slim


def _class(name: str) -> Any:
    """Return a class of the library; one that has moved is looked for by its own name, as nnU-Net does."""
    where, _, last = name.rpartition(".")
    unets = need(_UNETS, "nnunet")
    if where.startswith(f"{LIBRARY}.architectures."):
        found = getattr(_module(where, unets), last, None)
        if _is_class(found):
            return found
    known = [key for key, value in vars(unets).items() if inspect.isclass(value) and value.__module__ == unets.__name__]
    raise UsageError(
        f"plans: no network class {name!r}; expected one of {LIBRARY}, such as {listed(known)}{nearest(last, known)}"
    )


def _module(name: str, otherwise: ModuleType) -> ModuleType:
    """Return a module, or the one that stands for it where there is none of that name."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        return otherwise


def _is_class(value: Any) -> bool:
    return inspect.isclass(value) and issubclass(value, nn.Module)


def _part(key: str, value: Any) -> Any:
    """Return the class that plans name: a convolution, a norm, an activation, a block."""
    if not isinstance(value, str):
        return value
    where, _, last = value.rpartition(".")
    if any(where == part or where.startswith(f"{part}.") for part in _PARTS):
        module = _module(where, nn)
        found = getattr(module, last, None)
        if _is_class(found):
            return found
        known = [name for name, each in vars(module).items() if _is_class(each)]
        raise UsageError(f"plans: {key} {value!r}: {where} has no such class{nearest(last, known)}")
    raise UsageError(f"plans: {key} {value!r}: expected a class of torch.nn or of {LIBRARY}.building_blocks")


def _check(factory: Any, given: Mapping[str, Any], name: str) -> None:
    parameters = inspect.signature(factory).parameters
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values()):
        return
    unknown = next((key for key in given if key not in parameters), None)
    if unknown is not None:
        short = name.rpartition(".")[2]
        raise UsageError(
            f"plans: arch_kwargs {unknown!r}: {short} takes no such argument{nearest(unknown, parameters)}"
        )
