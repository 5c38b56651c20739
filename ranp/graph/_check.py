"""Run slim networks beside the full one, and freeze what does not do the same.

What sizes mean is known from where they come from (`ranp.graph.origins`); two slim networks, one of random widths and
one of least widths, show whether anything was missed. They run on meta tensors. Every op must be the same op, compute
with the same numbers and give tensors of the shapes the graph promises.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor, nn

from ranp.graph._following import Follower
from ranp.graph._recording import entries_of
from ranp.graph._run import Failure, run
from ranp.graph.constraints import grow, held_by_balance, plan_without
from ranp.graph.flow import FREE, Flow, Ints
from ranp.graph.graph import Graph, Mask
from ranp.graph.resize import resized
from ranp.graph.rules.op import base_name, bind, tensors_of
from ranp.graph.rules.registry import numbers, places
from ranp.graph.tape import Places, Record, Run
from ranp.graph.trace import Trace, like_input
from ranp.inputs import Inputs

VIEWS = {"view", "_unsafe_view", "reshape", "_reshape_alias", "unflatten"}
LAYOUT = {"clone", "contiguous"}  # which strides decide, and these the dimensions of length 1
SHARES = (0.5, 0.7, 1.0, 0.3)  # of each group, that plans for groups left whole remove


@dataclass
class Mismatch(Exception):
    """A slim run that differs from the full one: the run, and the number of the op."""

    run: str
    index: int


class Outline(Follower):
    """Compares ops, numbers and shapes of a slim run with what the full run promises; it decides by values as that did.

    Args:
        trace: of the slim run; it learns nothing but what the network's tensors are.
        graph: of the full network.
        full: its run, whose path is taken whatever the values say.
        kept: the plan.
    """

    def __init__(self, trace: Trace, graph: Graph, full: Run, kept: Mask) -> None:
        super().__init__()
        self.trace, self.graph, self.records, self.kept, self.next = trace, graph, full.records, kept, 0
        self.answers = iter(full.answers)
        self.shapes: dict[Flow, tuple[int, ...]] = {}  # of the flows that were met

    def decide(self, value: Any) -> Any:
        """Return what the full network read."""
        return next(self.answers, value)

    def after(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], results: list[Tensor]) -> None:
        """Compare an op."""
        op, arguments = base_name(func), bind(func, args, kwargs)
        scalars = numbers(func, arguments, self.trace)
        for result in results:
            if not result.is_meta:  # so that its value is not taken for a number that Python made
                self.trace.set(result, like_input(tuple(result.shape)))
        if op in LAYOUT:
            return
        self.skip_layout()
        full = self.records[self.next] if self.next < len(self.records) else None
        if full is None or full.scalars != scalars or not (full.op == op or {full.op, op} <= VIEWS):
            raise Mismatch("", self.next)
        tensors = tensors_of((*args, *kwargs.values()))
        if full.places and not _same_places(full, places(op, arguments, tuple(tensors[0].shape))):
            raise Mismatch("", self.next)
        if full.summed and full.summed != entries_of(tensors[0], results[0]):
            raise Mismatch("", self.next)
        if not _same_groups(full, arguments.get("groups", arguments.get("group", 1))):
            raise Mismatch("", self.next)
        for chosen, flow, result in zip(full.chosen, full.outputs, results, strict=False):
            if chosen is not None and _takes(flow, result, chosen):
                result.resize_(chosen.shape).copy_(chosen)
        for flow, result in zip(full.outputs, results, strict=True):
            if not self._right_shape(flow, result):
                raise Mismatch("", self.next)
        self.next += 1

    def skip_layout(self) -> None:
        """Leave out ops of the full run that only lay values out anew."""
        while self.next < len(self.records) and self.records[self.next].op in LAYOUT:
            self.next += 1

    def _right_shape(self, flow: Flow, result: Tensor) -> bool:
        if flow not in self.shapes:
            expected = enumerate(self.graph.slim_shape(flow, self.kept))
            self.shapes[flow] = tuple(size if self._is_known(flow, dim) else -1 for dim, size in expected)
        shape = self.shapes[flow]
        return len(shape) == result.ndim and all(a in (b, -1) for a, b in zip(shape, result.shape, strict=True))

    def _is_known(self, flow: Flow, dim: int) -> bool:
        """Whether the labels of a dimension say how long it is in a slim run; free entries have no fixed number."""
        over = flow.over(dim)
        return all((units != FREE).all() for units in over) if over else flow.fixed[dim]


def _takes(flow: Flow, result: Tensor, chosen: Tensor) -> bool:
    """Whether a result is to have the full network's values: nothing of it can shrink."""
    return not flow.fields and (result.shape == chosen.shape or (all(flow.fixed) and result.ndim == chosen.ndim))


def _same_groups(full: Record, groups: int) -> bool:
    """Whether an op has the full one's number of groups; where each channel is one, they follow the channels."""
    return full.groups in (1, groups) or full.groups == full.inputs[0].shape[1]


def _same_places(full: Record, slim: Places) -> bool:
    """Whether an op acts at the full one's places in every dimension that can't shrink."""
    return all(slim.get(dim) == where for dim, where in full.places.items())


