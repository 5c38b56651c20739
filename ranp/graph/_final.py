"""From a trace to the channel graph: classes of labels are numbered as units, and parameters and layers carry these."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from ranp.graph._groups import grouped
from ranp.graph.constraints import held_by_balance
from ranp.graph.flow import FIXED, FREE, Flow, Ints, look_up, varying
from ranp.graph.graph import Graph, Mask, Members, Size
from ranp.graph.origins import in_units
from ranp.graph.tape import Layer, Record, Run
from ranp.graph.trace import Trace


def finalise(trace: Trace, order: Iterable[str], *, runs: bool = True) -> tuple[Graph, Ints]:
    """Turn the classes of a trace into units and groups; return the graph, and the unit of each label.

    Args:
        trace: after its runs.
        order: names of the model's parameters in traversal order.
        runs: whether the graph is given what ran; to ask which units may go, it needs none of that.
    """
    roots = trace.labels.roots()
    frozen = _reasons(trace, roots)
    neurons = np.zeros(len(roots), dtype=bool)
    for made in trace.layers.values():
        neurons[roots[made.units[made.units >= 0]]] = True
    table, count = _number(trace, roots, frozen, neurons)
    reasons = _unit_reasons(table, roots, frozen, neurons, count)
    rank = {name: position for position, name in enumerate(order)}
    in_order = sorted(trace.layers.values(), key=lambda made: rank.get(made.name, len(rank)))
    layers = tuple(_layer(table, made, trace.born.get(made.name, {})) for made in in_order)
    parameters = _members(trace, table)
    groups, group_of = grouped(parameters, layers, count)
    units = _Units(table)
    sizes = [
        Size(held.module, held.key, look_up(table, counted.labels), in_units(counted.number, units.flow))
        for held, counted in trace.counts.items()
    ]
    graph = Graph(
        count,
        reasons,
        layers,
        groups,
        group_of,
        parameters,
        _balance(trace, table),
        {name: units.run(run) for name, run in trace.runs.items()} if runs else {},
        outputs=trace.outputs,
        some=_some(trace, table),
        least=_least(table, trace.wide, group_of, len(groups)),
    )
    graph = replace(graph, sizes=tuple(size for size in sizes if size.counts(graph)))
    return held_by_balance(graph), table


class _Units:
    """Gives what ran its units: in flows as in parameters they stand where the labels stood.

    Args:
        table: the unit of each label; negative where it is none.
    """

    def __init__(self, table: Ints) -> None:
        self.table = table
        self.known: dict[Flow, Flow] = {}
        self.records: dict[int, Record] = {}  # by the id of the record of labels, which the trace holds

    def flow(self, labels: Flow) -> Flow:
        """Return a tensor's flow; one that records share is made once, and fields without units are left out."""
        if not labels.fields:
            return labels
        if labels not in self.known:
            fields, fixed = [], list(labels.fixed)
            for field in labels.fields:
                units = look_up(self.table, field)
                if (units >= 0).any() or (units != units.flat[0]).any():
                    fields.append(units)
                    continue
                for dim in varying(units):
                    fixed[dim] |= bool(units.flat[0] == FIXED)
            self.known[labels] = replace(labels, fields=tuple(fields), fixed=tuple(fixed))
        return self.known[labels]

    def run(self, run: Run) -> Run:
        """Return a run."""
        return replace(
            run,
            records=[self._record(record) for record in run.records],
            calls=[replace(c, inputs=self.flow(c.inputs), outputs=self.flow(c.outputs)) for c in run.calls],
            outputs=[self.flow(flow) for flow in run.outputs],
        )

    def _record(self, record: Record) -> Record:
        if id(record) not in self.records:
            self.records[id(record)] = replace(
                record,
                inputs=tuple([self.flow(flow) for flow in record.inputs]),
                outputs=tuple([self.flow(flow) for flow in record.outputs]),
                arguments={k: self.flow(v) if isinstance(v, Flow) else v for k, v in record.arguments.items()},
            )
        return self.records[id(record)]


def _balance(trace: Trace, table: Ints) -> tuple[Ints, ...]:
    """Return rows of units that keep equally many; zeros made in the forward follow whatever they meet."""
    distinct: dict[tuple[tuple[int, ...], bytes], Ints] = {}
    for labels in trace.balance:
        rows = look_up(table, labels)
        rows = rows[(rows != FREE).any(axis=1)]
        if len(rows) > 1 and (rows >= 0).any() and (np.sort(rows, axis=1) != np.sort(rows[:1], axis=1)).any():
            distinct[rows.shape, rows.tobytes()] = rows
    return tuple(distinct.values())


