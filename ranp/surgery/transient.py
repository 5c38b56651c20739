"""Tensors that a forward leaves in its module and that are no state: a last input, a map to draw, a cache made anew.

What a forward overwrites before it reads is no part of the network, so that it is neither saved nor compared. Nor is
what it makes once and reads from then on, a table of positions, where it makes the same again from any input; what it
takes from its first input, as a normalisation does that is initialised by data, stays.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ranp.graph.rules.op import Mode, base_name
from ranp.inputs import Inputs, as_arguments, draw, flatten, map_tensors
from ranp.modules import copy_with, on_meta

FILLING = {"copy", "zero", "fill", "normal", "uniform"}  # in place


def left_behind(model: nn.Module, inputs: Inputs) -> frozenset[str]:
    """Return the names of buffers and plain attributes that a forward overwrites before it reads them, or makes again.

    A private copy runs, in evaluation mode and, where that finds any, in training mode too; on meta tensors where it
    can, and where one is made again, on two random inputs as far as that. What does not run tells nothing.

    Args:
        model: any module; it is untouched.
        inputs: for shapes and dtypes.
    """
    if not _candidates(model):
        return frozenset()
    found, read = _overwritten(model, inputs, training=False) or (set(), set())
    trained = _overwritten(model, inputs, training=True) if found else None
    left = found if trained is None else found & trained[0]
    return frozenset(left | _made_once(model, inputs, set(_candidates(model)) - left, read))


def _candidates(model: nn.Module) -> dict[str, Tensor]:
    """Return the buffers and plain tensors of modules; of torch's own, what hooks put there.

    The forwards of those are known: they read their buffers, and a weight that is computed from parameters.
    """
    found = {}
    for path, module in model.named_modules():
        held = {**vars(module), **module._buffers}
        if type(module).__module__.startswith("torch.nn."):
            computed = {name.rpartition("_")[0] for name in module._parameters}  # of weight_g and weight_v
            held = {key: each for key, each in vars(module).items() if key not in computed}
        prefix = f"{path}." if path else ""
        found.update({prefix + key: each for key, each in held.items() if isinstance(each, Tensor)})
    return found


def _made_once(model: nn.Module, inputs: Inputs, names: set[str], read: set[str]) -> set[str]:
    """Return those of some names that a forward makes anew where they are missing, the same from any input.

    Buffers that a state dict has are none, nor is what modules hold of which nothing is read. The others are taken away
    from all modules of a class at once, together and then each by itself; set to None, and removed.
    """
    saved = model.state_dict(keep_vars=True).keys()
    by_class: dict[type, set[str]] = {}
    by_name: dict[tuple[type, str], set[str]] = {}
    for name in names - saved:
        path, _, key = name.rpartition(".")
        kind = type(model.get_submodule(path))
        by_class.setdefault(kind, set()).add(name)
        by_name.setdefault((kind, key), set()).add(name)
    found: set[str] = set()
    used = {kind for kind, held in by_class.items() if held & read}
    by_class = {kind: held for kind, held in by_class.items() if kind in used}
    by_name = {(kind, key): held for (kind, key), held in by_name.items() if kind in used}
    for group in [*by_class.values(), *by_name.values()]:
        for gone in (False, True):
            if not group <= found and _makes(model, inputs, group, gone=gone):
                found |= group
    return found


def _makes(model: nn.Module, inputs: Inputs, names: set[str], *, gone: bool) -> bool:
    """Whether a forward makes these tensors anew, the same from two inputs, and as they are or of another size."""
    held = {name: each.detach().cpu() for name, each in _candidates(model).items() if name in names}
    empty = map_tensors(inputs, lambda tensor: torch.empty_like(tensor, device="meta"))
    with torch.device("meta"):  # what is made on no device that is named, too
        if _remade(on_meta(model), empty, names, gone=gone) is None:
            return False
    both = []
    for seed in (0, 1):
        drawn = draw(inputs, torch.Generator().manual_seed(seed))
        copied = copy_with(model, lambda _, tensor: tensor.detach().cpu())
        both.append(_remade(copied, drawn, names, gone=gone, seed=seed))
    first, second = both
    return (
        first is not None
        and second is not None
        and all(_alike(each, second[name]) for name, each in first.items())
        and all(each.shape != held[name].shape or _alike(each, held[name]) for name, each in first.items())
    )


def _alike(one: Tensor, other: Tensor) -> bool:
    return (
        one.shape == other.shape and one.dtype == other.dtype and bool(torch.isclose(one, other, equal_nan=True).all())
    )


def _remade(
    model: nn.Module, inputs: Inputs, names: set[str], *, gone: bool, seed: int = 0
) -> dict[str, Tensor] | None:
    """Return what a run makes in the place of some tensors, None where it does not; it ends when they are there."""
    places = [(name, model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2]) for name in names]
    for _, module, key in places:
        if not gone:
            setattr(module, key, None)
        elif key in vars(module):
            delattr(module, key)
        else:
            return None

    def made() -> dict[str, Tensor]:
        held = {name: getattr(module, key, None) for name, module, key in places}
        return {name: each for name, each in held.items() if isinstance(each, Tensor)}

    args, kwargs = as_arguments(inputs)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]), _Until(lambda: len(made()) == len(names)):
            torch.manual_seed(seed)
            model.eval()(*args, **kwargs)
    except _AllThere:
        pass
    except Exception:
        return None
    found = made()
    return found if len(found) == len(names) else None


class _AllThere(Exception):
    """A run has made what it was to make."""


class _Until(Mode):
    """Ends a run when a condition holds.

    Args:
        holds: asked before each op.
    """

    def __init__(self, holds: Callable[[], bool]) -> None:
        super().__init__()
        self._holds = holds

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if self._holds():
            raise _AllThere
        return func(*args, **(kwargs or {}))


def _overwritten(model: nn.Module, inputs: Inputs, *, training: bool) -> tuple[set[str], set[str]] | None:
    """Return what a run overwrites before it reads it, and what it reads; None where it does not run."""

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


def _run(model: nn.Module, inputs: Inputs) -> tuple[set[str], set[str]]:
    """Run a module that nobody needs afterwards."""
    before = _candidates(model)
    args, kwargs = as_arguments(inputs)
    with torch.no_grad(), torch.random.fork_rng(devices=[]), _Reads(before) as reads:
        outputs = flatten(model(*args, **kwargs), spend=True)
    reads.read |= {id(each) for each in outputs if id(each) not in reads.filled}
    after = _candidates(model)
    changed = {name for name, each in before.items() if after.get(name) is not each or id(each) in reads.filled}
    read = {name for name, each in before.items() if id(each) in reads.read}
    return changed - read, read


class _Reads(Mode):
    """Notes which of some tensors are read by an op, and which are filled before that.

    Args:
        tensors: by name.
    """

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        super().__init__()
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
