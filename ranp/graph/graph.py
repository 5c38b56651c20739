"""The channel graph: units, groups, layers, and which index of which parameter each unit carries.

A worked case: `conv1(1 -> 2)`, `conv2(2 -> 4)`. Label a and b are the two outputs of conv1; conv2 reads them. Unit 0 is
{(conv1.weight, dim 0, 0), (conv1.bias, dim 0, 0), (conv2.weight, dim 1, 0)} and unit 1 the same with index 1. Both have
members in the same parameters, so they form one group of width 2. The four outputs of conv2 are units too, frozen
because they are the network's output.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from html import escape

import numpy as np
import torch
from numpy.typing import NDArray

from ranp.graph.flow import Flow
from ranp.graph.labels import FIXED, FREE, Ints, look_up
from ranp.graph.origins import Held, Number, Read, leaves, solved
from ranp.graph.sizes import Key
from ranp.graph.trace import Layer as Called
from ranp.graph.trace import Run, Trace
from ranp.inputs import Description

Mask = NDArray[np.bool_]


SHOWN = 5  # reasons that a few lines name


@dataclass(frozen=True)
class Layer:
    """A convolution or linear layer.

    Args:
        name: its weight parameter.
        module: path of the module that called it.
        kind: "conv", "depthwise", "transposed" or "linear".
        out_dim: the weight's dimension of output channels (with `groups`, that of one group if transposed).
        groups: of the convolution.
        units: unit of each output channel, shape (O,); negative where a channel can't be removed and is no unit.
        bias: its bias parameter, if any.
        norm: weight and bias of the affine norm right behind it, if any.
    """

    name: str
    module: str
    kind: str
    out_dim: int
    groups: int
    units: Ints
    bias: str | None
    norm: tuple[str, str] | None


@dataclass(frozen=True)
class Members:
    """The units of one parameter or buffer.

    Args:
        shape: of the tensor.
        dims: for some dimensions, the unit of each index; negative for indices that always stay.
        grouped: for a grouped convolution, units (groups, n) of dimension 1 by group; rows of group j read row j.
        reads: where a dimension of `dims` reads channels: a mask of its indices.
        grouped_reads: whether `grouped` reads channels.
    """

    shape: tuple[int, ...]
    dims: dict[int, Ints]
    grouped: Ints | None
    reads: dict[int, Mask]
    grouped_reads: bool


@dataclass(frozen=True)
class Group:
    """Units whose members lie in the same parameters.

    Args:
        name: module of the first layer that makes them, numbered where one layer makes several groups.
        units: their numbers, ascending.
        layers: names of the layers that make them.
    """

    name: str
    units: Ints
    layers: tuple[str, ...]


@dataclass(frozen=True)
class Size:
    """A number of a module that counts channels: it is set in a slim module.

    Args:
        module: its path.
        key: where it stands: an attribute, and the place inside it.
        units: of the channels, shape (C,); negative for those that always stay.
        number: made from it, which is to be as many as those that stay.
    """

    module: str
    key: Key
    units: Ints
    number: Number

    @property
    def place(self) -> tuple[str, Key]:
        """Where the number stands: no two sizes can be set there."""
        return self.module, self.key

    @property
    def name(self) -> str:
        """The attribute as a person would write it."""
        attribute, inside = self.key
        return f"{self.module}.{attribute}".lstrip(".") + ("" if inside is None else f"[{inside!r}]")

    def counts(self, graph: "Graph") -> bool:
        """Whether channels decide the number, and it comes out as it is where all of them stay."""
        flows = [leaf.origin.flow for leaf in leaves(self.number) if isinstance(leaf.origin, Read)]
        if not (self.units >= 0).any() and not any(flow is not None and flow.fields for flow in flows):
            return False
        (own,) = [int(leaf) for leaf in leaves(self.number) if isinstance(leaf.origin, Held)]
        return self.under(graph, np.ones(graph.count, dtype=bool)) == own

    def under(self, graph: "Graph", kept: Mask) -> int | None:
        """Return the number under a plan, None where it can't be told."""

        def size_of(read: Read, was: int) -> int:
            return was if read.flow is None else graph.slim_shape(read.flow, kept)[read.dim]

        return solved(self.number, int(staying(kept, self.units).sum()), size_of)


