"""A module's tensors by name, and copies of the module with other tensors in their place."""

import copy
import fnmatch
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from types import CellType, FunctionType, MethodType
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from ranp.errors import UnsupportedError, WrongType, told
from ranp.inputs import EXACTLY_PLAIN, PLAIN

Module = TypeVar("Module", bound=nn.Module)


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Return every parameter, buffer and plain tensor attribute once, by its first name, parameters first.

    Raises:
        UsageError: the model is no module.
    """
    if not isinstance(model, nn.Module):
        raise WrongType(f"model is a {type(model).__name__}; expected a torch.nn.Module")
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


QUANTISED = re.compile(r"quantized|torchao|bitsandbytes|optimum\.quanto")
NOT_QUANTISED = re.compile(r"\.(qat|fake_quantize|observer|stubs)(\.|$)")


def check_kind(model: nn.Module) -> None:
    """Refuse a model whose layers can't be cut: a scripted or traced one as a whole, one with quantised weights.

    Raises:
        UnsupportedError: with what to give instead.
    """
    if isinstance(model, torch.jit.ScriptModule):
        raise UnsupportedError(
            "the network is TorchScript, whose code can't be given other widths: give the module it was scripted or "
            "traced from, with its state_dict, and script the slim one"
        )
    for path, module in model.named_modules():
        held = {**module._parameters, **module._buffers} if hasattr(module, "_parameters") else {}
        marks = [type(module).__module__, *(type(each).__module__ for each in held.values())]
        whole = isinstance(held.get("weight"), Tensor) and not held["weight"].dtype.is_floating_point
        if (
            any(QUANTISED.search(mark) and not NOT_QUANTISED.search(mark) for mark in marks)
            or any(isinstance(each, Tensor) and each.is_quantized for each in held.values())
            or (whole and not held["weight"].is_complex())
        ):
            raise UnsupportedError(
                f"{path or 'the top'}: a {type(module).__name__} with quantised weights: prune the network in floating "
                "point, and quantise the slim one"
            )


def check_values(model: nn.Module) -> None:
    """Refuse a model whose weights have shapes and no values.

    Raises:
        UnsupportedError: one lies on the meta device.
    """
    for name, tensor in tensors_of(model).items():
        if tensor.is_meta:
            raise UnsupportedError(
                f"{name} is on the meta device and has no values: build the network on the CPU, or call "
                "model.to_empty(device='cpu') and load its weights"
            )


def unregistered(model: nn.Module) -> list[nn.Module]:
    """Return the modules that a module's own modules hold in plain lists, tuples and dicts, where torch sees none."""
    known, found = {id(module) for module in model.modules()}, []
    left = [value for module in model.modules() for value in vars(module).values()]
    seen: set[int] = set()
    while left:
        value = left.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, nn.Module):
            if id(value) not in known:
                found.append(value)
                known |= {id(module) for module in value.modules()}
                left += [each for module in value.modules() for each in vars(module).values()]
        elif isinstance(value, list | tuple | dict):
            left += value.values() if isinstance(value, dict) else value
    return found


@contextmanager
def undisturbed() -> Iterator[None]:
    """Leave the caller's inference mode and autocast, under which neither gradients nor a proof come out right."""
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield


