"""Run a slim network as the full one was run, and find the first op that differs.

The parameters of the slim network are born with the full network's units. Every op must be the same op, compute with
the same numbers, and carry exactly the full network's kept units in the same order; nothing new may be tied or frozen.
Where a group keeps one unit, labels vanish (a dimension of length 1 broadcasts), so that such plans are compared by
shapes alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from ranp.graph._decisions import VIEWS
from ranp.graph._places import Places, places
from ranp.graph.flow import Flow, squeeze_constant, varying
from ranp.graph.graph import Graph, Mask, staying
from ranp.graph.labels import FIXED, FREE, Ints
from ranp.graph.resize import resized
from ranp.graph.rules.registry import base_name, bind, numbers
from ranp.graph.run import Failure, Follower, Recorder, entries_of, run
from ranp.graph.trace import Record, Run, Trace
from ranp.inputs import Inputs, flatten


@dataclass
class Mismatch(Exception):
    """A slim run that differs from the full one: the run, and the number of the op."""

    run: str
    index: int


class SlimTrace(Trace):
    """The labels of a slim network's run are the full network's units.

    Args:
        graph: of the full network.
        kept: the plan.
    """

    def __init__(self, graph: Graph, kept: Mask) -> None:
        super().__init__(graph.count)
        self.graph = graph
        self.outputs = graph.outputs
        self.stays = staying(kept)
        self.immovable = graph.frozen
        self.depthwise = {layer.name: layer.kind == "depthwise" for layer in graph.layers}

    def birth(self, name: str, dim: int, size: int) -> Ints:
        """Return the kept units of a parameter's dimension."""
        members = self.graph.parameters.get(name)
        if members is None or dim not in members.dims:
            return np.full(size, FIXED)
        units = members.dims[dim]
        return units[self.stays[units]]

    def birth_grouped(self, name: str, groups: int, size: int) -> Ints:
        """Return the kept units of a grouped weight."""
        members = self.graph.parameters.get(name)
        if members is None or members.grouped is None:
            return np.full((groups, size), FIXED)
        return np.stack([units[self.stays[units]] for units in members.grouped])

    def is_depthwise(self, root: str | None, groups: int, channels: int) -> bool:
        """Whether a convolution was depthwise in the full network; one channel a group may be left of more."""
        known = None if root is None else self.depthwise.get(root)
        return super().is_depthwise(root, groups, channels) if known is None else known

    def join(self, a: Ints, b: Ints, why: str) -> None:
        """Refuse to tie two units."""
        if not np.array_equal(a, b):
            raise Mismatch("", len(self.records))

    def freeze(self, labels: Ints, why: str) -> None:
        """Refuse to freeze a unit that the full run did not."""
        real = labels[labels >= 0]
        if real.size and not self.immovable[real].all():
            raise Mismatch("", len(self.records))


class Repeating(Recorder):
    """Records a slim run that takes the full one's path, whatever the values say.

    Args:
        trace: of the slim run.
        full: the full run.
        seen: called with each record.
    """

    def __init__(self, trace: SlimTrace, full: Run, seen: Callable[[int, Record], None]) -> None:
        super().__init__(trace, seen)
        self.answers = iter(full.answers)

    def decide(self, value: int) -> int:
        """Return what the full network read."""
        return next(self.answers, value)


class Outline(Follower):
    """Compares ops, numbers and shapes of a slim run with what the full run promises.

    Args:
        trace: of the slim run.
        full: the full run.
        kept: the plan.
    """

    def __init__(self, trace: SlimTrace, full: Run, kept: Mask) -> None:
        super().__init__()
        self.trace, self.records, self.kept, self.next = trace, full.records, kept, 0
        self.answers = iter(full.answers)

    def decide(self, value: int) -> int:
        """Return what the full network read."""
        return next(self.answers, value)

    def after(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], results: list[Tensor]) -> None:
        """Compare an op; a copy is made or not as strides fall, which dimensions of length 1 change."""
        op, arguments = base_name(func), bind(func, args, kwargs)
        scalars = numbers(func, arguments, self.trace)
        for result in results:
            self.trace.set(result, Flow(tuple(result.shape), (), (False,) * result.ndim, None))
        if op == "clone":
            return
        while self.next < len(self.records) and self.records[self.next].op == "clone":
            self.next += 1
        full = _expected(self.records, self.next, op, scalars)
        tensors = flatten([args, kwargs])
        if full.places and not _same_places(full, places(op, arguments, tuple(tensors[0].shape))):
            raise Mismatch("", self.next)
        if full.summed and full.summed != entries_of(tensors[0], results[0]):
            raise Mismatch("", self.next)
        if not _same_groups(full, arguments.get("groups", arguments.get("group", 1))):
            raise Mismatch("", self.next)
        self.next += 1
        for flow, result in zip(full.outputs, results, strict=True):
            if not self._right_shape(flow, result):
                raise Mismatch("", self.next - 1)

    def _right_shape(self, flow: Flow, result: Tensor) -> bool:
        if result.ndim != len(flow.shape):
            return False
        sizes = zip(self.trace.graph.slim_shape(flow, self.kept), result.shape, strict=True)
        return all(expected == size or not _is_known(flow, dim) for dim, (expected, size) in enumerate(sizes))