@dataclass(frozen=True, repr=False)
class Graph:
    """Which channels of which parameters live and die together.

    Args:
        count: how many units there are.
        reasons: for each unit, why it must stay, or None.
        layers: in the order of the model's parameters.
        groups: in the order of their first unit.
        group_of: the group of each unit, shape (count,).
        parameters: units of each parameter and buffer, by name.
        balance: unit arrays (rows, n): every row keeps equally many.
        runs: the ops of the run in "eval" and, where possible, in "train" mode.
        table: unit of each label of the runs; negative where it is no unit.
        inputs: shapes and dtypes the network was run with: a tuple for positional ones, a dict for keyword ones.
        notes: what a person should know about the trace.
        model: class of the network, for a reader.
        freeze: globs of what the user fixed.
        outputs: places of the outputs that keep their shape; none named means all.
        shapes: of every parameter, those without units too, buffers left out.
        least: how many units each group keeps at least: 2 where a width of 1 would change the meaning of an op, else 1.
        sizes: numbers of modules that count channels, set in a slim module.
        some: unit arrays of each of which one stays at least.
    """

    count: int
    reasons: tuple[str | None, ...]
    layers: tuple[Layer, ...]
    groups: tuple[Group, ...]
    group_of: Ints
    parameters: dict[str, Members]
    balance: tuple[Ints, ...]
    runs: dict[str, Run]
    table: Ints
    inputs: Description = ()
    notes: tuple[str, ...] = ()
    model: str = ""
    freeze: tuple[str, ...] = ()
    outputs: tuple[int, ...] = ()
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    least: tuple[int, ...] = ()
    sizes: tuple[Size, ...] = ()
    some: tuple[Ints, ...] = ()

    def __repr__(self) -> str:
        whole = f"{len(self.layers)} layers, {self.count} units in {len(self.groups)} groups"
        why = Counter(reason for reason in self.reasons if reason is not None)
        frozen = [f"  frozen: {count} ({reason})" for reason, count in why.most_common(SHOWN)]
        more = [f"  and {len(why) - SHOWN} other reasons"] if len(why) > SHOWN else []
        return "\n".join([f"Graph of {self.model or 'a network'}: {whole}", *frozen, *more])

    def _repr_html_(self) -> str:
        """Return a table of the groups for a notebook."""
        rows = "".join(
            f"<tr><td>{escape(group.name)}</td><td>{len(group.units)}</td><td>{escape(why or '')}</td></tr>"
            for group, why in zip(self.groups, map(self.reason_of, self.groups), strict=True)
        )
        return f"<table><tr><th>group</th><th>width</th><th>frozen</th></tr>{rows}</table>"

    @property
    def frozen(self) -> Mask:
        """Mask (count,) of the units that must stay."""
        return np.array([reason is not None for reason in self.reasons], dtype=bool)

    def units_of(self, labels: Ints) -> Ints:
        """Return the unit of each label of a field; negative where it is none."""
        return look_up(self.table, labels)

    def reason_of(self, group: Group) -> str | None:
        """Return why a group is frozen: the reason of its first unit if every unit is, else None."""
        reasons = [self.reasons[unit] for unit in group.units]
        return reasons[0] if all(reasons) else None

    def widths(self, kept: Mask) -> list[int]:
        """Return how many units of each group a plan keeps."""
        return [int(width) for width in np.bincount(self.group_of[kept], minlength=len(self.groups))]

    def slim_shape(self, flow: Flow, kept: Mask) -> tuple[int, ...]:
        """Return a tensor's shape under a plan; a dimension several fields share keeps what all of them keep."""
        shape = list(flow.shape)
        for labels in flow.fields:
            mask = staying(kept, self.units_of(labels))
            for axis, size in enumerate(labels.shape):
                if size > 1:
                    others = tuple(a for a in range(labels.ndim) if a != axis)
                    shape[axis] = min(shape[axis], int(mask.any(axis=others).sum()))
        return tuple(shape)

    def sliced(self, name: str, tensor: torch.Tensor, kept: Mask) -> torch.Tensor:
        """Return the part of a parameter or buffer that a plan keeps, as a new tensor."""
        members = self.parameters.get(name)
        if members is None:
            return tensor.detach().clone()
        out = tensor.detach()
        if out.is_meta:  # its shape alone: index_select is slow there
            return torch.empty(_sliced_shape(members, kept), dtype=out.dtype, device="meta")
        if members.grouped is not None:
            out = _select_grouped(out, members.grouped, kept)
        for dim, units in members.dims.items():
            if not (stays := staying(kept, units)).all():
                index = torch.from_numpy(np.flatnonzero(stays)).to(out.device)
                out = out.index_select(dim, index)
        return out.clone() if out.data_ptr() == tensor.data_ptr() or out._is_view() else out

    def kept_shape(self, name: str, kept: Mask) -> tuple[int, ...] | None:
        """Return the shape a plan gives a parameter or buffer, None for a tensor the graph does not know."""
        members = self.parameters.get(name)
        return self.shapes.get(name) if members is None else tuple(_sliced_shape(members, kept))

    def where(self, name: str, kept: Mask) -> torch.Tensor:
        """Return the mask of a parameter's elements that a plan keeps, of the parameter's full shape."""
        members = self.parameters[name]
        mask = np.ones(members.shape, dtype=bool)
        for dim, units in members.dims.items():
            mask &= _along(staying(kept, units), dim, mask.ndim)
        if members.grouped is not None:
            mask &= _rows_of_groups(staying(kept, members.grouped), members.shape)
        return torch.from_numpy(mask)

    def read_by(self, name: str, kept: Mask) -> torch.Tensor:
        """Return the mask of a parameter's elements that read removed units: zero there is what masked means."""
        members = self.parameters[name]
        mask = np.zeros(members.shape, dtype=bool)
        for dim, reads in members.reads.items():
            mask |= _along(reads & ~staying(kept, members.dims[dim]), dim, mask.ndim)
        if members.grouped is not None and members.grouped_reads:
            mask |= _rows_of_groups(~staying(kept, members.grouped), members.shape)
        return torch.from_numpy(mask)


