"""What sizes that a forward asks for say of channels: those that were read follow, those that are written stay.

A size that a module holds follows too where it alone counts channels; the slim module's number is set (`Trace.count`).
A size of unknown origin is taken to follow: the run of a slim network tells. Views ask for all of their sizes: how
fields lie after one stands here too.
"""

from math import gcd, prod
from operator import floordiv

import numpy as np

from ranp.graph.flow import Flow, Ints, Shape, blocks, merged_size, reshape_field, varying, vector_field
from ranp.graph.origins import Asking, Made, Number, held_in, line, only_held
from ranp.graph.rules.op import Op
from ranp.graph.trace import Trace

LARGE = 1 << 24  # entries of a field
VIEWS = ("view", "_unsafe_view", "reshape", "_reshape_alias", "unflatten", "flatten", "view_copy", "_reshape_copy")


def written(op: Op) -> str:
    """Return the reason of what a size in the code stops."""
    where = line()
    return f"fixed size in {op.where}" + (f" ({where})" if where else "")


def sized(op: Op, trace: Trace, field: Ints, asked: list[Asking], *, split: bool) -> Ints:
    """Return a field of a view's result after the sizes that were asked for are held.

    Args:
        op: the view.
        trace: what grows.
        field: of the result.
        asked: for each dimension of the result.
        split: whether the field varies over more dimensions than before the view.
    """
    axes = varying(field)
    if not split:
        for axis in axes if len(axes) == 1 else ():
            _hold(op, trace, field.ravel(), asked[axis])
        return field
    options = _options(field, axes, asked)
    if not options:
        trace.freeze(field, written(op))
        return field
    follow = options[trace.option(op.site, field, len(options))]
    for axis in axes:
        if axis not in follow:
            trace.tie_along(field, axis, written(op))
            field = trace.simplify(field)
    (number, *others) = [asked[axis] for axis in follow]
    if isinstance(number, Number) and only_held(number) and not others and varying(field) == (follow[0],):
        trace.count(field.ravel(), number)
        for axis in set(axes) - set(follow):
            _shared_out(trace, field.ravel(), number, asked[axis])
    return field


def _options(field: Ints, axes: tuple[int, ...], asked: list[Asking]) -> list[list[int]]:
    """Return which axes may follow when channels are split among several: all that were read, or one that is held."""
    read = [axis for axis in axes if asked[axis] is None or (_marked(asked[axis]) and not only_held(asked[axis]))]
    held = [[axis] for axis in axes if _marked(asked[axis]) and axis not in read]
    return ([read] if read else []) + sorted(held, key=lambda each: -field.shape[each[0]])


def _shared_out(trace: Trace, labels: Ints, number: Number, asked: Asking) -> None:
    """Say that channels that are read are shared out among heads: they are so many times as many."""
    origin = asked.origin if isinstance(asked, Number) else None
    if isinstance(origin, Made) and origin.action is floordiv and held_in(origin.right) == held_in(number):
        read = trace.labels_read(origin.left) if isinstance(origin.left, Number) else None
        if read is not None and len(read) == len(labels) * int(asked or 0):
            trace.pair(read, np.repeat(labels, int(asked or 0)))


def _marked(asked: Asking) -> bool:
    return isinstance(asked, Number)


def _hold(op: Op, trace: Trace, labels: Ints, asked: Asking) -> None:
    if isinstance(asked, Number):
        trace.follow(labels, asked)
    elif asked is not None:
        trace.freeze(labels, written(op))


def hold(op: Op, trace: Trace, flow: Flow, dim: int, asked: Asking) -> None:
    """Say that a dimension of a tensor is as long as was asked for."""
    for field in flow.over(dim):
        if varying(field) == (dim,):
            _hold(op, trace, field.ravel(), asked)
        elif not isinstance(asked, Number) and asked is not None:
            trace.freeze(field, written(op))


def cut(op: Op, trace: Trace, flow: Flow, dim: int, place: int, asked: Asking) -> None:
    """Say that a tensor is cut at a place that was asked for: so many channels lie before it, or behind a negative one.

    Args:
        op: the cut.
        trace: what grows.
        flow: of the whole.
        dim: the dimension.
        place: from the start, in [0, length].
        asked: the place as it stands in the code.
    """
    length = flow.shape[dim]
    if asked is None or not 0 < place < length:
        return
    for field in flow.over(dim):
        before, behind = field.take(range(place), axis=dim), field.take(range(place, length), axis=dim)
        part = behind if asked < 0 else before
        if not isinstance(asked, Number):
            trace.freeze(part, written(op))
        elif held_in(asked):
            if varying(field) == (dim,) and asked > 0:
                trace.count(part.ravel(), asked)
            trace.some += [before, behind]
        elif (other := trace.labels_read(asked)) is not None and len(other) == part.size:
            trace.pair(part.ravel(), other)
        else:  # a share of what was read
            equal_parts(trace, field, dim, gcd(place, length))


