"""What the run of the full network leaves open, and how strictly each open point is taken.

A run can't tell `x.chunk(2, 1)` from `x[:, :16]`, or `view(b, g, c // g)` from `view(b, 4, 16)`: sizes may be baked
into the forward. Each such op goes through stages, one at a time, when a slim run disagrees:

- a view that splits channels into factors: at first both may shrink; then one factor alone (the longest first, then the
  others), channels that differ in the other factors live and die together; then none;
- a slice, split or chunk: its parts as they are; then parts of equal width (of a slice with a step: its blocks live and
  die together); then none may shrink.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from ranp.graph.flow import Shape, first_along, reshape_field, squeeze_constant, varying
from ranp.graph.labels import Ints, Labels
from ranp.graph.sizes import Size
from ranp.graph.trace import Record, Trace

VIEWS = {"view", "_unsafe_view", "reshape", "_reshape_alias", "unflatten"}
PARTS = {"slice", "narrow", "split", "split_with_sizes", "unsafe_split", "unsafe_split_with_sizes"}
PARTS |= {"chunk", "unsafe_chunk", "tensor_split", "slice_scatter", "roll"}


@dataclass(frozen=True)
class Point:
    """What a plan must upset to tell how a view or cut is meant.

    Args:
        kind: "counts": its rows keep equally many; "indices": its rows keep the same indices, or none; "all": all of
            it is kept.
        grid: labels (rows, n).
    """

    kind: str
    grid: Ints


@dataclass
class Extra:
    """What the decisions add to a trace.

    Args:
        frozen: labels that must stay, each with its reason.
        balance: label arrays (rows, n) of which every row keeps equally many.
        wide: labels whose groups keep at least two units.
        sizes: numbers of modules that count channels.
    """

    frozen: list[tuple[Ints, str]] = field(default_factory=list)
    balance: list[Ints] = field(default_factory=list)
    wide: list[Ints] = field(default_factory=list)
    sizes: list[Size] = field(default_factory=list)


@dataclass
class Decisions:
    """What was decided so far.

    Args:
        fixed: labels fixed by the user, or found to decide a size, each with its reason.
        wide: labels whose groups need two units, because a width of 1 changes the meaning of an op.
        stages: how strictly each view and cut in question is taken: (run, record number) -> stage.
        sizes: numbers of modules that were found to count channels.
        equal: labels (2, n) of two groups that keep equally many, because one's width is written for the other's.
    """

    fixed: list[tuple[Ints, str]] = field(default_factory=list)
    wide: list[Ints] = field(default_factory=list)
    equal: list[Ints] = field(default_factory=list)
    stages: dict[tuple[str, int], int] = field(default_factory=dict)
    sizes: list[Size] = field(default_factory=list)

    def apply(self, trace: Trace, labels: Labels) -> Extra:
        """Tie labels by the stages and return what else was decided.

        Args:
            trace: whose records the stages speak of; its own labels stay as they are.
            labels: a copy of the trace's labels, tied further here.
        """
        extra = Extra(list(self.fixed), list(self.equal), list(self.wide), list(self.sizes))
        for (name, index), stage in self.stages.items():
            record = trace.runs[name].records[index]
            if record.op in VIEWS:
                _decide_view(trace.labels, labels, record, stage, extra)
            else:
                _decide_part(labels, record, stage, extra)
        return extra

    def open_points(self, trace: Trace) -> Iterator[Point]:
        """Yield what plans must upset to test each view and cut that is taken at its loosest."""
        for name, run in trace.runs.items():
            for index, record in enumerate(run.records):
                if (name, index) in self.stages:
                    continue
                if record.op in VIEWS:
                    yield from _points_of_view(trace, record)
                elif record.op in PARTS:
                    yield from _points_of_part(record)

    def would_freeze(self, trace: Trace, run: str, index: int) -> bool:
        """Whether the next stage of a view or cut is the last one."""
        record, stage = trace.runs[run].records[index], self.stages.get((run, index), 0) + 1
        if record.op in VIEWS:
            return stage > max((len(varying(each)) for each in _splits(trace.labels, record)), default=0)
        return stage > 1 or not any(True for _ in _equal_parts(record))

    def escalate(self, trace: Trace, run: str, index: int) -> None:
        """Take an op one stage stricter, and with it the same line of code in repeated blocks."""
        stage = self.stages.get((run, index), 0) + 1
        site = trace.runs[run].records[index].site
        for name, each in trace.runs.items():
            for position, record in enumerate(each.records):
                if record.site == site:
                    self.stages[name, position] = max(stage, self.stages.get((name, position), 0))


def fixed_size(record: Record) -> str:
    """Return the reason of what an op's size stops."""
    return f"fixed size in {record.op} at {record.module or 'the top'}"


