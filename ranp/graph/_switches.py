"""The boolean flags of a network: which it holds and reads, whether it asks for its mode, and ways to run it otherwise.

Flags are those of the network's own modules, in their plain dicts and configurations; ways are arguments of the forward
too.
"""

import inspect
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from types import FunctionType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from ranp.inputs import PLAIN, as_arguments

Flag = tuple[type, str, bool]
"""A class of modules, an attribute of theirs, and the value that is tried."""
Reading = tuple[type, str]
"""A class of modules, and an attribute of theirs that is read."""
TRAINING: Reading = (nn.Module, "training")
PYTORCH = f"{torch.__file__.rpartition('/')[0]}/"


class _Watched(dict[str, Any]):
    """The submodules of a module, which `nn.Module` asks for what is no plain attribute: flags too, so that it is seen.

    Args:
        module: whose flags it takes.
        names: of them.
        read: told what is read.
    """

    def __init__(self, module: nn.Module, names: set[str], read: set[Reading]) -> None:
        held = vars(module)
        super().__init__(held["_modules"])
        self.flags, self.kind, self.read = {name: held.pop(name) for name in names}, type(module), read

    def __contains__(self, name: object) -> bool:
        return name in self.flags or super().__contains__(name)

    def __getitem__(self, name: str) -> Any:
        if name not in self.flags:
            return super().__getitem__(name)
        if _is_own(self.kind) or not sys._getframe(2).f_code.co_filename.startswith(PYTORCH):  # past `__getattr__`
            self.read.add(_reading(self.kind, name))
        return self.flags[name]


def watch_(module: nn.Module, read: set[Reading]) -> None:
    """Let a private module say whether its flags and its mode are read; flags of the class always count as read.

    Of a module of PyTorch it is the mode alone, and what PyTorch itself reads (see `minds_mode`) is not said.
    """
    if isinstance(module, torch.jit.ScriptModule):  # whose attributes lie elsewhere
        return
    kind = type(module)
    names = {"training", *(name.partition(".")[0] for name, _ in (_bools(module) if _is_own(kind) else ()))}
    by_class = {name for name in names if hasattr(kind, name)}
    read.update(_reading(kind, name) for name in by_class)
    vars(module)["_modules"] = _Watched(module, names - by_class, read)


def _reading(kind: type, name: str) -> Reading:
    return TRAINING if name == "training" else read_as((kind, name, True))


def minds_mode(module: nn.Module) -> bool:
    """Whether a module of PyTorch does anything else in training mode; the network's own are watched instead."""
    if _is_own(type(module)):
        return False
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return module.p > 0
    if isinstance(module, nn.modules.batchnorm._NormBase):
        return module.running_mean is not None
    if isinstance(module, torch.jit.ScriptModule):  # which does not show its code
        return True
    methods = (each for kind in type(module).__mro__ if kind is not nn.Module for each in vars(kind).values())
    return any(isinstance(each, FunctionType) and "training" in each.__code__.co_names for each in methods)


def read_as(flag: Flag) -> Reading:
    """Return the class and the attribute that is read where a flag is: a configuration counts as a whole."""
    return flag[0], flag[1].partition(".")[0]


def flags_of(model: nn.Module) -> dict[tuple[type, str], list[bool]]:
    """Return the flags of a network's own modules, and the value of each in every module of the class."""
    held: dict[tuple[type, str], list[bool]] = {}
    for module in model.modules():
        for name, value in _bools(module) if _is_own(type(module)) else ():
            held.setdefault((type(module), name), []).append(value)
    return held


def _is_own(kind: type) -> bool:
    """Whether a class of modules is none of PyTorch's."""
    return not kind.__module__.startswith("torch.")


def switched(flags: dict[tuple[type, str], list[bool]]) -> list[Flag]:
    """Return each flag with each value that not all modules of its class have."""
    return [(*key, value) for key, held in flags.items() for value in (True, False) if {value} != set(held)]


def _bools(module: nn.Module) -> Iterator[tuple[str, bool]]:
    """Yield the flags that a module or its class holds, and those in its plain dicts and objects, as `config.aux`."""
    for key, held in vars(module).items():
        for name, value in _held(held).items() if key not in _OWN else ():
            if type(name) is str and type(value) is bool and not name.startswith("_") and not ACTS.search(name.lower()):
                yield f"{key}.{name}", value
    own = {name: value for kind in reversed(type(module).__mro__) for name, value in vars(kind).items()}
    for name, value in {**own, **vars(module)}.items():
        hidden = hasattr(nn.Module, name) or name in _OWN or name.startswith("__") or ACTS.search(name.lower())
        if isinstance(value, bool) and not hidden:
            yield name, value


def _held(value: Any) -> dict[Any, Any]:
    """Return what a plain dict or object, such as a configuration, holds by name."""
    if type(value) is dict:
        return value
    plain = not isinstance(value, (*PLAIN, Tensor, nn.Module, ModuleType)) and type(value).__module__ != "builtins"
    return dict(getattr(value, "__dict__", {})) if plain and not type(value).__module__.startswith("torch") else {}


ACTS = re.compile("debug|verbose|print|plot|draw|show|save|write|dump|profil|visuali|logging")
"""In the names of flags that are never switched: what they switch on acts outside of the network."""
_OWN = frozenset(vars(nn.Module()))


def ways(model: nn.Module, inputs: Any) -> Iterator[tuple[tuple[Flag, ...], Any, str]]:
    """Yield the flags or the inputs of each try, in words too: flags first, then arguments of the forward."""
    flags = switched(flags_of(model))
    tries: list[tuple[Flag, ...]] = [(flag,) for flag in flags]
    tries += [tuple(flag for flag in flags if flag[2] is value) for value in (True, False)]
    for tried in tries:
        yield tried, None, ", ".join(dict.fromkeys(map(words_of, tried)))
    for name, value, given in _other_arguments(model, inputs):
        yield (), given, f"forward({name}={value})"


def words_of(flag: Flag) -> str:
    """Return a flag and its value as a person would write them."""
    kind, name, value = flag
    return f"{kind.__name__}.{name}={value}"


def _other_arguments(model: nn.Module, inputs: Any) -> Iterator[tuple[str, bool, Any]]:
    """Yield each boolean argument of the forward that the inputs leave out, its other value, and inputs with that."""
    signature, (args, kwargs) = inspect.signature(model.forward), as_arguments(inputs)
    kinds = {each.kind for each in signature.parameters.values()}
    if kinds & {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.POSITIONAL_ONLY}:
        return
    with suppress(TypeError):  # they do not fit, which the run has said
        bound = signature.bind(*args, **kwargs)
        placed = list(signature.parameters)[: len(bound.args)]
        given = {**dict(zip(placed, bound.args, strict=True)), **bound.kwargs}
        for name, each in signature.parameters.items():
            if isinstance(each.default, bool) and name not in given and not ACTS.search(name.lower()):
                yield name, not each.default, {**given, name: not each.default}