def equal_parts(trace: Trace, field: Ints, dim: int, length: int) -> None:
    """Say that the parts of so many channels along a dimension keep equally many."""
    rows = np.moveaxis(field, dim, 0).reshape(field.shape[dim] // length, -1)  # (parts, length x other axes)
    if len(rows) > 1:
        trace.balance.append(rows)


def stepped(op: Op, trace: Trace, flow: Flow, dim: int, step: int) -> None:
    """Say that every so-many-th index is taken: the blocks of so many live and die together."""
    for field in flow.over(dim):
        if field.shape[dim] % step:
            trace.freeze(field, written(op))
        else:
            rows = np.moveaxis(field, dim, -1)
            trace.tie_along(rows.reshape(*rows.shape[:-1], -1, step), rows.ndim, written(op))


def filled(trace: Trace, flow: Flow, asked: list[Asking] | None) -> Flow:
    """Return the flow of a constant whose sizes were asked for: along those that are marked it has labels of its own.

    They keep as many as what the size was read from, or is counted by; along sizes that are written it is fixed.
    """
    if asked is None:
        return flow
    fields, fixed = list(flow.fields), list(flow.fixed)
    for dim, number in enumerate(asked):
        if isinstance(number, Number):
            if not held_in(number) and trace.labels_read(number) is None:
                continue
            labels = trace.shadow(flow.shape[dim])
            trace.follow(labels, number)
            if len(labels) > 1:
                fields.append(vector_field(labels, dim, len(flow.shape)))
        elif number is not None:
            fixed[dim] = flow.shape[dim] > 1
    return Flow(flow.shape, tuple(fields), tuple(fixed), flow.roots)


def reshaped(trace: Trace, flow: Flow, shape: Shape, op: Op | None = None) -> Flow:
    """Return a flow under another shape.

    Where dimensions of a parameter are flattened into one, the first counts channels and the others are frozen.

    Args:
        trace: what grows.
        flow: before.
        shape: after.
        op: the view, where the network may have asked for its sizes.
    """
    if prod(shape) == 0:
        return Flow(shape, (), (True,) * len(shape), flow.roots)
    fields: list[Ints] = []
    taken: set[int] = set()
    asked = op.asked.sizes(len(shape)) if op is not None and op.asked is not None and op.name in VIEWS else None
    for field in _without_interleaving(trace, flow, shape):
        moved = trace.simplify(reshape_field(field, flow.shape, shape))
        if op is not None and asked is not None and moved.size > 1:
            split = len(varying(moved)) > len(varying(trace.simplify(field)))
            moved = sized(op, trace, moved, asked, split=split)
        if flow.roots is not None and taken & set(varying(moved)):
            trace.freeze(moved, "kernel position")
            continue
        taken |= set(varying(moved))
        fields.append(moved)
    return Flow(shape, tuple(f for f in fields if f.size > 1), _fixed(flow, shape), flow.roots, flow.layer)


def _without_interleaving(trace: Trace, flow: Flow, shape: Shape) -> list[Ints]:
    """Return the fields of a flow, tied along axes that a view merges with positions while others stay apart.

    So the r channels of a pixel shuffle's output row live and die together. A single axis of channels may be flattened
    with its positions, if that leaves a field of a size one can handle.
    """
    fields: list[Ints] = []
    for field in flow.fields:
        if merged_size(field, flow.shape, shape) > LARGE:
            trace.freeze(field, "flattened with too many positions")
            continue
        axes = _merged_with_positions(field, flow.shape, shape) if len(varying(field)) > 1 else []
        fields += trace.settle(flow.with_fields([field]), axes, "position").fields
    return fields


def _merged_with_positions(field: Ints, before: Shape, after: Shape) -> list[int]:
    """Return the axes of a field that a view merges with axes of length over 1 along which the field is constant."""
    axes: list[int] = []
    for source, result in blocks(before, after):
        own = [axis for axis in source if field.shape[axis] > 1]
        others = [axis for axis in source if field.shape[axis] == 1 and before[axis] > 1]
        if own and others and len(result) < len(source):
            axes += own
    return axes


def _fixed(flow: Flow, shape: Shape) -> tuple[bool, ...]:
    fixed = [True] * len(shape)
    for source, result in blocks(flow.shape, shape):
        some = any(flow.fixed[dim] and flow.shape[dim] > 1 for dim in source) or any(
            f.shape[dim] > 1 for f in flow.fields for dim in source
        )
        for dim in result:
            fixed[dim] = some or (not flow.constant and all(flow.shape[d] == 1 for d in source))
    return tuple(fixed)


def permuted(flow: Flow, order: list[int]) -> Flow:
    """Return a flow with its dimensions in another order."""
    shape = tuple(flow.shape[dim] for dim in order)
    fields = tuple(field.transpose(order) for field in flow.fields)
    return Flow(shape, fields, tuple(flow.fixed[dim] for dim in order), flow.roots)
