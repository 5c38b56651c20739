"""How a step cuts a grid: into chains, along which messages pass, and into fronts, where many pass at once.

Each node belongs to exactly one chain of a step, and every edge of the step lies on one: for (0, 1) they are the rows,
for (1, 0) the columns, for (1, 1) the diagonals. The kernels walk along chains; the PyTorch path goes from one front to
the next. Both are worked out from the sizes of the grid: a front is a box, so a view holds it and no node is listed,
and of a chain the first node is, which lies on the surface of the grid.
"""

from collections import OrderedDict
from itertools import accumulate
from math import prod
from threading import Lock
from typing import NamedTuple

import torch
from torch import Tensor

from ranp.kernels._streams import table_stream

Box = tuple[slice, ...]

KEPT_BYTES = 1 << 25
"""What the chains kept for later calls may take in all; 64 x 96 x 96 nodes with 26 directions have 3.1 MB of them."""

KEPT_GRIDS = 64
"""How many grids' chains are kept at most."""


def overlap(step: tuple[int, ...], shape: tuple[int, ...]) -> tuple[Box, Box]:
    """Return the parts of a grid that hold the nodes i - step and the nodes i, for all pairs inside it.

    >>> overlap((1, -1), (3, 4))
    ((slice(0, 2, None), slice(1, 4, None)), (slice(1, 3, None), slice(0, 3, None)))
    """
    return _reached(tuple(-move for move in step), shape), _reached(step, shape)


def _reached(step: tuple[int, ...], shape: tuple[int, ...]) -> Box:
    starts = [min(max(move, 0), size) for move, size in zip(step, shape, strict=True)]
    sizes = [max(size - abs(move), 0) for move, size in zip(step, shape, strict=True)]
    return tuple(slice(start, start + size) for start, size in zip(starts, sizes, strict=True))


def stride(shape: tuple[int, ...], step: tuple[int, ...]) -> int:
    """Return by how much the flat node number grows along the step."""
    flat = 0
    for size, move in zip(shape, step, strict=True):
        flat = flat * size + move
    return flat


def fronts(shape: tuple[int, ...], step: tuple[int, ...]) -> list[tuple[Box, Box]]:
    """Return (targets, sources) of each front: what reaches the targets needs the fronts before, and none behind.

    The fronts are slabs across one axis, as thick as the step is long there, and the axis that gives the fewest. The
    first nodes of the chains are in none: no message reaches them.

    >>> [targets for targets, sources in fronts((3, 4), (-1, 1))]
    [(slice(1, 2, None), slice(1, 4, None)), (slice(0, 1, None), slice(1, 4, None))]
    """
    sources, targets = overlap(step, shape)
    moves = {axis: move for axis, move in enumerate(step) if move}
    axis = min(moves, key=lambda axis: -(-shape[axis] // abs(moves[axis])))
    move, part = moves[axis], targets[axis]
    thick = abs(move)
    slabs = [(start, min(start + thick, part.stop)) for start in range(part.start, part.stop, thick)]
    return [
        (
            (*targets[:axis], slice(start, stop), *targets[axis + 1 :]),
            (*sources[:axis], slice(start - move, stop - move), *sources[axis + 1 :]),
        )
        for start, stop in (slabs if move > 0 else reversed(slabs))
    ]


def chains(shape: tuple[int, ...], step: tuple[int, ...], device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """Return the first node (C,) and the number of nodes (C,) of each chain, int64, longest first.

    >>> chains((2, 3), (0, 1))
    (tensor([0, 3]), tensor([3, 3]))
    """
    targets = _reached(step, shape)
    # What no step reaches, in boxes: outside the targets along one axis, and inside them along the axes before it.
    boxes = [
        (
            *targets[:axis],
            slice(0, targets[axis].start) if move > 0 else slice(targets[axis].stop, shape[axis]),
            *[slice(0, size) for size in shape[axis + 1 :]],
        )
        for axis, move in enumerate(step)
        if move
    ]
    heads = [_in_box(box, shape, step, device) for box in boxes]
    first, length = (torch.cat(parts) for parts in zip(*heads, strict=True))
    order = (first - length * prod(shape)).argsort()  # by length, and chains of one length by their first node
    return first[order], length[order]


def _in_box(
    box: Box, shape: tuple[int, ...], step: tuple[int, ...], device: torch.device | str
) -> tuple[Tensor, Tensor]:
    """Return the flat number of each node of a box, and how many nodes there are from it on along the step."""
    number, length = (torch.full((), start, dtype=torch.int64, device=device) for start in (0, max(shape)))
    for axis, (part, size, move) in enumerate(zip(box, shape, step, strict=True)):
        place = torch.arange(part.start, part.stop, device=device)
        place = place.view([-1 if other == axis else 1 for other in range(len(shape))])
        number = number * size + place
        if move:
            ahead = size - 1 - place if move > 0 else place
            length = torch.minimum(length, ahead // abs(move) + 1)
    return number.flatten(), length.expand_as(number).flatten()


class Axes(NamedTuple):
    """The chains of every axis, a pair of opposite steps, as the native code wants them."""

    first: Tensor  # (C,) on the device: the first nodes, axis after axis, of each the longest chain first
    length: Tensor  # (C,) on the device
    begin: Tensor  # (R / 2 + 1,) where an axis begins in the two above
    longest: Tensor  # (R / 2,) nodes of the longest chain
    stride: Tensor  # (R / 2,)

    @property
    def room(self) -> int:
        """Return the nodes of buffers that give each chain of an axis as many as the longest has."""
        return int((self.longest * self.begin.diff()).max())

    @property
    def nbytes(self) -> int:
        """Return what the tables take."""
        return sum(table.nbytes for table in self)


_kept: OrderedDict[tuple[object, ...], Axes] = OrderedDict()
_lock = Lock()


def axes(shape: tuple[int, ...], steps: tuple[tuple[int, ...], ...], device: torch.device) -> Axes:
    """Return the chains of the even steps; those of the grids used last are kept, within KEPT_BYTES and KEPT_GRIDS."""
    stream = table_stream(device)
    if stream is None:
        return _axes(shape, steps, device)
    key = (shape, steps, device, stream)
    with _lock:
        tables = _kept.pop(key) if key in _kept else _axes(shape, steps, device)
        _kept[key] = tables
        while len(_kept) > KEPT_GRIDS or sum(held.nbytes for held in _kept.values()) > KEPT_BYTES:
            _kept.popitem(last=False)
    return tables


def _axes(shape: tuple[int, ...], steps: tuple[tuple[int, ...], ...], device: torch.device) -> Axes:
    tables = [chains(shape, step, device) for step in steps[::2]]
    first, length = (torch.cat(parts) for parts in zip(*tables, strict=True))
    # The rest follows from the sizes, so that nothing waits for a GPU.
    begin = list(accumulate((len(first) for first, _ in tables), initial=0))
    longest = [min(-(-n // abs(move)) for n, move in zip(shape, step, strict=True) if move) for step in steps[::2]]
    strides = [stride(shape, step) for step in steps[::2]]
    return Axes(first, length, *[torch.tensor(numbers, device="cpu") for numbers in (begin, longest, strides)])