def _is_known(flow: Flow, dim: int) -> bool:
    """Whether the labels of a dimension say how long it is in a slim run; free entries have no fixed number."""
    over = flow.over(dim)
    return all((each != FREE).all() for each in over) if over else flow.fixed[dim]


def check(
    graph: Graph, model: nn.Module, inputs: Inputs, kept: Mask, names: list[str], *, thin: bool
) -> Mismatch | None:
    """Build the slim network of a plan and run it as the full one was run.

    Args:
        graph: of the full network.
        model: the full network, on the device of the inputs.
        inputs: of the run.
        kept: the plan.
        names: the runs to repeat.
        thin: whether groups may keep a single unit, so that shapes alone are compared.

    Returns:
        Where the two differ first, or None.
    """
    slim = resized(graph, model, kept)
    for name in names:
        full, trace = graph.runs[name].records, SlimTrace(graph, kept)
        comparer = _Comparer(graph, trace.stays, full)
        follower = Outline(trace, graph.runs[name], kept) if thin else Repeating(trace, graph.runs[name], comparer)
        try:
            run(trace, slim, inputs, follower, training=name == "train", private=name == names[-1])
        except Failure as failure:
            index = follower.next if isinstance(follower, Outline) else failure.index
            return Mismatch(name, min(index, len(full) - 1))
        if not thin and follower.count != len(full):
            return Mismatch(name, min(follower.count, len(full) - 1))
    return None


def _same_groups(full: Record, groups: int) -> bool:
    """Whether an op has the full one's number of groups; where each channel is one, they follow the channels."""
    return full.groups in (1, groups) or full.groups == full.inputs[0].shape[1]


def _same_places(full: Record, slim: Places) -> bool:
    """Whether an op acts at the full one's places in every dimension that can't shrink."""
    return all(slim.get(dim) == where for dim, where in full.places.items())


def _expected(records: list[Record], index: int, op: str, scalars: tuple[float | str, ...]) -> Record:
    """Return the record of the full run that an op of the slim one must repeat."""
    if index < len(records):
        full = records[index]
        if full.scalars == scalars and (full.op == op or {full.op, op} <= VIEWS):
            return full
    raise Mismatch("", index)


@dataclass
class _Comparer:
    """Compares each record of a slim run with that of the full run."""

    graph: Graph
    stays: Mask
    records: list[Record]

    def __call__(self, index: int, record: Record) -> None:
        full = _expected(self.records, index, record.op, record.scalars)
        if not _same_groups(full, record.groups) or not _same_places(full, record.places):
            raise Mismatch("", index)
        if full.summed != record.summed:
            raise Mismatch("", index)
        for expected, found in zip(full.outputs, record.outputs, strict=True):
            if not agree(self.graph, self.stays, expected, found):
                raise Mismatch("", index)


def agree(graph: Graph, stays: Mask, full: Flow, slim: Flow) -> bool:
    """Whether a slim tensor carries exactly the kept units of the full one, in order."""
    if len(full.shape) != len(slim.shape):
        return False
    for dim, size in enumerate(full.shape):
        if full.fixed[dim] and not full.over(dim) and slim.shape[dim] != size:
            return False
    found = {_signature(each) for each in slim.fields}
    expected = [_kept_field(graph.units_of(each), stays) for each in full.fields]
    return all(_signature(each) in found for each in expected if each.size > 1 and (each >= 0).any())


def _kept_field(units: Ints, stays: Mask) -> Ints:
    """Return the kept part of a field of units; rows that keep different indices are put one under another."""
    units = squeeze_constant(units, units)
    mask = stays[units]
    if mask.all():
        return units
    axes = varying(units)
    counts = [int(mask.any(axis=tuple(a for a in range(units.ndim) if a != axis)).sum()) for axis in range(units.ndim)]
    flat = units[mask]
    if np.prod(counts) != flat.size:  # not the same indices in every row
        counts[axes[-1]] = int(mask.sum(axis=axes[-1]).max())
    return flat.reshape(counts) if np.prod(counts) == flat.size else flat


def _signature(field: Ints) -> tuple[tuple[int, ...], bytes]:
    """Return what two fields must have in common; free entries have no fixed number."""
    field = squeeze_constant(field, field)
    if (field == FREE).any():
        return (), field[field != FREE].tobytes()
    return field.shape, field.tobytes()