def staying(kept: Mask, units: Ints) -> Mask:
    """Return which of some units a plan keeps; what is no unit always stays."""
    return look_up(kept, units, True)


def _along(mask: Mask, dim: int, ndim: int) -> Mask:
    return mask.reshape([-1 if axis == dim else 1 for axis in range(ndim)])


def _rows_of_groups(mask: Mask, shape: tuple[int, ...]) -> Mask:
    rows = np.repeat(mask, shape[0] // len(mask), axis=0)
    return rows.reshape(*rows.shape, *(1,) * (len(shape) - 2))


def _sliced_shape(members: Members, kept: Mask) -> list[int]:
    shape = list(members.shape)
    for dim, units in members.dims.items():
        shape[dim] = int(staying(kept, units).sum())
    if members.grouped is not None:
        counts = staying(kept, members.grouped).sum(axis=1)
        assert (counts == counts[0]).all(), "the groups of a convolution keep unequally many"
        shape[1] = int(counts[0])
    return shape


def _select_grouped(tensor: torch.Tensor, grouped: Ints, kept: Mask) -> torch.Tensor:
    parts = []
    for rows, units in zip(tensor.chunk(len(grouped), dim=0), grouped, strict=True):
        index = torch.from_numpy(np.flatnonzero(staying(kept, units))).to(tensor.device)
        parts.append(rows.index_select(1, index))
    return torch.cat(parts)


def finalise(trace: Trace, order: Iterable[str]) -> Graph:
    """Turn the classes of a trace into units and groups.

    Args:
        trace: after its runs.
        order: names of the model's parameters in traversal order.
    """
    roots = trace.labels.roots()
    frozen = _reasons(trace, roots)
    neurons = np.zeros(len(roots), dtype=bool)
    for made in trace.layers.values():
        neurons[roots[made.neurons[made.neurons >= 0]]] = True
    table, count = _number(trace, roots, frozen, neurons)
    reasons = _unit_reasons(table, roots, frozen, neurons, count)
    rank = {name: position for position, name in enumerate(order)}
    in_order = sorted(trace.layers.values(), key=lambda made: rank.get(made.name, len(rank)))
    layers = tuple(_layer(table, made, trace.born.get(made.name, {})) for made in in_order)
    parameters = _members(trace, table)
    groups, group_of = _groups(parameters, layers, count)
    sizes = [Size(held.module, held.key, look_up(table, c.labels), c.number) for held, c in trace.counts.items()]
    graph = Graph(
        count,
        reasons,
        layers,
        groups,
        group_of,
        parameters,
        _balance(trace, table),
        trace.runs,
        table,
        outputs=trace.outputs,
        some=tuple(
            units[units >= 0] for labels in trace.some if not ((units := look_up(table, labels)) == FIXED).any()
        ),
        least=_least(table, trace.wide, group_of, len(groups)),
    )
    graph = replace(graph, sizes=tuple(size for size in sizes if size.counts(graph)))
    return held_by_balance(graph)


def _balance(trace: Trace, table: Ints) -> tuple[Ints, ...]:
    """Return rows of units that keep equally many; zeros made in the forward follow whatever they meet."""
    distinct: dict[tuple[tuple[int, ...], bytes], Ints] = {}
    for labels in trace.balance:
        rows = look_up(table, labels)
        rows = rows[(rows != FREE).any(axis=1)]
        if len(rows) > 1 and (rows >= 0).any() and (np.sort(rows, axis=1) != np.sort(rows[:1], axis=1)).any():
            distinct[rows.shape, rows.tobytes()] = rows
    return tuple(distinct.values())


def held_by_balance(graph: Graph) -> Graph:
    """Return a graph in which rows are frozen that must be as long as another one stays at least."""
    return replace(graph, reasons=_held(graph.reasons, graph.balance, graph.groups, graph.group_of, graph.least))


def _held(
    reasons: tuple[str | None, ...],
    balance: tuple[Ints, ...],
    groups: tuple[Group, ...],
    group_of: Ints,
    least: tuple[int, ...],
) -> tuple[str | None, ...]:
    """Freeze rows that are as long as another one stays at least: what is frozen in it, and what its groups need.

    Rows of one unit each say that these live and die together; where they are a whole group, which keeps one, all stay.
    """
    held = list(reasons)
    for rows in balance:
        if (rows >= 0).all() and (rows == rows[:, :1]).all():
            together = rows[:, 0]
            for number in np.unique(group_of[together]).tolist():
                if np.isin(groups[number].units, together).all():
                    for unit in groups[number].units.tolist():
                        held[unit] = held[unit] or f"{_AS_MANY}all of its group, which live and die together"
    while True:
        before = sum(each is not None for each in held)
        for rows in balance:
            stays, why = max((_stays(row, held, groups, group_of, least) for row in rows), key=lambda each: each[0])
            for row in rows:
                if stays >= len(row):
                    for unit in row[row >= 0].tolist():
                        held[unit] = held[unit] or f"{_AS_MANY}{why.removeprefix(_AS_MANY)}"
        if sum(each is not None for each in held) == before:
            return tuple(held)


_AS_MANY = "keeps as many as what stays: "


def _stays(
    row: Ints, held: list[str | None], groups: tuple[Group, ...], group_of: Ints, least: tuple[int, ...]
) -> tuple[int, str]:
    """Return how much of a row stays in every plan, and why; a unit may stand in it several times."""
    units, weights = np.unique(row[row >= 0], return_counts=True)
    frozen = np.array([held[unit] is not None for unit in units.tolist()], dtype=bool)
    count = int((row < 0).sum() + weights[frozen].sum())
    why = next((str(held[unit]) for unit in units[frozen].tolist()), "channels that are no units")
    for number in np.unique(group_of[units[~frozen]]).tolist():
        mine = ~frozen & (group_of[units] == number)
        needed = least[number] - (len(groups[number].units) - int(mine.sum()))  # though all others of the group stay
        if needed > 0:
            count += int(np.sort(weights[mine])[:needed].sum())
            why = why if frozen.any() else f"{groups[number].name} needs {least[number]}"
    return count, why


def _layer(table: Ints, made: Called, born: dict[int, Ints]) -> Layer:
    units = look_up(table, made.neurons)
    out_dim = _out_dim(made, units, {dim: look_up(table, labels) for dim, labels in born.items()})
    return Layer(made.name, made.module, made.kind, out_dim, made.groups, units, made.bias, made.norm)


def _out_dim(made: Called, units: Ints, dims: dict[int, Ints]) -> int:
    """Return where a weight's output channels lie in its parameter, which may be mixed from several filters."""
    places = [made.out_dim, *dims] if made.groups == 1 else [made.out_dim]
    return next((dim for dim in places if np.array_equal(dims.get(dim, ()), units)), made.out_dim)


def _least(table: Ints, wide: list[Ints], group_of: Ints, count: int) -> tuple[int, ...]:
    least = np.ones(count, dtype=np.int64)
    for labels in wide:
        units = look_up(table, labels)
        least[group_of[units[units >= 0]]] = 2
    return tuple(least.tolist())


def _reasons(trace: Trace, roots: Ints) -> dict[int, str]:
    reasons: dict[int, str] = {}
    for labels, reason in [*((labels, trace.reasons[index]) for labels, index in trace.frozen), *_unread(trace)]:
        for root in np.unique(roots[labels[labels >= 0]]).tolist():
            reasons.setdefault(root, reason)
    return reasons


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


def _groups(parameters: dict[str, Members], layers: tuple[Layer, ...], count: int) -> tuple[tuple[Group, ...], Ints]:
    if not count:
        return (), np.zeros(0, dtype=np.int64)
    keys = np.zeros(count, dtype=np.uint64)
    generator = np.random.default_rng(0)
    for name in parameters:
        members = parameters[name]
        for units in [*members.dims.values(), *([members.grouped] if members.grouped is not None else [])]:
            key = generator.integers(1, 2**63, dtype=np.uint64)
            keys[np.unique(units[units >= 0])] += key
    _, first, group_of = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first)
    position = np.empty_like(order)
    position[order] = np.arange(len(order))
    group_of = position[group_of].astype(np.int64)
    makers = _makers(layers, group_of, len(order))
    names = _names(makers, parameters, group_of, len(order))
    by_group = np.split(
        np.argsort(group_of, kind="stable"), np.cumsum(np.bincount(group_of, minlength=len(order)))[:-1]
    )
    groups = tuple(Group(names[g], units, tuple(m.name for m in makers[g])) for g, units in enumerate(by_group))
    return groups, group_of


def _makers(layers: tuple[Layer, ...], group_of: Ints, count: int) -> list[list[Layer]]:
    makers: list[list[Layer]] = [[] for _ in range(count)]
    for layer in layers:
        for group in np.unique(group_of[layer.units[layer.units >= 0]]).tolist():
            makers[group].append(layer)
    return makers


def _names(makers: list[list[Layer]], parameters: dict[str, Members], group_of: Ints, count: int) -> list[str]:
    names: list[str] = []
    readers = [""] * count
    for name, members in parameters.items():
        for units in members.dims.values():
            for group in np.unique(group_of[units[units >= 0]]).tolist():
                readers[group] = readers[group] or f"read by {name.rpartition('.')[0] or name}"
    seen: dict[str, int] = {}
    for group in range(count):
        name = (makers[group][0].name.rpartition(".")[0] or makers[group][0].name) if makers[group] else readers[group]
        seen[name] = seen.get(name, 0) + 1
        names.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return names
