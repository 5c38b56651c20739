"""Run a network once and hand every ATen op to its rule.

The run is functionalised, so that in-place writes and views arrive as `slice_scatter`, `select_scatter` and `copy`; on
meta tensors it costs no memory and no arithmetic. Where a value is needed (`.item()`, no meta kernel) it is repeated on
real tensors. Nothing is captured: Python control flow just runs.
"""

import random
import threading
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, functionalize

from ranp.errors import UnsupportedError, told
from ranp.graph._following import Follower
from ranp.graph.flow import Flow
from ranp.graph.origins import Asks, mark_numbers_
from ranp.graph.resize import sets_sizes
from ranp.graph.rules.op import Op, base_name, bind, is_view, tensors_of
from ranp.graph.rules.registry import RULES, apply, numbers, places, rule_of, single_value
from ranp.graph.tape import Call, Kind, Record
from ranp.graph.trace import Trace, like_input
from ranp.inputs import Inputs, as_arguments, flatten, map_tensors, places_of
from ranp.modules import all_names, copy_with


@dataclass
class Failure(Exception):
    """A run that stopped: the op or module it stopped at, and why."""

    where: str
    error: Exception
    index: int


class Recorder(Follower):
    """Passes each op to its rule and records it; outputs are frozen.

    Args:
        trace: what grows.
    """

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self.trace = trace
        self.own: set[str] = set()  # modules of PyTorch whose sizes follow from their parameters
        self.asks = Asks(trace.sizes, lambda: self.stack[-1].path in self.own, self.listed)
        self.given = 0  # how many tensors the network put out
        self._tensors: list[Tensor] = []
        self._before: list[Flow] = []
        self._weights: list[str] = []
        self._given: list[Hashable] = []  # both in order, with what else a rule may ask of them

    def begin_(self, model: nn.Module) -> None:
        """Mark the numbers that modules hold."""
        self.own = {path for path, module in model.named_modules() if _own_sizes(module)}
        mark_numbers_(model, self.trace.compared, _own_sizes)

    def decide(self, value: Any) -> Any:
        """Note what the network read."""
        self.trace.current.answers.append(value)
        return value

    def before(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Read the flows of an op's arguments."""
        self._tensors, self._before, self._weights, self._given = tensors_of((*args, *kwargs.values())), [], [], []
        for tensor in self._tensors:
            flow, name, value = self.trace.carried(tensor), None, None
            if flow is None:
                name = self.trace.names.get(id(tensor))
                if name is None:
                    flow = self.trace.flow(tensor)
                    value = single_value(tensor)
            if flow is not None:
                self._before.append(flow)
            elif name is not None:
                self._weights.append(name)
            self._given += [flow or name, value, tensor.dtype, tensor.stride()]
        self.trace.read.update(self._weights)

    def after(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], results: list[Tensor]) -> None:
        """Record an op: by its rule, or as in another run where all that it is given is the same."""
        frame, asked, plain = self.stack[-1], self.asks.asked, _plain((*args, *kwargs.items()))
        shapes, marks = tuple((*result.shape,) for result in results), None if asked is None else asked.marks
        key = func, frame.path, frame.call, frame.count, plain, shapes, marks, *self._given
        record = self.trace.known.get(key)
        if record is None:
            site = frame.place, frame.count, base_name(func)
            arguments = bind(func, args, kwargs)
            record = self._applied(Op(site[-1], func, arguments, self._tensors, results, frame.path, site, asked))
            if not func._schema.is_mutable and not any(map(_chooses, results)):
                self.trace.known[key] = record
        base = self.trace.base(self._tensors[0]) if record.view and self._tensors else None
        for result, flow in zip(results, record.outputs, strict=True):
            self.trace.set(result, flow, base)
        self.trace.current.records.append(record)

    def _applied(self, op: Op) -> Record:
        """Apply the rule of an op and return its record."""
        before, results, self.trace.mixing = (*self._before,), op.results, None
        for flow in before:
            self.trace.freeze_picks(flow)
        self._hold_attention(op)
        flows = tuple(self.trace.once(flow) for flow in apply(op, self.trace))
        if op.overload._schema.is_mutable and any(written is results[0] for written in op.tensors):
            # inside ops that functionalisation keeps whole, circular padding among them
            self.trace.write_through(results[0], flows[0], f"written in part in {op.where}")
        record = Record(
            op.name, op.module, op.site, before, flows, scalars=numbers(op.overload, op.arguments, self.trace)
        )
        record.mixing, record.view = self.trace.mixing, is_view(op.overload)
        whole = flows[0] if record.op.endswith("scatter") else before[0] if before else None
        if whole is not None and len(whole.shape) == len(flows[0].shape) + (record.op == "select"):
            found = places(record.op, op.arguments, whole.shape)
            record.places = {dim: where for dim, where in found.items() if whole.immovable(dim)}
        rule = rule_of(op.name, op.overload)
        if rule is not None:
            record.kind, record.made = rule.kind, rule.results
        if record.kind == Kind.SUM and before and before[0].constant:
            record.summed = entries_of(op.tensors[0], results[0])
        record.weights = (*self._weights,)
        if any(_chooses(each) for each in results) and any(each.is_floating_point() for each in op.tensors):
            record.chosen = tuple(each.clone() if _chooses(each) else None for each in results)
        self._keep_arguments(op, record)
        return record

    def _hold_attention(self, op: Op) -> None:
        """Keep the width of `nn.MultiheadAttention`, by which it cuts its weights, and whose queries and keys stay."""
        call = op.asked
        if call is None or call.name != "multi_head_attention_forward":
            return
        packed = call.args[5] is not None  # one weight for queries, keys and values
        for tensor in call.args[: 3 if packed else 1]:
            flow = self.trace.flow(torch._from_functional_tensor(tensor))
            why = f"width of the nn.MultiheadAttention at {op.module or 'the top'}"
            self.trace.freeze_flow(flow, why, [len(flow.shape) - 1])

    def _keep_arguments(self, op: Op, record: Record) -> None:
        """Keep what the counters need of an op's arguments."""
        rule = RULES.get(op.name)
        if record.kind == Kind.CONVOLUTION:
            record.groups, record.transposed = op["groups"], op["transposed"]
            record.arguments = {"kernel": tuple(op["weight"].shape[2:]), "bias": op["bias"] is not None}
            record.arguments["left"] = self.trace.flow(op["input"])
        elif op.name == "native_group_norm":
            record.groups = op["group"]
        elif rule is not None and rule.left is not None:
            record.arguments = {"left": self.trace.flow(op[rule.left]), "bias": _adds(op)}
        elif record.kind in (Kind.POOL, Kind.BATCH_NORM, Kind.RESAMPLING, Kind.FOURIER):
            record.arguments = {k: v for k, v in op.arguments.items() if not isinstance(v, Tensor)}

    def enter(self, path: str, place: str, first: Tensor | None) -> None:
        """Enter a module and remember what goes in."""
        super().enter(path, place, first)
        self.stack[-1].flow = None if first is None else self.trace.flow(first)

    def leave(self, module: nn.Module, first: Tensor | None) -> None:
        """Leave a module and note the call of one without children."""
        frame = self.stack.pop()
        if frame.flow is not None and first is not None and not any(True for _ in module.children()):
            self.trace.current.calls.append(Call(frame.path, type(module), frame.flow, self.trace.flow(first)))

    def finish(self, outputs: list[Tensor]) -> None:
        """Freeze what a network puts out, or those of its outputs that were named."""
        self.given, stays = len(outputs), places_of(self.trace.outputs, len(outputs))
        self.trace.current.outputs = list(map(self.trace.flow, outputs))
        for place, flow in enumerate(self.trace.current.outputs):
            self.trace.freeze_picks(flow)
            if place in stays:
                self.trace.freeze_flow(flow, "network output")