WRAPPERS = {"DataParallel": "module", "DistributedDataParallel": "module", "OptimizedModule": "_orig_mod"}
"""Modules that run another one and compute nothing by themselves, by class, and where they hold it."""
AVERAGES = re.compile("[Aa]verage|[Mm]oving|EMA|Ema")
AVERAGED = ("module", "ema_model", "averaged_model")


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the network inside what people wrap one in, or the module itself.

    DataParallel, DistributedDataParallel and compiled modules, averages of weights (AveragedModel, EMA), and a training
    module (Lightning's, or one with its `training_step` and `configure_optimizers`) that holds a single network.
    """
    while (inner := _inside(model)) is not None:
        model = inner
    return model


def _inside(model: nn.Module) -> nn.Module | None:
    """Return what a wrapper holds, None for any other module."""
    names = {kind.__name__ for kind in type(model).__mro__}
    for name, key in WRAPPERS.items():
        if name in names:
            held = getattr(model, key, None)
            return held if isinstance(held, nn.Module) else None
    children = dict(model.named_children()) if isinstance(model, nn.Module) else {}
    if any(AVERAGES.search(name) for name in names):
        return next((children[key] for key in AVERAGED if key in children and _holds_all(children[key], model)), None)
    if "LightningModule" in names or all(hasattr(model, key) for key in ("training_step", "configure_optimizers")):
        networks = [child for child in children.values() if any(True for _ in child.parameters())]
        own = any(each is not None for each in model._parameters.values())
        return networks[0] if len(networks) == 1 and not own else None
    return None


def _holds_all(child: nn.Module, model: nn.Module) -> bool:
    """Whether a wrapper has no parameters but those of one child and of its other, equal copies."""
    sizes = [[p.shape for p in each.parameters()] for each in model.children() if any(True for _ in each.parameters())]
    own = any(each is not None for each in model._parameters.values())
    return not own and all(each == [p.shape for p in child.parameters()] for each in sizes)


def wrapping(model: nn.Module) -> str | None:
    """Say that a network was taken out of a wrapper, None where there is none.

    >>> wrapping(nn.DataParallel(nn.Conv2d(1, 2, 3)))
    'DataParallel is a wrapper: what is traced and made smaller is the Conv2d inside'
    """
    inner = unwrapped(model)
    if inner is model:
        return None
    return f"{type(model).__name__} is a wrapper: what is traced and made smaller is the {type(inner).__name__} inside"


def lies_in(path: str, pattern: str) -> bool:
    """Whether a glob names a module or parameter by its path, or a module it lies in.

    >>> lies_in("encoder.0.weight", "enc*"), lies_in("encoder.0.weight", "decoder")
    (True, False)
    """
    parts = path.split(".")
    return any(fnmatch.fnmatchcase(".".join(parts[:count]), pattern) for count in range(1, len(parts) + 1))


Change = Callable[[str, Tensor], Tensor]
"""From a tensor's first name and the tensor to the one that stands in its place."""


def copy_with(model: Module, change: Change | None = None, *, private: bool = True) -> Module:
    """Return a deep copy of a module in which tensors are changed; the module is untouched.

    A tensor with two names, or held in a list, stays one tensor.

    Args:
        model: any module.
        change: called once with each tensor of `tensors_of`; one that it returns as it is, is copied.
        private: whether lists and dicts that hooks write into are copied too, so that nobody sees the copy run. Any
            other copy is somebody's to train: its parameters get the hooks and plain attributes of the model's.
    """
    memo = _Memo(model, private=private)
    for name, old in tensors_of(model).items():
        new = old if change is None else change(name, old)
        memo[id(old)] = _as(old, old.detach().clone() if new is old else new)
    copied = _copied(model, memo)
    if not private:
        _mark_(copied, model)
    return copied


def _mark_(copied: nn.Module, model: nn.Module) -> None:
    """Give a copy's parameters the hooks on gradients and the plain attributes of the model's."""
    own = dict(copied.named_parameters())
    for name, old in model.named_parameters():
        if name not in own:
            continue
        vars(own[name]).update({key: value for key, value in vars(old).items() if not isinstance(value, Tensor)})
        for hook in (old._backward_hooks or {}).values():
            own[name].register_hook(hook)
        for hook in (old._post_accumulate_grad_hooks or {}).values():
            own[name].register_post_accumulate_grad_hook(hook)


class _Memo(dict[int, Any]):
    """What was copied, by the id of the original, and which classes of modules copy themselves."""

    def __init__(self, model: nn.Module, *, private: bool) -> None:
        super().__init__()
        self.model, self.private = model, private
        self.own: dict[type[nn.Module], bool] = {}

    @cached_property
    def inside(self) -> set[int]:
        """The ids of the model's own modules and containers, which only functions with closures ask for."""
        modules = list(self.model.modules())
        held = (value for module in modules for value in vars(module).values())
        return {*map(id, modules), *(id(value) for value in held if type(value) in (dict, OrderedDict, list))}


# Where `__setstate__` only fills in what old pickles lack.
OLD_PICKLES = {
    f"torch.nn.modules.{name}" for name in ("module", "conv", "batchnorm", "activation", "upsampling", "pooling")
}
OWN_COPY = ("__deepcopy__", "__reduce__", "__reduce_ex__", "__getstate__")


def _copied(module: Module, memo: _Memo) -> Module:
    """Deep-copy a module as `copy.deepcopy` does, several times faster: most of what a module holds is plain."""
    if id(module) in memo:
        return cast(Module, memo[id(module)])
    kind = type(module)
    if kind not in memo.own:
        filled = kind.__setstate__ is nn.Module.__setstate__ or kind.__setstate__.__module__ in OLD_PICKLES
        memo.own[kind] = not filled or any(
            getattr(kind, name, None) is not getattr(nn.Module, name, None) for name in OWN_COPY
        )
    if memo.own[kind]:
        return _own_copy(module, memo)
    copied = kind.__new__(kind)
    memo[id(module)] = copied
    for key, value in vars(module).items():
        if key != "_compiled_call_impl":  # it calls the original, and is left out of PyTorch's own copies too
            copied.__dict__[key] = _copied_value(value, memo)
    return copied


def _own_copy(module: Module, memo: _Memo) -> Module:
    """Copy a module in its own way; a scripted one makes its parameters by an op that autograd would follow."""
    try:
        with torch.no_grad():
            copied = copy.deepcopy(module, memo)
        if isinstance(module, torch.jit.ScriptModule):
            for own, fresh in zip(module.parameters(), copied.parameters(), strict=True):
                fresh.requires_grad_(own.requires_grad)
        return copied
    except Exception as error:
        raise UnsupportedError(f"{type(module).__name__} can't be copied: {told(error, 200)}") from error


def _copied_value(value: Any, memo: _Memo) -> Any:
    """Copy what a module holds; what can't be copied (a lock, an open file) is shared."""
    kind = type(value)
    if kind in EXACTLY_PLAIN and kind is not FunctionType:
        return value
    if id(value) in memo:
        return memo[id(value)]
    if kind is FunctionType:
        return _copied_function(value, memo)
    if kind in (dict, OrderedDict):
        memo[id(value)] = copied = kind()
        for key, each in value.items():
            copied[key] = _copied_value(each, memo)
        return copied
    if kind is list:
        memo[id(value)] = many = []
        many += [_copied_value(each, memo) for each in value]
        return many
    if kind is set and all(type(each) is str for each in value):  # every module holds one
        memo[id(value)] = names = set(value)
        return names
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, nn.Module):
        return _copied(value, memo)
    if kind is tuple:
        return tuple(_copied_value(each, memo) for each in value)
    if isinstance(value, Tensor):
        memo[id(value)] = kept = _as(value, value.detach().clone())
        return kept
    try:
        return copy.deepcopy(value, memo)
    except Exception:
        return value