def fields_of(record: Record) -> Iterator[Ints]:
    """Yield every field that goes into an op or comes out of it, parameters left out."""
    for flow in (*record.inputs, *record.outputs):
        yield from flow.fields


def _freeze(record: Record, extra: Extra) -> None:
    extra.frozen.extend((each, fixed_size(record)) for each in fields_of(record))


def _splits(labels: Labels, record: Record) -> list[Ints]:
    """Return the fields of a view's result that vary over more axes than before the view."""
    if not record.inputs:  # a view of a parameter
        return []
    flow, shape, found = record.inputs[0], record.outputs[0].shape, []
    for each in flow.fields:
        moved = reshape_field(each, flow.shape, shape)
        moved = squeeze_constant(moved, labels.find(moved))
        if len(varying(moved)) > len(varying(squeeze_constant(each, labels.find(each)))):
            found.append(moved)
    return found


def _decide_view(known: Labels, labels: Labels, record: Record, stage: int, extra: Extra) -> None:
    splits = _splits(known, record)
    if not splits or stage > max(len(varying(each)) for each in splits):
        _freeze(record, extra)
        return
    for moved in splits:
        axes = sorted(varying(moved), key=lambda axis: (-moved.shape[axis], axis))
        free = axes[min(stage, len(axes)) - 1]
        for axis in axes:
            if axis != free:
                _tie_along(labels, moved, axis)


def _points_of_view(trace: Trace, record: Record) -> Iterator[Point]:
    for each in _splits(trace.labels, record):
        for axis in varying(each):
            grid = np.moveaxis(each, axis, -1).reshape(-1, each.shape[axis])
            yield Point("counts", grid)
            yield Point("indices", grid)


def _points_of_part(record: Record) -> Iterator[Point]:
    for each in _equal_parts(record):
        yield Point("counts", each)
    for flow in record.outputs if record.inputs else []:
        for each in flow.fields:
            yield Point("all", each.reshape(1, -1))


def splits_labels(trace: Trace, run: str, index: int, labels: Ints) -> bool:
    """Whether an op is a view that splits channels among which some labels are."""
    record = trace.runs[run].records[index]
    return record.op in VIEWS and any(np.isin(each, labels).any() for each in _splits(trace.labels, record))


def _tie_along(labels: Labels, field: Ints, axis: int) -> None:
    first = np.broadcast_to(first_along(field, axis), field.shape)
    real = (field >= 0) & (first >= 0)
    labels.tie(field[real], first[real])


def _decide_part(labels: Labels, record: Record, stage: int, extra: Extra) -> None:
    rows = list(_equal_parts(record)) if stage == 1 else []
    if not rows:
        _freeze(record, extra)
        return
    step = record.arguments.get("step", 1)
    for each in rows:
        if step > 1:
            _tie_along(labels, each, 1)
        else:
            extra.balance.append(each)


def _equal_parts(record: Record) -> Iterator[Ints]:
    """Yield the labels of a cut dimension in rows of the parts' length, or of the step's, where they divide it."""
    flow = record.outputs[0] if record.op == "slice_scatter" else record.inputs[0] if record.inputs else None
    if flow is None or len(record.outputs[0].shape) != len(flow.shape):
        return
    for dim, length in _cuts(record, flow.shape):
        if length == 0 or flow.shape[dim] % length:
            return
        for each in flow.over(dim):
            yield np.moveaxis(each, dim, 0).reshape(flow.shape[dim] // length, -1)


def _cuts(record: Record, whole: Shape) -> list[tuple[int, int]]:
    """Return the dimensions an op cuts and how long its parts are there."""
    arguments, step = record.arguments, record.arguments.get("step", 1)
    if record.op == "roll":
        dims = [dim % len(whole) for dim in arguments["dims"] or [0]]
        lengths = [abs(shift) % whole[dim] for dim, shift in zip(dims, arguments["shifts"], strict=True)]
        return [(dim, length if length > 2 else 0) for dim, length in zip(dims, lengths, strict=True)]  # 1: no label
    if record.op == "slice_scatter":
        dim = arguments["dim"] % len(whole)
        length = len(range(whole[dim])[arguments["start"] : arguments["end"]])
        return [(dim, length if step == 1 else step)] if length < whole[dim] or step > 1 else []
    part = record.outputs[0].shape
    return [(dim, size if step == 1 else step) for dim, size in enumerate(part) if size != whole[dim]]
