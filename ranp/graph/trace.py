"""The state that grows while a network runs: constraints, what each tensor carries, and the tape of what ran."""

import weakref
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.utils.weak import TensorWeakRef

from ranp.graph._labels import Labels
from ranp.graph.flow import FIXED, Flow, Ints, Shape, activation, along, constant, varying, vector_field
from ranp.graph.origins import Held, Number, Read, held_in, line
from ranp.graph.tape import Layer, Mixing, Record, Run, Site
from ranp.graph.ties import Ties


@dataclass(slots=True)
class Count:
    """Channels that a number of a module counts: their labels, and the number made from it that is to be as many."""

    labels: Ints
    number: Number


class Trace(Ties):
    """Constraints and tape of one network, over one or more runs of it.

    Args:
        second: where views that split channels among heads let others of them follow than at first.
        outputs: places of the tensors that must keep their shape, of those that the network puts out; () means all.
    """

    def __init__(self, second: frozenset[Site] = frozenset(), outputs: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.names: dict[int, str] = {}  # of the run's parameters, by the id of their tensor
        self._alive: list[torch.Tensor] = []  # keeps those ids taken
        self._flows: dict[int, _Carried] = {}  # by the id of the tensor
        self.born: dict[str, dict[int, Ints]] = {}
        self.grouped: dict[str, Ints] = {}
        self.shapes: dict[str, Shape] = {}
        self.layers: dict[str, Layer] = {}
        self.runs: dict[str, Run] = {}
        self.current = Run()
        self.mixing: Mixing | None = None  # of the op that runs
        self.known: dict[Hashable, Record] = {}  # what ran, by the op, its place in the run, and all that it was given
        self._own: dict[str, Flow] = {}  # of parameters, by name
        self._once: dict[Hashable, Flow] = {}  # each flow, by its fields
        self.outputs = outputs
        self.read: set[str] = set()  # parameters that some op took
        self.counts: dict[Held, Count] = {}
        self.second = second
        self.splits: list[tuple[Site, Ints]] = []  # labels of each view that splits channels among heads
        self.checked: list[tuple[Ints, str]] = []  # labels whose number the network compares with one written in it

    def fork(self) -> "Trace":
        """Return the same state, to be grown apart by a further run."""
        other = Trace(self.second)
        for name, value in vars(self).items():
            if name not in ("current", "_flows"):
                setattr(other, name, value.copy() if isinstance(value, Labels | list | dict | set) else value)
        other.born = {name: dict(dims) for name, dims in self.born.items()}
        other.layers = {name: replace(layer) for name, layer in self.layers.items()}
        return other

    def begin(self, name: str, tensors: list[torch.Tensor]) -> None:
        """Start the record of a run over these parameter tensors."""
        self.current = self.runs[name] = Run()
        self._alive += tensors

    # Flows of tensors

    def carried(self, tensor: torch.Tensor) -> Flow | None:
        """Return what a tensor of the run carries; None of a parameter, or of one made elsewhere."""
        known = self._flows.get(id(tensor))
        return None if known is None else known.flow

    def flow(self, tensor: torch.Tensor) -> Flow:
        """Return what a tensor carries; a parameter is born with labels on every dimension longer than 1."""
        known = self.carried(tensor)
        if known is not None:
            return known
        name = self.names.get(id(tensor))
        if name is None:
            return self.once(_found(tensor))
        if name not in self._own:
            shape = tuple(tensor.shape)
            fields = [vector_field(self.axis(tensor, dim), dim, len(shape)) for dim, n in enumerate(shape) if n > 1]
            self._own[name] = Flow(shape, tuple(fields), (True,) * len(shape), frozenset([name]))
        return self._own[name]

    def axis(self, tensor: torch.Tensor, dim: int) -> Ints:
        """Return the labels of one dimension of a parameter, made on first use."""
        name = self.names[id(tensor)]
        self.shapes.setdefault(name, tuple(tensor.shape))
        dims = self.born.setdefault(name, {})
        if dim not in dims:
            size = tensor.shape[dim]
            dims[dim] = self.fresh(size) if size > 1 else np.array([FIXED])
        return dims[dim]

    def grouped_inputs(self, tensor: torch.Tensor, groups: int) -> Ints:
        """Return labels (groups, I / groups) for the inputs of a grouped convolution's weight."""
        name = self.names[id(tensor)]
        self.shapes.setdefault(name, tuple(tensor.shape))
        if name not in self.grouped:
            size = tensor.shape[1]
            self.grouped[name] = self.fresh(groups * size).reshape(groups, size)
        return self.grouped[name]

    def is_parameter(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor is a parameter, buffer or tensor attribute itself, not computed from one."""
        return id(tensor) in self.names and self.carried(tensor) is None

    def base(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the tensor whose storage another one shares, itself where it is no view."""
        known = self._flows[id(tensor)].base if self.carried(tensor) is not None else None
        base = None if known is None else known()
        return tensor if base is None else base

    def write_through(self, written: torch.Tensor, view: Flow, why: str) -> None:
        """Say that what a view shows was written into; fields along a part of a dimension are frozen."""
        base = self.base(written)
        if base is written:
            return
        shape, fields = tuple(base.shape), []
        for part in view.fields:
            if len(view.shape) == len(shape) and all(view.shape[axis] == shape[axis] for axis in varying(part)):
                fields.append(part)
            else:
                self.freeze(part, why)
        known = self.flow(base)
        fresh = Flow(shape, tuple(fields), (False,) * len(shape), view.roots)
        merged = self.merge([replace(known, fixed=(False,) * len(shape)), fresh], shape, why)
        fixed = tuple(not merged.over(dim) and not (known.constant and view.constant) for dim in range(len(shape)))
        self.set(base, replace(merged, fixed=fixed))

    def is_unknown(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor is none of the run's: made outside it, as `torch.tensor(2.0)` is."""
        return id(tensor) not in self.names and self.carried(tensor) is None

    def once(self, flow: Flow) -> Flow:
        """Return the one flow of these very fields, so that a repeated op is known by what it is given."""
        fields = tuple(map(id, flow.fields)), tuple(map(id, flow.picks))
        return self._once.setdefault((flow.shape, fields, flow.fixed, flow.roots, flow.layer), flow)

    def set(self, tensor: torch.Tensor, flow: Flow, base: torch.Tensor | None = None) -> None:
        """Say what a tensor carries, and of which one it is a view."""
        assert tuple(tensor.shape) == flow.shape, (tuple(tensor.shape), flow.shape)
        key, flows = id(tensor), self._flows
        flows[key] = carried = _Carried(tensor, self._gone)
        carried.key, carried.flow, carried.base = key, flow, None if base is None else TensorWeakRef(base)

    def _gone(self, carried: "_Carried") -> None:
        if self._flows.get(carried.key) is carried:
            del self._flows[carried.key]

    # Sizes that the network reads and asks for

    def sizes(self, tensor: torch.Tensor) -> list[int] | None:
        """Return a tensor's shape with marks on the sizes that channels decide; None where none is."""
        if torch._is_functional_tensor(tensor):
            tensor = torch._from_functional_tensor(tensor)
        known = self.carried(tensor)
        if known is not None:
            if not known.fields:
                return None
            marks = [Number(n, Read(known, dim), self.compared) for dim, n in enumerate(known.shape)]
            return [mark if known.over(dim) else int(mark) for dim, mark in enumerate(marks)]
        if id(tensor) in self.names:
            return [Number(n) if n > 1 and dim < 2 else n for dim, n in enumerate(tensor.shape)]
        return None

    def compared(self, number: Number, other: int) -> None:
        """Learn from a size that equals another number: one that a module holds counts what was read."""
        if isinstance(number.origin, Held) and isinstance(other, Number):
            number, other = other, number
        labels = self.labels_read(number)
        if labels is None:
            return
        if not isinstance(other, Number):
            self.checked.append((labels, f"fixed size, compared with {other} ({line()})"))
        elif isinstance(other.origin, Held):
            self.count(labels, other)

    def follow(self, labels: Ints, number: Number) -> None:
        """Say that so many channels are asked for by a marked number: they are as many in every slim network."""
        if held_in(number):
            self.count(labels, number)
            return
        other = self.labels_read(number)
        if other is not None and len(other) == len(labels):
            self.pair(labels, other)

    def count(self, labels: Ints, number: Number) -> None:
        """Say that channels are counted by a number made from one that a module holds; the first count stands."""
        held = held_in(number)
        if len(held) != 1:
            return
        known = self.counts.setdefault(held[0], Count(labels, number))
        if known.labels is not labels and len(known.labels) == len(labels):
            self.pair(known.labels, labels)

    def option(self, site: Site, labels: Ints, ways: int) -> int:
        """Return which of several ways a view is taken that splits channels."""
        if ways > 1:
            self.splits.append((site, labels))
        return 1 if ways > 1 and site in self.second else 0

    def labels_read(self, number: Number) -> Ints | None:
        """Return the channels a number counts that was read off a tensor as it is."""
        origin = number.origin
        return along(origin.flow, origin.dim) if isinstance(origin, Read) and origin.flow is not None else None

    def mix(self, dims: Sequence[int], groups: int = 1) -> None:
        """Remember that the op that runs mixes channels in a statistic."""
        self.mixing = Mixing(tuple(dims), groups)

    def add_layer(self, layer: Layer) -> None:
        """Remember a layer on its first call."""
        self.layers.setdefault(layer.name, layer)


class _Carried(weakref.ref[torch.Tensor]):
    """What a tensor carries, and what it is a view of. `WeakTensorKeyDictionary` would do, in ten times as long."""

    __slots__ = ("base", "flow", "key")
    key: int
    flow: Flow
    base: TensorWeakRef | None


def _found(tensor: torch.Tensor) -> Flow:
    """Return the flow of a tensor made outside the run: fixed along dimensions in which its values differ."""
    flow = constant(tuple(tensor.shape))
    if tensor.is_meta or tensor.numel() < 2:
        return flow
    differs = (bool((tensor != tensor.narrow(dim, 0, 1)).any()) for dim in range(tensor.ndim))
    return replace(flow, fixed=tuple(differs))


def like_input(shape: Shape) -> Flow:
    """Return the flow of a network input: nothing in it can go."""
    return activation(shape, [])