def _copied_function(function: FunctionType, memo: _Memo) -> FunctionType:
    """Return a function whose closure holds the copies of the modules and containers it holds.

    A hook that writes into `self` of the module it was made in writes into the copy then, not into the original.
    """
    cells = function.__closure__ or ()
    if not any(_is_bound(cell, memo) for cell in cells):
        return function
    fresh = tuple(CellType() for _ in cells)
    copied = FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__, fresh)
    memo[id(function)] = copied
    for cell, new in zip(cells, fresh, strict=True):
        if _is_filled(cell):
            new.cell_contents = _copied_value(cell.cell_contents, memo) if _is_bound(cell, memo) else cell.cell_contents
    copied.__kwdefaults__, copied.__dict__ = function.__kwdefaults__, dict(function.__dict__)
    return copied


def _is_filled(cell: CellType) -> bool:
    try:
        return bool(cell.cell_contents is cell.cell_contents)
    except ValueError:
        return False


def _is_bound(cell: CellType, memo: _Memo) -> bool:
    """Whether a closure's cell holds something that belongs to the module that is copied."""
    return _is_filled(cell) and _belongs(cell.cell_contents, memo)


def _belongs(value: Any, memo: _Memo) -> bool:
    if isinstance(value, nn.Module):
        return id(value) in memo.inside
    if isinstance(value, MethodType):
        return _belongs(value.__self__, memo)
    if isinstance(value, FunctionType):
        held = [cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell)]
        return any(_belongs(each, memo) for each in held if not isinstance(each, FunctionType))
    if type(value) in (dict, OrderedDict, list):
        parts = list(value.values() if isinstance(value, dict) else value)
        held = [id(each) in memo.inside for each in parts if isinstance(each, nn.Module)]
        return id(value) in memo.inside or (all(held) and bool(held or memo.private))
    return id(value) in memo


FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


def _as(old: Tensor, new: Tensor) -> Tensor:
    """Return a tensor as another one is: a parameter or not, with or without gradient, in its memory format."""
    layout = FORMATS.get(old.ndim) if old.layout is torch.strided else None
    if layout and new.ndim == old.ndim and not old.is_contiguous() and old.is_contiguous(memory_format=layout):
        new = new.contiguous(memory_format=layout)
    if isinstance(old, nn.Parameter):
        return nn.Parameter(new, requires_grad=old.requires_grad)
    return new


def on_meta(model: Module) -> Module:
    """Return a copy of a module whose tensors have shapes and no data."""
    return copy_with(model, lambda _, tensor: torch.empty_like(tensor, device="meta"))
