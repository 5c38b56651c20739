"""Tensors that a forward leaves in its module and that are no state: a last input, a map to draw, a cache made anew.

What a forward overwrites before it reads is no part of the network, so that it is neither saved nor compared.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ranp.graph.rules.registry import base_name
from ranp.inputs import Inputs, as_arguments, flatten, map_tensors
from ranp.modules import copy_with, on_meta

FILLING = {"copy", "zero", "fill", "normal", "uniform"}  # in place


def left_behind(model: nn.Module, inputs: Inputs) -> frozenset[str]:
    """Return the names of buffers and plain attributes that a forward overwrites before it reads them.

    A private copy runs, in evaluation mode and, where that finds any, in training mode too; on meta tensors where it
    can. What does not run tells nothing.

    Args:
        model: any module; it is untouched.
        inputs: for shapes and dtypes.
    """
    if not _candidates(model):
        return frozenset()
    found = _overwritten(model, inputs, training=False)
    if not found:
        return frozenset()
    trained = _overwritten(model, inputs, training=True)
    return frozenset(found if trained is None else found & trained)


def _candidates(model: nn.Module) -> dict[str, Tensor]:
    """Return the buffers and plain tensors of modules that are not torch's own, whose forwards are known."""
    found = {}
    for path, module in model.named_modules():
        if not type(module).__module__.startswith("torch.nn."):
            held = {**vars(module), **module._buffers}
            prefix = f"{path}." if path else ""
            found.update({prefix + key: each for key, each in held.items() if isinstance(each, Tensor)})
    return found


def _overwritten(model: nn.Module, inputs: Inputs, *, training: bool) -> set[str] | None:
    def empty(tensor: Tensor) -> Tensor:
        return torch.empty_like(tensor, device="meta")

    def zero(tensor: Tensor) -> Tensor:
        return torch.zeros_like(tensor, device="cpu")

    try:
        return _run(on_meta(model).train(training), map_tensors(inputs, empty))
    except Exception:  # no meta kernel, or a value is read
        try:
            return _run(
                copy_with(model, lambda _, each: each.detach().cpu()).train(training), map_tensors(inputs, zero)
            )
        except Exception:
            return None


def _run(model: nn.Module, inputs: Inputs) -> set[str]:
    """Run a module that nobody needs afterwards."""
    before = _candidates(model)
    args, kwargs = as_arguments(inputs)
    with torch.no_grad(), torch.random.fork_rng(devices=[]), _Reads(before) as reads:
        outputs = flatten(model(*args, **kwargs), spend=True)
    reads.read |= {id(each) for each in outputs if id(each) not in reads.filled}
    after = _candidates(model)
    changed = {name for name, each in before.items() if after.get(name) is not each or id(each) in reads.filled}
    return {name for name in changed if id(before[name]) not in reads.read}


class _Reads(TorchDispatchMode):
    """Notes which of some tensors are read by an op, and which are filled before that.

    Args:
        tensors: by name.
    """

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.read: set[int] = set()
        self.filled: set[int] = set()
        self._watched = {id(each) for each in tensors.values()}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = [id(each) for each in flatten([args, kwargs or {}])]
        if func._schema.is_mutable and base_name(func) in FILLING and given.count(given[0]) == 1:
            if given[0] not in self.read:
                self.filled.add(given[0])
            given = given[1:]
        self.read |= self._watched.intersection(given) - self.filled
        return func(*args, **(kwargs or {}))
