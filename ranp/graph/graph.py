"""The channel graph: units, groups, layers, and which index of which parameter each unit carries.

A worked case: `conv1(1 -> 2)`, `conv2(2 -> 4)`. Label a and b are the two outputs of conv1; conv2 reads them. Unit 0 is
{(conv1.weight, dim 0, 0), (conv1.bias, dim 0, 0), (conv2.weight, dim 1, 0)} and unit 1 the same with index 1. Both have
members in the same parameters, so they form one group of width 2. The four outputs of conv2 are units too, frozen
because they are the network's output.
"""

from collections import Counter
from dataclasses import dataclass, field
from html import escape

import numpy as np
import torch
from numpy.typing import NDArray

from ranp.graph.flow import Flow, Ints, look_up
from ranp.graph.origins import Held, Number, Read, leaves, solved
from ranp.graph.sizes import Key
from ranp.graph.tape import Layer, Run
from ranp.inputs import Description

Mask = NDArray[np.bool_]


SHOWN = 5  # reasons that a few lines name


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
        runs: the ops of the run in "eval" and, where possible, in "train" mode; fields hold units.
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
        for units in flow.fields:
            mask = staying(kept, units)
            for axis, size in enumerate(units.shape):
                if size > 1:
                    others = tuple(a for a in range(units.ndim) if a != axis)
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
