"""The state that grows while a network runs: labels, ties, layers, constraints and a record of every op."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import numpy as np
import torch
from torch.utils.weak import WeakTensorKeyDictionary

from ranp.graph.flow import Flow, Shape, activation, constant, first_along, squeeze_constant, varying, vector_field
from ranp.graph.labels import FIXED, FREE, Ints, Labels
from ranp.graph.origins import Held, Number, Read, held_in, line

Places = dict[int, tuple[int, ...]]
"""Where an op acts (starts, steps, shifts, paddings), by dimension."""


class Kind(StrEnum):
    """What an op does, as far as anyone asks: how it is counted, and what a masked network must mind of it."""

    ATTENTION = "attention"
    BATCH_NORM = "batch norm"
    CONVOLUTION = "convolution"
    CREATION = "creation"
    ELEMENTWISE = "elementwise"
    FOURIER = "Fourier transform"
    MOVE = "move"  # copies elements to other places
    NORM = "norm of statistics over channels"
    OTHER = "other"  # by count of results, named in the notes
    POOL = "pool"
    PRODUCT = "matrix product"
    REDUCTION = "reduction"
    RESAMPLING = "resampling"
    SOFTMAX = "softmax"
    SUM = "sum"  # a reduction that tells how many were summed
    VARIANCE = "variance"
    VIEW = "view"  # of the same storage
    WRITE = "write"  # of a part of a tensor


Site = tuple[str, int, str]
"""What is equal for the same line of code in repeated blocks: (class and path in it, op number, op)."""


@dataclass(slots=True)
class Layer:
    """A convolution or linear layer, in the order of the model's parameters.

    Args:
        name: name of its weight parameter.
        module: path of the module that called it first.
        kind: "conv", "depthwise", "transposed" or "linear".
        out_dim: the weight's dimension that counts output channels.
        groups: of the convolution.
        neurons: label of each output channel, shape (O,).
        bias: name of its bias parameter.
        norm: names of weight and bias of the affine norm that reads its output and nothing else before.
    """

    name: str
    module: str
    kind: str
    out_dim: int
    groups: int
    neurons: Ints
    bias: str | None = None
    norm: tuple[str, str] | None = None


@dataclass(slots=True)
class Record:
    """One op of the run.

    Args:
        op: its ATen name without overload.
        kind: what it does.
        module: path of the module it ran in.
        site: of the op.
        inputs: flows of its tensor arguments in order, parameters left out.
        outputs: flows of its tensor results in order.
        groups: of a convolution or of group norm; 1 otherwise.
        transposed: whether it is a transposed convolution.
        view: whether its result shares the storage of an argument.
        arguments: other arguments by name, where a later reader needs them.
        weights: names of the parameters among its arguments.
        scalars: the numbers it computes with.
        places: where it acts, by dimension, in those that can't shrink.
        summed: how many entries of a constant each of its results is a sum of, else 0.
        made: how many of its results are feature maps; None for all.
        chosen: of a run on real tensors, the conditions and numbers that the op's results are, for a slim run to take
            the same path; None for any other result.
    """

    op: str
    module: str
    site: Site
    inputs: list[Flow]
    outputs: list[Flow]
    groups: int = 1
    transposed: bool = False
    view: bool = False
    arguments: dict[str, Any] = field(default_factory=dict)
    weights: list[str] = field(default_factory=list)
    scalars: tuple[float | str, ...] = ()
    places: Places = field(default_factory=dict)
    summed: int = 0
    kind: Kind = Kind.OTHER
    made: int | None = None
    chosen: tuple[torch.Tensor | None, ...] = ()


@dataclass(slots=True)
class Run:
    """What one run of the network left: its ops, its calls of childless modules, its channel statistics, its outputs.

    `answers` holds the conditions and numbers the network read, for a slim run to take the same path.
    """

    records: list[Record] = field(default_factory=list)
    calls: list["Call"] = field(default_factory=list)
    mixing: list["Mixing"] = field(default_factory=list)
    answers: list[Any] = field(default_factory=list)
    outputs: list[Flow] = field(default_factory=list)


@dataclass(slots=True)
class Call:
    """One call of a module without children, for the paper's counting by module.

    Args:
        module: its path.
        kind: its class.
        inputs: flow of its first tensor argument.
        outputs: flow of its first tensor result.
    """

    module: str
    kind: type[torch.nn.Module]
    inputs: Flow
    outputs: Flow


@dataclass(slots=True)
class Count:
    """Channels that a number of a module counts: their labels, and the number made from it that is to be as many."""

    labels: Ints
    number: Number


@dataclass(slots=True)
class Mixing:
    """An op that mixes channels in a statistic: a norm over channels or a softmax over channels."""

    record: int
    dims: tuple[int, ...]
    groups: int


class Trace:
    """Labels and records of one network, over one or more runs of it.

    Args:
        second: where views that split channels among heads let others of them follow than at first.
    """

    def __init__(self, second: frozenset[Site] = frozenset()) -> None:
        self.names: dict[int, str] = {}  # of the run's parameters, by the id of their tensor
        self._alive: list[torch.Tensor] = []  # keeps those ids taken
        self._flows: WeakTensorKeyDictionary = WeakTensorKeyDictionary()  # what each tensor of a run carries
        self.bases: WeakTensorKeyDictionary = WeakTensorKeyDictionary()  # whose storage a tensor is a view of
        self.labels = Labels()
        self.alias = Labels()  # ties among parameters alone: what is zeroed when a consumer is masked
        self.born: dict[str, dict[int, Ints]] = {}
        self.grouped: dict[str, Ints] = {}
        self.shapes: dict[str, Shape] = {}
        self.layers: dict[str, Layer] = {}
        self.runs: dict[str, Run] = {}
        self.current = Run()
        self.balance: list[Ints] = []
        self.some: list[Ints] = []  # labels of which one stays: no part of a cut is empty
        self.wide: list[Ints] = []  # labels whose groups keep at least two units
        self.consumers: list[Ints] = []
        self.summed: list[tuple[Ints, str]] = []  # of parameters a norm runs over: they stay unless they are read
        self.reasons: list[str] = []
        self.frozen: list[tuple[Ints, int]] = []
        self.outputs: tuple[int, ...] = ()  # those that must keep their shape, by place; none named means all
        self.read: set[str] = set()  # parameters that some op took
        self.counts: dict[Held, Count] = {}
        self.second = second
        self.splits: list[tuple[Site, Ints]] = []  # labels of each such view
        self.shadows: list[Ints] = []  # labels of tensors made in the forward, which no parameter has
        self.checked: list[tuple[Ints, str]] = []  # labels whose number the network compares with one written in it

    def begin(self, name: str, tensors: list[torch.Tensor]) -> None:
        """Start the record of a run over these parameter tensors."""
        self.current = self.runs[name] = Run()
        self._alive += tensors

    @property
    def records(self) -> list[Record]:
        """The ops of the current run."""
        return self.current.records

    @property
    def calls(self) -> list[Call]:
        """The calls of the current run."""
        return self.current.calls

    @property
    def mixing(self) -> list[Mixing]:
        """The channel statistics of the current run."""
        return self.current.mixing

    # Flows of tensors

    def flow(self, tensor: torch.Tensor) -> Flow:
        """Return what a tensor carries; a parameter is born with labels on every dimension longer than 1."""
        known: Flow | None = self._flows.get(tensor)
        if known is not None:
            return known
        name = self.names.get(id(tensor))
        if name is None:
            return _found(tensor)
        shape = tuple(tensor.shape)
        fields = [vector_field(self.axis(tensor, dim), dim, len(shape)) for dim, n in enumerate(shape) if n > 1]
        return Flow(shape, tuple(fields), (True,) * len(shape), frozenset([name]))

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

    def fresh(self, count: int) -> Ints:
        """Return new labels."""
        self.alias.new(count)
        return self.labels.new(count)

    def is_parameter(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor is a parameter, buffer or tensor attribute itself, not computed from one."""
        return id(tensor) in self.names and tensor not in self._flows

    def write_through(self, base: torch.Tensor, view: Flow, why: str) -> None:
        """Say that a tensor was written into through a view of it; fields along a part of a dimension are frozen."""
        shape, fields = tuple(base.shape), []
        for part in view.fields:
            if len(view.shape) == len(shape) and all(view.shape[axis] == shape[axis] for axis in varying(part)):
                fields.append(part)
            else:
                self.freeze(part, why)
        known = self.flow(base)
        written = Flow(shape, tuple(fields), (False,) * len(shape), view.roots)
        merged = self.merge([replace(known, fixed=(False,) * len(shape)), written], shape, why)
        fixed = tuple(not merged.over(dim) and not (known.constant and view.constant) for dim in range(len(shape)))
        self.set(base, replace(merged, fixed=fixed))

    def is_unknown(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor is none of the run's: made outside it, as `torch.tensor(2.0)` is."""
        return id(tensor) not in self.names and tensor not in self._flows

    def set(self, tensor: torch.Tensor, flow: Flow) -> None:
        """Say what a tensor carries."""
        assert tuple(tensor.shape) == flow.shape, (tuple(tensor.shape), flow.shape)
        self._flows[tensor] = flow

    # Sizes that the network reads and asks for

    def sizes(self, tensor: torch.Tensor) -> list[int] | None:
        """Return a tensor's shape with marks on the sizes that channels decide; None where none is."""
        if torch._is_functional_tensor(tensor):
            tensor = torch._from_functional_tensor(tensor)
        known = self._flows.get(tensor)
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

    def shadow(self, size: int) -> Ints:
        """Return labels of a tensor made in the forward."""
        self.shadows.append(self.fresh(size))
        return self.shadows[-1]

    def pair(self, a: Ints, b: Ints) -> None:
        """Say that two rows of channels keep equally many."""
        if not np.array_equal(self.labels.find(a), self.labels.find(b)):
            self.balance.append(np.stack([a, b]))

    # Ties

    def tie(self, a: Ints, b: Ints, why: str, *, alias: bool = False) -> None:
        """Tie two label arrays that broadcast; what meets a fixed index is frozen, what meets a free one stays.

        Args:
            a: labels, or FREE, or FIXED.
            b: likewise.
            why: reason given for labels that meet a fixed index.
            alias: both sides are computed from parameters alone.
        """
        left, right = (side.ravel() for side in np.broadcast_arrays(a, b))
        self.freeze(left[right == FIXED], why)
        self.freeze(right[left == FIXED], why)
        both = (left >= 0) & (right >= 0)
        if both.any():
            self.labels.tie(left[both], right[both])
            if alias:
                self.alias.tie(left[both], right[both])

    def tie_along(self, field: Ints, axis: int) -> None:
        """Tie the labels of a field along an axis."""
        first = np.broadcast_to(first_along(field, axis), field.shape)
        real = (field >= 0) & (first >= 0)
        self.labels.tie(field[real], first[real])

    def freeze(self, labels: Ints, why: str) -> None:
        """Keep labels for ever, with the reason."""
        real = labels[labels >= 0]
        if real.size:
            if why not in self.reasons:
                self.reasons.append(why)
            self.frozen.append((np.unique(real), self.reasons.index(why)))

    def sum_parameter(self, flow: Flow, dims: Iterable[int], why: str) -> None:
        """Say that a sum or norm runs over some dimensions of a parameter.

        It is unchanged where slices go that the masked network sets to zero, which read removed channels; others stay.
        """
        wanted = set(dims)
        self.summed += [(part, why) for part in flow.fields if wanted.intersection(varying(part))]

    def freeze_flow(self, flow: Flow, why: str, dims: Iterable[int] | None = None) -> None:
        """Freeze the fields of a flow: all of them, or those that vary over some dimensions."""
        wanted = None if dims is None else set(dims)
        for part in flow.fields:
            if wanted is None or wanted.intersection(varying(part)):
                self.freeze(part, why)

    def freeze_picks(self, flow: Flow) -> None:
        """Freeze the channels whose numbers a tensor holds, now that something reads them."""
        for labels in flow.picks:
            self.freeze(labels, flow.why)

    def settle(self, flow: Flow, dims: Sequence[int], why: str) -> Flow:
        """Tie each field along some dimensions, so that it varies over none of them.

        A field that varies over nothing else is frozen: its indices are positions, not channels.
        """
        fields = []
        for part in flow.fields:
            axes = [dim for dim in dims if part.shape[dim] > 1]
            if axes and set(axes) == set(varying(part)):
                self.freeze(part, why)
                continue
            for dim in axes:
                first = first_along(part, dim)
                self.tie(part, first, why, alias=flow.roots is not None)
                part = first
            fields.append(part)
        return flow.with_fields(fields)

    def channels(self, flow: Flow, dim: int, why: str) -> Ints:
        """Return one label for each index of a dimension; fields over other dimensions too are tied along those."""
        over = flow.over(dim)
        if not over:
            return np.full(flow.shape[dim], flow.sentinel(dim))
        others = [axis for axis in range(len(flow.shape)) if axis != dim]
        vectors = [part.ravel() for part in self.settle(flow.with_fields(over), others, why).over(dim)]
        for other in vectors[1:]:
            self.tie(vectors[0], other, why, alias=flow.roots is not None)
        return vectors[0]

    def consume(self, flow: Flow, labels: Ints) -> None:
        """Mark weight labels that read channels: masked means these slices are zero."""
        if flow.roots:
            self.consumers.append(labels[labels >= 0].ravel())

    def simplify(self, part: Ints) -> Ints:
        """Shorten the axes of a field along which its classes are equal."""
        return squeeze_constant(part, self.labels.find(part))

    def merge(self, flows: Sequence[Flow], shape: Shape, why: str) -> Flow:
        """Return the flow of an elementwise op with broadcasting: fields over the same dimensions are tied.

        A field that meets a fixed dimension of full length without one is frozen.
        """
        ndim = len(shape)
        wide = [padded(flow, ndim) for flow in flows]
        roots = joined_roots(flows)
        fields: list[Ints] = []
        for flow in wide:
            for part in flow.fields:
                fields = self._absorb(fields, part, why, alias=roots is not None)
        for dim in range(ndim):
            if any(flow.fixed[dim] and flow.shape[dim] == shape[dim] > 1 and not flow.over(dim) for flow in wide):
                fields = [self._unless_fixed(part, dim, why) for part in fields]
        fixed = tuple(any(flow.fixed[d] and flow.shape[d] == shape[d] for flow in wide) for d in range(ndim))
        return Flow(shape, tuple(part for part in fields if part.size > 1), fixed, roots)

    def _unless_fixed(self, field: Ints, dim: int, why: str) -> Ints:
        """Freeze a field that varies over a fixed dimension in classes too, and return it without what is equal."""
        if field.shape[dim] > 1:
            field = self.simplify(field)
        if field.shape[dim] > 1:
            self.freeze(field, why)
        return field

    def _absorb(self, fields: list[Ints], new: Ints, why: str, *, alias: bool) -> list[Ints]:
        """Return fields with a new one, tied to those that share an axis with it; FREE entries take its labels."""
        apart = []
        for known in fields:
            if not set(varying(known)) & set(varying(new)):
                apart.append(known)
                continue
            self.tie(known, new, why, alias=alias)
            new = self.simplify(np.where(known == FREE, new, known))
        return [*apart, new] if new.size > 1 else apart

    # Layers

    def add_layer(self, layer: Layer) -> None:
        """Remember a layer on its first call."""
        self.layers.setdefault(layer.name, layer)


def _found(tensor: torch.Tensor) -> Flow:
    """Return the flow of a tensor made outside the run: fixed along dimensions in which its values differ."""
    flow = constant(tuple(tensor.shape))
    if tensor.is_meta or tensor.numel() < 2:
        return flow
    differs = (bool((tensor != tensor.narrow(dim, 0, 1)).any()) for dim in range(tensor.ndim))
    return replace(flow, fixed=tuple(differs))


def along(flow: Flow, dim: int) -> Ints | None:
    """Return the labels along a dimension where one field varies over it and over nothing else."""
    over = flow.over(dim)
    return over[0].ravel() if len(over) == 1 and varying(over[0]) == (dim,) else None


def padded(flow: Flow, ndim: int) -> Flow:
    """Return a flow with dimensions of length 1 in front, as broadcasting adds them."""
    extra = ndim - len(flow.shape)
    if not extra:
        return flow
    fields = tuple(part.reshape((1,) * extra + part.shape) for part in flow.fields)
    return Flow((1,) * extra + flow.shape, fields, (False,) * extra + flow.fixed, flow.roots, flow.layer)


def joined_roots(flows: Sequence[Flow]) -> frozenset[str] | None:
    """Return the parameters some flows were computed from together; None where a feature map is among them."""
    roots: frozenset[str] = frozenset()
    for flow in flows:
        if flow.roots is None:
            return None
        roots |= flow.roots
    return roots


def like_input(shape: Shape) -> Flow:
    """Return the flow of a network input: nothing in it can go."""
    return activation(shape, [])
