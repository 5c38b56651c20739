"""What a tensor carries: label fields over its dimensions.

A **field** is an integer array that broadcasts against the tensor: an axis of full length varies, an axis of length 1
does not. A plain feature map (B, C, D, H, W) has one field of shape (1, C, 1, 1, 1). After `view(B, g, C / g, ...)` the
field has shape (1, g, C / g, ...), so that permutes and views stay exact. A weight has one field per dimension.

So one channel alone has no label. It needs none: a width of 1 can't shrink, and slim networks, where widths of 1 come
about, are compared by their shapes (`ranp.graph._check`); fields that name their axes would say nothing more.

A dimension no field varies over is either fixed (batch, voxels, image channels) or free (a constant made in the
forward, whose size follows from the tensors it meets).

A label stands for one index of one dimension of one parameter. Two values are no labels: `FIXED` marks an index that
can never go (an image channel, a voxel), `FREE` one that follows whatever it meets (a tensor of zeros made in the
forward).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

FREE = -1
FIXED = -2

Ints = NDArray[np.int64]
Entry = TypeVar("Entry", np.int64, np.bool_)
Shape = tuple[int, ...]


def look_up(table: NDArray[Entry], numbers: Ints, otherwise: Any = None) -> NDArray[Entry]:
    """Return the entry of a table for each label or unit; what is none has another one, or by default stays as it is.

    >>> look_up(np.array([False, True]), np.array([1, FREE, 0]), True).tolist()
    [True, True, False]
    """
    real = numbers >= 0
    entries = np.array(numbers if otherwise is None else np.full(numbers.shape, otherwise), dtype=table.dtype)
    entries[real] = table[numbers[real]]
    return entries


@dataclass(frozen=True, slots=True, eq=False)
class Flow:
    """The labels of one tensor. Two are the same where they are one object.

    Args:
        shape: the tensor's shape.
        fields: label arrays that broadcast against the shape.
        fixed: for each dimension, whether its indices can never go where no field says otherwise.
        roots: names of the parameters the tensor was computed from alone, empty for a constant; None for a feature map.
        layer: weight name of the convolution or linear layer whose direct output this is.
        picks: fields whose indices are its values: they are frozen, for the reason `why`, when anything reads it.
        why: the reason.
    """

    shape: Shape
    fields: tuple[Ints, ...]
    fixed: tuple[bool, ...]
    roots: frozenset[str] | None
    layer: str | None = None
    picks: tuple[Ints, ...] = ()
    why: str = ""

    @property
    def constant(self) -> bool:
        """Whether no parameter and no input took part in it."""
        return self.roots is not None and not self.roots

    def over(self, dim: int) -> list[Ints]:
        """Return the fields that vary over a dimension."""
        return [field for field in self.fields if field.shape[dim] > 1]

    def immovable(self, dim: int) -> bool:
        """Whether a dimension neither carries labels nor follows what it meets."""
        return self.fixed[dim] and not self.over(dim)

    def sentinel(self, dim: int) -> int:
        """Return what an index of a dimension without a field counts as."""
        return FIXED if self.fixed[dim] else FREE

    def with_fields(self, fields: Iterable[Ints]) -> "Flow":
        """Return the same flow with other fields; those that vary nowhere are dropped."""
        kept = tuple([field for field in fields if field.size > 1])
        return Flow(self.shape, kept, self.fixed, self.roots, self.layer, self.picks, self.why)

    def apart(self, dims: Iterable[int]) -> "Flow":
        """Return the same flow with the fields that vary over none of some dimensions."""
        wanted = set(dims)
        return self.with_fields(field for field in self.fields if not wanted.intersection(varying(field)))

    def thin(self, *dims: int) -> "Flow":
        """Return what lies over the other dimensions alone: these are of length 1, and not fixed."""
        shape = tuple(1 if dim in dims else size for dim, size in enumerate(self.shape))
        fixed = tuple(each and dim not in dims for dim, each in enumerate(self.fixed))
        return Flow(shape, self.apart(dims).fields, fixed, self.roots, self.layer, self.picks, self.why)

    def fixing(self, dims: Iterable[int]) -> "Flow":
        """Return the same flow with some dimensions fixed, of which no layer is the direct maker any more."""
        wanted = set(dims)
        fixed = tuple(each or dim in wanted for dim, each in enumerate(self.fixed))
        return replace(self, fixed=fixed, layer=None)


def activation(
    shape: Shape,
    fields: list[Ints],
    fixed: tuple[bool, ...] | None = None,
    layer: str | None = None,
    roots: frozenset[str] | None = None,
) -> Flow:
    """Return the flow of a feature map; by default every dimension without a field is fixed."""
    kept = tuple(field for field in fields if field.size > 1)
    return Flow(shape, kept, (True,) * len(shape) if fixed is None else fixed, roots, layer)


def constant(shape: Shape) -> Flow:
    """Return the flow of a tensor made in the forward from nothing."""
    return Flow(shape, (), (False,) * len(shape), frozenset())


def vector_field(labels: Ints, dim: int, ndim: int) -> Ints:
    """Return a vector of labels as a field over one dimension."""
    return labels.reshape([-1 if axis == dim else 1 for axis in range(ndim)])


def varying(field: Ints) -> tuple[int, ...]:
    """Return the axes a field varies over."""
    return tuple([axis for axis, size in enumerate(field.shape) if size > 1])


def along(flow: Flow, dim: int) -> Ints | None:
    """Return the labels along a dimension where one field varies over it and over nothing else."""
    over = flow.over(dim)
    return over[0].ravel() if len(over) == 1 and varying(over[0]) == (dim,) else None


def first_along(field: Ints, axis: int) -> Ints:
    """Return the first entry along an axis that is not FREE, of length 1 there; FREE where all are.

    >>> first_along(np.array([[FREE, 5, 6], [FREE, FREE, FREE]]), 1).tolist()
    [[5], [-1]]
    """
    first = field.take([0], axis=axis)
    if not (first == FREE).any():
        return first
    return np.take_along_axis(field, (field != FREE).argmax(axis=axis, keepdims=True), axis)


def squeeze_constant(field: Ints, classes: Ints) -> Ints:
    """Shorten to length 1 every axis along which the classes of a field are all equal."""
    for axis in varying(field):
        first = classes.take([0], axis=axis)
        if (classes == first).all():
            field, classes = field.take([0], axis=axis), first
    return field


@lru_cache(4096)
def blocks(before: Shape, after: Shape) -> tuple[tuple[range, range], ...]:
    """Split two shapes of equal product into the shortest runs of dimensions with equal products.

    >>> blocks((2, 6, 5), (2, 2, 3, 5))
    ((range(0, 1), range(0, 1)), (range(1, 2), range(1, 3)), (range(2, 3), range(3, 4)))
    """
    pairs, i, j = [], 0, 0
    while i < len(before) or j < len(after):
        start_i, start_j, left, right = i, j, 1, 1
        if i < len(before):
            left, i = before[i], i + 1
        if j < len(after):
            right, j = after[j], j + 1
        while left != right:
            if left < right:
                left, i = left * before[i], i + 1
            else:
                right, j = right * after[j], j + 1
        pairs.append((range(start_i, i), range(start_j, j)))
    return tuple(pairs)


def _stretched(field: Ints, before: Shape, after: Shape) -> tuple[list[int], list[int]]:
    """Return the shape a field is stretched to before a view, and its shape after it."""
    middle: list[int] = []
    target: list[int] = []
    for source, result in blocks(before, after):
        varies = any(field.shape[axis] > 1 for axis in source)
        middle += [before[axis] if varies else 1 for axis in source]
        target += [after[axis] if varies else 1 for axis in result]
    return middle, target


def reshape_field(field: Ints, before: Shape, after: Shape) -> Ints:
    """Return a field as it lies after a view from one shape to another."""
    middle, target = _stretched(field, before, after)
    return np.broadcast_to(field, middle).reshape(target)


def merged_size(field: Ints, before: Shape, after: Shape) -> int:
    """Return the number of entries a field has after a view from one shape to another."""
    return prod(_stretched(field, before, after)[1])