def difference(graph: Graph, model: nn.Module, inputs: Inputs, kept: Mask, names: list[str]) -> Mismatch | None:
    """Build the slim network of a plan and return where it differs first from the full one's runs, or None.

    Args:
        graph: of the full network.
        model: the full network, on the device of the inputs.
        inputs: of the run.
        kept: the plan.
        names: the runs to repeat.
    """
    slim = resized(graph, model, kept)
    for name in names:
        trace, full = Trace(), graph.runs[name]
        outline = Outline(trace, graph, full, kept)
        try:
            run(trace, slim, inputs, outline, training=name == "train", private=name == names[-1])
        except Failure:
            return Mismatch(name, min(outline.next, len(full.records) - 1))
        outline.skip_layout()
        if outline.next != len(full.records):
            return Mismatch(name, min(outline.next, len(full.records) - 1))
    return None


def checked(graph: Graph, model: nn.Module, inputs: Inputs, compared: list[tuple[Ints, str]] | tuple[()] = ()) -> Graph:
    """Return a graph in which all is frozen that slim networks do otherwise than the full one.

    Args:
        graph: of the full network.
        model: the copy its runs used.
        inputs: that they used.
        compared: units whose number the network compares with a written one, each with the reason to freeze them: it
            may stop where they are fewer.
    """
    runs = [name for name in graph.runs if name == "eval" or not _same_ops(graph)]
    generator = np.random.default_rng(0)
    lost = np.zeros(len(graph.groups), dtype=bool)
    shares: list[Any] = [generator.uniform(0.2, 0.8, size=len(graph.groups)), 1.0, *SHARES]
    priority = generator.random(graph.count)
    for number, share in enumerate(shares):
        whole = ~lost & _losing(graph, graph.frozen)
        if number > 1 and not whole.any():
            break  # the first two plans, and then what removes something of a group that was left whole
        plan = plan_without(graph, share, priority)  # what the first keeps, the second lacks
        priority = -priority if number == 0 else generator.random(graph.count)
        if number > 1 and not (_losing(graph, plan) & whole).any():
            continue
        while True:
            kept = grow(graph, plan, np.zeros(graph.count))
            found = None if kept.all() else difference(graph, model, inputs, kept, runs)
            if found is None:
                lost |= _losing(graph, kept)
                break
            graph = _stricter(graph, model, inputs, kept, found, compared)
    return graph


def _losing(graph: Graph, kept: Mask) -> Mask:
    """Return which groups a plan removes something of, shape (groups,)."""
    return np.asarray(np.bincount(graph.group_of[~kept], minlength=len(graph.groups)) > 0)


def _stricter(
    graph: Graph,
    model: nn.Module,
    inputs: Inputs,
    kept: Mask,
    found: Mismatch,
    compared: list[tuple[Ints, str]] | tuple[()],
) -> Graph:
    """Return a graph with something more frozen because of a difference, or with a group that keeps two units."""
    for counted, why in compared:
        units = np.unique(counted[counted >= 0])
        if not kept[units].all():
            return _frozen(graph, units, why)
    records = graph.runs[found.run].records
    record = records[found.index]
    why = f"fixed size in {record.op} at {record.module or 'the top'}"
    units = next(removed for removed in _removed_before(graph, records, found.index, kept) if removed.size)
    near = np.unique(graph.group_of[units]).tolist()
    others = [group for group in np.unique(graph.group_of[~kept]).tolist() if group not in near]
    guilty = _guilty(graph, model, inputs, kept, found, [*near, *others])
    own = graph.groups[guilty].units
    if int(kept[own].sum()) == 1 and len(own) > 2 and graph.least[guilty] < 2:
        least = [2 if number == guilty else each for number, each in enumerate(graph.least)]
        return held_by_balance(replace(graph, least=tuple(least)))
    return _frozen(graph, own, why)


def _frozen(graph: Graph, units: Ints, why: str) -> Graph:
    reasons = list(graph.reasons)
    for unit in units.tolist():
        reasons[unit] = reasons[unit] or why
    return held_by_balance(replace(graph, reasons=tuple(reasons)))


def _removed_before(graph: Graph, records: list[Record], index: int, kept: Mask) -> Iterator[Ints]:
    """Yield the removed units that the tensors and weights of an op carry, of the op itself and of those before it."""
    for record in reversed(records[: index + 1]):
        units = [field.ravel() for flow in (*record.inputs, *record.outputs) for field in flow.fields]
        for name in record.weights:
            if name in graph.parameters:
                units += [each.ravel() for each in graph.parameters[name].dims.values()]
        carried = np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *units]))
        carried = carried[carried >= 0]
        yield carried[~kept[carried]]
    yield np.flatnonzero(~kept)


def _guilty(graph: Graph, model: nn.Module, inputs: Inputs, kept: Mask, found: Mismatch, groups: list[int]) -> int:
    """Return the first group whose removal, with those before it, makes a difference, by halving."""
    low, high = 0, len(groups)
    while high - low > 1:
        middle = (low + high) // 2
        partial = np.ones_like(kept)
        for group in groups[:middle]:
            partial[graph.groups[group].units] = kept[graph.groups[group].units]
        partial = grow(graph, partial, np.zeros(graph.count))
        if partial.all() or difference(graph, model, inputs, partial, [found.run]) is None:
            low = middle
        else:
            high = middle
    return groups[high - 1]


def _same_ops(graph: Graph) -> bool:
    """Whether the run in training mode is the other one but for norms and counters, so that it needs no check."""
    outlines = [[_less_norms(record) for record in run.records if _has_size(record)] for run in graph.runs.values()]
    return len(outlines) == 2 and outlines[0] == outlines[1]


def _has_size(record: Record) -> bool:
    return any(flow.shape and 0 not in flow.shape for flow in record.outputs)


def _less_norms(record: Record) -> object:
    return ("batch_norm", record.outputs[0].shape) if "batch_norm" in record.op else record.outline