def _some(trace: Trace, table: Ints) -> tuple[Ints, ...]:
    """Return units of which one stays; where something of no unit is among them, one stays anyway."""
    distinct: dict[bytes, Ints] = {}
    for labels in trace.some:
        units = look_up(table, labels)
        if (units >= 0).any() and not (units == FIXED).any():
            distinct[units.tobytes()] = units[units >= 0]
    return tuple(distinct.values())


def _layer(table: Ints, made: Layer, born: dict[int, Ints]) -> Layer:
    """Return a layer with units for labels, and where they lie in its parameter, which may be mixed from filters."""
    units, dims = look_up(table, made.units), {dim: look_up(table, labels) for dim, labels in born.items()}
    places = [made.out_dim, *dims] if made.groups == 1 else [made.out_dim]
    out_dim = next((dim for dim in places if np.array_equal(dims.get(dim, ()), units)), made.out_dim)
    return replace(made, units=units, out_dim=out_dim)


def _least(table: Ints, wide: list[Ints], group_of: Ints, count: int) -> tuple[int, ...]:
    least = np.ones(count, dtype=np.int64)
    for labels in wide:
        units = look_up(table, labels)
        least[group_of[units[units >= 0]]] = 2
    return tuple(least.tolist())


def _reasons(trace: Trace, roots: Ints) -> dict[int, str]:
    """Return why classes stay, by their root; the first reason counts."""
    frozen = [*trace.frozen, *_unread(trace)]
    first = np.full(len(roots), len(frozen))
    for number, (labels, _) in reversed(list(enumerate(frozen))):
        first[roots[labels[labels >= 0]]] = number
    stays = np.flatnonzero(first < len(frozen))
    return {root: frozen[number][1] for root, number in zip(stays.tolist(), first[stays].tolist(), strict=True)}


def _unread(trace: Trace) -> list[tuple[Ints, str]]:
    """Return what a norm of a parameter runs over and nothing reads, so that the masked network does not zero it."""
    if not trace.summed:
        return []
    reads = _is_read(trace)
    return [(labels[~look_up(reads, labels, True)], why) for labels, why in trace.summed]


def _is_read(trace: Trace) -> Mask:
    """Return for each label whether it reads channels."""
    alias = trace.alias.roots()
    reads = np.zeros(len(alias), dtype=bool)
    for labels in trace.consumers:
        reads[alias[labels]] = True
    return reads[alias]


def _number(trace: Trace, roots: Ints, frozen: dict[int, str], neurons: Mask) -> tuple[Ints, int]:
    """Number the classes that carry a channel; frozen ones nothing makes or reads (kernel positions) are left out."""
    wanted = neurons.copy()
    for labels in trace.consumers:
        wanted[roots[labels]] = True
    heads = np.unique(roots)
    stays = np.isin(heads, np.fromiter(frozen, dtype=np.int64, count=len(frozen)))
    carries = np.ones(len(roots), dtype=bool)
    if trace.shadows:  # what no parameter carries is free
        shadow = np.zeros(len(roots), dtype=bool)
        shadow[np.concatenate(trace.shadows)] = True
        carries = np.bincount(roots[~shadow], minlength=len(roots)) > 0
    heads = heads[(wanted[heads] | ~stays) & carries[heads]]
    numbers = np.where(carries, FIXED, FREE)
    numbers[heads] = np.arange(len(heads))
    return numbers[roots], len(heads)


def _unit_reasons(
    table: Ints, roots: Ints, frozen: dict[int, str], neurons: Mask, count: int
) -> tuple[str | None, ...]:
    reasons: list[str | None] = [None] * count
    made = np.zeros(count, dtype=bool)
    units = table[np.flatnonzero(neurons)]
    made[units[units >= 0]] = True
    for unit in np.flatnonzero(~made):
        reasons[unit] = "no convolution or linear layer makes it"
    for root, reason in frozen.items():
        if table[root] >= 0:
            reasons[table[root]] = reason
    return tuple(reasons)


def _members(trace: Trace, table: Ints) -> dict[str, Members]:
    reads = _is_read(trace)
    members = {}
    for name in sorted(set(trace.born) | set(trace.grouped)):
        dims = trace.born.get(name, {})
        grouped = trace.grouped.get(name)
        units = {dim: look_up(table, labels) for dim, labels in sorted(dims.items())}
        members[name] = Members(
            trace.shapes[name],
            {dim: each for dim, each in units.items() if (each >= 0).any()},
            None if grouped is None else look_up(table, grouped),
            {dim: read for dim, labels in dims.items() if (read := look_up(reads, labels, False)).any()},
            grouped is not None and bool(reads[grouped].any()),
        )
    return {name: each for name, each in members.items() if each.dims or each.grouped is not None}