class Insisting(Recorder):
    """Takes every condition, or whole number, for one answer, to see the other paths; a loop ends after some turns.

    Args:
        trace: what grows.
        answer: that is given.
    """

    def __init__(self, trace: Trace, answer: int) -> None:
        super().__init__(trace)
        self.answer, self.left = answer, 32

    def decide(self, value: Any) -> Any:
        """Return the answer where it is of the value's kind, or after many of them the truth."""
        if type(value) is not type(self.answer):
            return value
        self.left -= 1
        return self.answer if self.left > 0 else value


def _plain(values: Any) -> Hashable:
    """Return values in a form that can be compared, without tensors."""
    if isinstance(values, list | tuple):
        return tuple(map(_plain, values))
    return None if isinstance(values, Tensor) else values


def _chooses(result: Tensor) -> bool:
    """Whether a result is conditions or numbers with values."""
    return not (result.is_meta or result.is_floating_point() or result.is_complex())


def entries_of(whole: Tensor, result: Tensor) -> int:
    """Return how many entries of a tensor each entry of a reduced one stands for."""
    return whole.numel() // max(result.numel(), 1)


def _adds(op: Op) -> bool:
    """Whether a matrix product adds a further tensor."""
    return op.name.startswith(("addm", "badd")) or isinstance(op.arguments.get("bias"), Tensor)


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


def _own_sizes(module: nn.Module) -> bool:
    """Whether a module is a layer of PyTorch whose sizes are set from its parameters in a slim network."""
    return sets_sizes(module) and type(module).__module__.startswith("torch.nn.")


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
