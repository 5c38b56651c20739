"""Record a run: every ATen op by its rule, or as another run recorded it."""

from collections.abc import Hashable
from typing import Any

import torch
from torch import Tensor, nn

from ranp.graph._following import Follower
from ranp.graph.flow import Flow
from ranp.graph.origins import Asks, mark_numbers_
from ranp.graph.resize import sets_sizes
from ranp.graph.rules.op import Op, base_name, bind, is_view, tensors_of
from ranp.graph.rules.registry import apply, numbers, places, rule_of, single_value
from ranp.graph.tape import Call, Kind, Record
from ranp.graph.trace import Trace
from ranp.inputs import places_of


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
            self._given += [flow or name, value, tensor.dtype, tensor.stride(), tensor.storage_offset()]
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
        if op.overload._schema.is_mutable:
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
        self._keep_arguments(op, record, None if rule is None else rule.left)
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

    def _keep_arguments(self, op: Op, record: Record, left: str | None) -> None:
        """Keep what the counters need of an op's arguments; of a product, which is its left operand."""
        if record.kind == Kind.CONVOLUTION:
            record.groups, record.transposed = op["groups"], op["transposed"]
            record.arguments = {"kernel": tuple(op["weight"].shape[2:]), "bias": op["bias"] is not None}
            record.arguments["left"] = self.trace.flow(op["input"])
        elif op.name == "native_group_norm":
            record.groups = op["group"]
        elif left is not None:
            record.arguments = {"left": self.trace.flow(op[left]), "bias": _adds(op)}
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
    if isinstance(values, float | bool):  # 2.0 is not 2, nor is True 1
        return repr(values)
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


def _own_sizes(module: nn.Module) -> bool:
    """Whether a module is a layer of PyTorch whose sizes are set from its parameters in a slim network."""
    return sets_sizes(module) and type(module).__module__.startswith("torch.nn.")
