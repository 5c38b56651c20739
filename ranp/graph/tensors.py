"""The tensors of a module by name, and copies of the module with other tensors in their place."""

import copy
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from types import FunctionType
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from ranp.errors import UnsupportedError

Module = TypeVar("Module", bound=nn.Module)


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Return every parameter, buffer and plain tensor attribute once, by its first name, parameters first."""
    found: dict[int, tuple[str, Tensor]] = {}
    for name, tensor in all_names(model):
        found.setdefault(id(tensor), (name, tensor))
    return dict(found.values())


def all_names(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield (name, tensor) with every name of a tensor that has several."""
    parameters, buffers, attributes = [], [], []
    for path, module in model.named_modules(remove_duplicate=False):  # once: three walks take three times as long
        prefix = f"{path}." if path else ""
        parameters += [(prefix + key, each) for key, each in module._parameters.items() if each is not None]
        buffers += [(prefix + key, each) for key, each in module._buffers.items() if each is not None]
        attributes += [(prefix + key, each) for key, each in vars(module).items() if isinstance(each, Tensor)]
    yield from parameters
    yield from buffers
    yield from attributes


def check_initialised(model: nn.Module) -> None:
    """Refuse a model whose parameters have no shape yet.

    Raises:
        UnsupportedError: a lazy module was never run.
    """
    for name, tensor in model.named_parameters():
        if isinstance(tensor, nn.parameter.UninitializedParameter):
            raise UnsupportedError(f"{name} has no shape yet: run the model once before it is traced")


def copy_with(model: Module, tensors: Mapping[str, Tensor]) -> Module:
    """Return a deep copy of a module in which some tensors are others; the module is untouched.

    Tensors that are not named are copied. A tensor with two names, or held in a list, stays one tensor.
    """
    memo: dict[int, Any] = {}
    for name, old in tensors_of(model).items():
        memo[id(old)] = _as(old, tensors[name]) if name in tensors else _as(old, old.detach().clone())
    return _copied(model, memo)


PLAIN = (int, float, complex, str, bytes, bool, type(None), type, torch.dtype, torch.device, torch.Size, FunctionType)
EXACTLY_PLAIN = frozenset(PLAIN)
# Where `__setstate__` only fills in what old pickles lack.
OLD_PICKLES = {
    f"torch.nn.modules.{name}" for name in ("module", "conv", "batchnorm", "activation", "upsampling", "pooling")
}
OWN_COPY = ("__deepcopy__", "__reduce__", "__reduce_ex__", "__getstate__")


def _copied(module: Module, memo: dict[int, Any]) -> Module:
    """Deep-copy a module as `copy.deepcopy` does, several times faster: most of what a module holds is plain."""
    if id(module) in memo:
        return cast(Module, memo[id(module)])
    kind = type(module)
    if any(getattr(kind, name, None) is not getattr(nn.Module, name, None) for name in OWN_COPY):
        return copy.deepcopy(module, memo)
    if kind.__setstate__.__module__ not in OLD_PICKLES:
        return copy.deepcopy(module, memo)
    copied = kind.__new__(kind)
    memo[id(module)] = copied
    for key, value in vars(module).items():
        copied.__dict__[key] = _copied_value(value, memo)
    return copied


def _copied_value(value: Any, memo: dict[int, Any]) -> Any:
    kind = type(value)
    if kind in EXACTLY_PLAIN:
        return value
    if id(value) in memo:
        return memo[id(value)]
    if kind in (dict, OrderedDict):
        memo[id(value)] = copied = kind()
        for key, each in value.items():
            copied[key] = _copied_value(each, memo)
        return copied
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, nn.Module):
        return _copied(value, memo)
    if type(value) is tuple and all(isinstance(each, PLAIN) for each in value):
        return value
    return copy.deepcopy(value, memo)


def _as(old: Tensor, new: Tensor) -> Tensor:
    if isinstance(old, nn.Parameter):
        return nn.Parameter(new, requires_grad=old.requires_grad)
    return new


def on_meta(model: Module) -> Module:
    """Return a copy of a module whose tensors have shapes and no data."""
    return copy_with(model, {name: torch.empty_like(t, device="meta") for name, t in tensors_of(model).items()})
