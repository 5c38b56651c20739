"""Run a network once under a follower, which sees every ATen op and every call of a module.

The run is functionalised, so that in-place writes and views arrive as `slice_scatter`, `select_scatter` and `copy`; on
meta tensors it costs no memory and no arithmetic. Where a value is needed (`.item()`, no meta kernel) it is repeated on
real tensors. Nothing is captured: Python control flow just runs.
"""

import random
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, functionalize

from ranp.errors import UnsupportedError, told
from ranp.graph._following import Follower
from ranp.graph.trace import Trace, like_input
from ranp.inputs import Inputs, as_arguments, flatten, map_tensors
from ranp.modules import all_names, copy_with


@dataclass
class Failure(Exception):
    """A run that stopped: the op or module it stopped at, and why."""

    where: str
    error: Exception
    index: int


def inner(tensor: Tensor) -> Tensor:
    """Return the tensor inside functionalisation's wrapper."""
    if torch._is_functional_tensor(tensor):
        torch._sync(tensor)  # type: ignore[attr-defined, no-untyped-call]
        return torch._from_functional_tensor(tensor)
    return tensor


def _follow_modules(model: nn.Module, follower: Follower) -> None:
    """Tell the follower of every call of a module."""
    places = {"": type(model).__qualname__}
    for path, module in model.named_modules(remove_duplicate=False):
        own = not type(module).__module__.startswith("torch.nn.")
        parent, _, name = path.rpartition(".")
        places[path] = type(module).__qualname__ if own or not path else f"{places[parent]}.{name}"
    for path, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):  # takes no hooks
            continue
        calls = _Calls(path, places[path], follower)
        module.register_forward_pre_hook(calls.enter, with_kwargs=True)
        module.register_forward_hook(calls.leave)


class _Calls:
    """Tells the follower of the calls of one module; slim, because a network has many and every run its own.

    Args:
        path: of the module.
        place: of it in its class.
        follower: that is told.
    """

    __slots__ = ("follower", "path", "place")

    def __init__(self, path: str, place: str, follower: Follower) -> None:
        self.path, self.place, self.follower = path, place, follower

    def enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """See what goes in."""
        self.follower.enter(self.path, self.place, _first([args, kwargs]))

    def leave(self, module: nn.Module, args: Any, output: Any) -> None:
        """See what comes out."""
        self.follower.leave(module, _first(output))


def _first(values: Any) -> Tensor | None:
    """Return the first tensor among some values; every run asks alike, because asking may repeat a view."""
    found = flatten(values)
    return inner(found[0]) if found else None


def run(
    trace: Trace, model: nn.Module, inputs: Inputs, follower: Follower, *, training: bool, private: bool = False
) -> None:
    """Run a copy of a module under a follower; random draws are the same in every run, the caller's are left alone.

    Args:
        trace: its names are filled from the module.
        model: on meta tensors, or a real one.
        inputs: of the same device.
        follower: sees the ops.
        training: the mode to run it in.
        private: whether the module may run itself, because nobody needs it afterwards.

    Raises:
        Failure: the run stopped.
    """
    if not private:
        model = copy_with(model)  # a forward may leave its tensors in the module
    model.train(training)
    for module in model.modules():
        if isinstance(module, nn.DataParallel):
            module.device_ids = []
    follower.begin_(model)
    tensors = {}
    aliases: dict[int, Tensor] = {}
    owners = dict(model.named_modules(remove_duplicate=False))
    for name, tensor in all_names(model):
        path, _, key = name.rpartition(".")
        registered = key in owners[path]._parameters or key in owners[path]._buffers
        if id(tensor) not in aliases:
            aliases[id(tensor)] = tensor.detach() if registered else tensor
            trace.names[id(aliases[id(tensor)])] = name
        if registered:
            tensors[name] = aliases[id(tensor)]
    trace.begin("train" if training else "eval", list(aliases.values()))
    _follow_modules(model, follower)
    try:
        with same_draws(tensors.values()):
            _call(trace, model, tensors, inputs, follower)
    except Exception as error:
        raise Failure(follower.last, error, follower.count) from error


@contextmanager
def same_draws(tensors: Iterable[Tensor]) -> Iterator[None]:
    """Seed the generators of torch, numpy and Python alike, and give the caller's back afterwards."""
    devices = {tensor.device.index or 0 for tensor in tensors if tensor.device.type == "cuda"}
    python, legacy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=sorted(devices)):
            torch.random.manual_seed(0)
            random.seed(0)
            np.random.seed(0)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)


class _Held(nn.Module):
    """A network inside a module, because `functional_call` refuses some kinds at the top."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the network."""
        return self.network(*args, **kwargs)


class _Context(torch.autograd.function.FunctionCtx):
    """Takes what the forward of a custom autograd function leaves for its backward."""

    def __init__(self, count: int) -> None:
        self.needs_input_grad = (False,) * count


_APPLY = torch.autograd.Function.__dict__["apply"]
_FOLLOWED = threading.local()  # .runs: how many runs this thread is in


def _plain_apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
    if not getattr(_FOLLOWED, "runs", 0) or not torch._C._are_functorch_transforms_active():
        return _APPLY.__get__(None, cls)(*args, **kwargs)
    own = () if cls.setup_context is not _SINGLE.setup_context else (_Context(len(args)),)
    return cls.forward(*own, *args, **kwargs)


_SINGLE = torch.autograd.function._SingleLevelFunction
_PATCH = threading.Lock()
_patched = 0  # how many runs of all threads need the patch


@contextmanager
def _plain_functions() -> Iterator[None]:
    """Run the forward of custom autograd functions as plain code, which functionalisation refuses otherwise.

    PyTorch has no hook for it, so that their `apply` is replaced for the process while any thread runs a network, and
    put back by whichever ends last. Threads that run none get what they would have got.
    """
    global _patched
    function = torch.autograd.Function
    with _PATCH:
        _patched += 1
        if _patched == 1:
            function.apply = classmethod(_plain_apply)  # type: ignore[assignment, method-assign]
    _FOLLOWED.runs = getattr(_FOLLOWED, "runs", 0) + 1
    try:
        yield
    finally:
        _FOLLOWED.runs -= 1
        with _PATCH:
            _patched -= 1
            if _patched == 0:
                function.apply = _APPLY  # type: ignore[method-assign]


def _call(trace: Trace, model: nn.Module, tensors: dict[str, Tensor], inputs: Inputs, follower: Follower) -> None:
    def forward(tensors: dict[str, Tensor], args: Any, kwargs: Any) -> list[Tensor]:
        named = {f"network.{name}": tensor for name, tensor in tensors.items()}
        found = flatten(functional_call(_Held(model), named, args, kwargs, tie_weights=False), spend=True)
        if not found:
            raise TypeError("the network returns no tensor")
        return found

    def marked(tensor: Tensor) -> Tensor:
        copied = tensor.detach()
        trace.set(copied, trace.once(like_input(tuple(tensor.shape))))
        return copied

    args, kwargs = as_arguments(map_tensors(inputs, marked))
    with torch.no_grad(), follower, follower.asks, _plain_functions():
        outputs = functionalize(forward, remove="mutations")(tensors, args, kwargs)
    follower.finish(outputs)


def failed(failure: Failure) -> UnsupportedError:
    """Return the error of a network that does not run: the op, the module, and what it said."""
    where = failure.where or "before the first op"
    return UnsupportedError(f"the network does not run: {where}: {told(failure.error)}")
