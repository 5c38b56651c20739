"""The constraints that grow while a network runs: which labels are tied, which stay, which keep equally many."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from ranp.graph._labels import Labels
from ranp.graph.flow import FIXED, FREE, Flow, Ints, Shape, along, first_along, squeeze_constant, varying


class Ties:
    """Labels, and what must hold of them.

    Attributes:
        labels: classes of labels that live and die together.
        alias: ties among parameters alone: what is zeroed when a consumer is masked.
        balance: rows of labels that keep equally many.
        some: labels of which one stays: no part of a cut is empty.
        wide: labels whose groups keep at least two units.
        consumers: labels of weights that read channels.
        summed: labels of parameters a norm runs over, with the reason: they stay unless they are read.
        frozen: labels that stay, with the reason; of several the first counts.
        shadows: labels of tensors made in the forward, which no parameter has.
    """

    def __init__(self) -> None:
        self.labels = Labels()
        self.alias = Labels()
        self.balance: list[Ints] = []
        self.some: list[Ints] = []
        self.wide: list[Ints] = []
        self.consumers: list[Ints] = []
        self.summed: list[tuple[Ints, str]] = []
        self.frozen: list[tuple[Ints, str]] = []
        self.shadows: list[Ints] = []

    def fresh(self, count: int) -> Ints:
        """Return new labels."""
        self.alias.new(count)
        return self.labels.new(count)

    def shadow(self, size: int) -> Ints:
        """Return labels of a tensor made in the forward."""
        self.shadows.append(self.fresh(size))
        return self.shadows[-1]

    def pair(self, a: Ints, b: Ints) -> None:
        """Say that two rows of channels keep equally many."""
        if not np.array_equal(self.labels.find(a), self.labels.find(b)):
            self.balance.append(np.stack([a, b]))

    def tie(self, a: Ints, b: Ints, why: str, *, alias: bool = False) -> None:
        """Tie two label arrays that broadcast; what meets a fixed index is frozen, what meets a free one stays.

        Args:
            a: labels, or FREE, or FIXED.
            b: likewise.
            why: reason given for labels that meet a fixed index.
            alias: both sides are computed from parameters alone.
        """
        if a.shape != b.shape:
            a, b = np.broadcast_arrays(a, b)
        left, right = a.ravel(), b.ravel()
        both = (left >= 0) & (right >= 0)
        if not both.all():
            self.freeze(left[right == FIXED], why)
            self.freeze(right[left == FIXED], why)
            left, right = left[both], right[both]
        if left.size:
            self.labels.tie(left, right)
            if alias:
                self.alias.tie(left, right)

    def tie_along(self, field: Ints, axis: int, why: str) -> None:
        """Tie the labels of a field along an axis; what meets a fixed index there is frozen."""
        self.tie(field, first_along(field, axis), why)

    def freeze(self, labels: Ints, why: str) -> None:
        """Keep labels for ever, with the reason."""
        real = labels[labels >= 0]
        if real.size:
            self.frozen.append((real, why))

    def stays(self, labels: Ints) -> NDArray[np.bool_]:
        """Return which of some labels are tied to one that is kept for ever."""
        stays = np.zeros(self.labels.count, dtype=bool)
        for kept, _ in self.frozen:
            stays[self.labels.find(kept)] = True
        return stays[self.labels.find(labels)]

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
        if (alone := along(flow, dim)) is not None:
            return alone
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
        first = (0,) * part.ndim
        for axis in varying(part):  # most differ from end to end, which two entries tell
            last = (*first[:axis], -1, *first[axis + 1 :])
            if self.labels.alike(int(part[first]), int(part[last])):
                return squeeze_constant(part, self.labels.find(part))
        return part

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
