"""Ops that move elements without changing them: fields move along."""

from dataclasses import replace
from math import prod

import numpy as np

from ranp.graph.flow import Flow, Shape, blocks, merged_size, reshape_field, varying
from ranp.graph.labels import FIXED, FREE, Ints
from ranp.graph.rules.registry import Op, rule
from ranp.graph.trace import Trace, joined_roots

LARGE = 1 << 24  # entries of a field


@rule("view", "_unsafe_view", "reshape", "_reshape_alias", "unflatten", "flatten", "view_copy", "_reshape_copy")
def view(op: Op, trace: Trace) -> Flow:
    """Reshape: dimensions merge and split, fields with them."""
    return reshaped(trace, trace.flow(op["self"]), op.shape())


def reshaped(trace: Trace, flow: Flow, shape: Shape) -> Flow:
    """Return a flow under another shape.

    Where dimensions of a parameter are flattened into one, the first counts channels and the others are frozen.
    """
    if prod(shape) == 0:
        return Flow(shape, (), (True,) * len(shape), flow.roots)
    fields: list[Ints] = []
    taken: set[int] = set()
    for field in _without_interleaving(trace, flow, shape):
        moved = trace.simplify(reshape_field(field, flow.shape, shape))
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


@rule("permute", "permute_copy")
def permute(op: Op, trace: Trace) -> Flow:
    """Reorder dimensions."""
    return permuted(trace.flow(op["self"]), [dim % op["self"].ndim for dim in op["dims"]])


def permuted(flow: Flow, order: list[int]) -> Flow:
    """Return a flow with its dimensions in another order."""
    shape = tuple(flow.shape[dim] for dim in order)
    fields = tuple(field.transpose(order) for field in flow.fields)
    return Flow(shape, fields, tuple(flow.fixed[dim] for dim in order), flow.roots)


@rule("transpose", "transpose_copy", "t", "t_copy", "numpy_T", "swapaxes")
def transpose(op: Op, trace: Trace) -> Flow:
    """Swap two dimensions."""
    ndim = op["self"].ndim
    order = list(range(ndim))
    if op.name.startswith("transpose") or op.name == "swapaxes":
        first, second = op["dim0"] % max(ndim, 1), op["dim1"] % max(ndim, 1)
        order[first], order[second] = order[second], order[first]
    else:
        order.reverse()
    return permuted(trace.flow(op["self"]), order)


@rule("squeeze", "unsqueeze", "squeeze_copy", "unsqueeze_copy")
def squeeze(op: Op, trace: Trace) -> Flow:
    """Remove or add dimensions of length 1."""
    return reshaped(trace, trace.flow(op["self"]), op.shape())


@rule("expand", "expand_copy", "broadcast_to")
def expand(op: Op, trace: Trace) -> Flow:
    """Repeat dimensions of length 1 without copying; how often follows from what the result meets."""
    flow, shape = trace.flow(op["self"]), op.shape()
    extra = len(shape) - len(flow.shape)
    fields = tuple(field.reshape((1,) * extra + field.shape) for field in flow.fields)
    fixed = tuple(
        dim >= extra and flow.fixed[dim - extra] and flow.shape[dim - extra] == size for dim, size in enumerate(shape)
    )
    return Flow(shape, fields, fixed, flow.roots)


@rule("repeat", "tile")
def repeat(op: Op, trace: Trace) -> Flow:
    """Repeat dimensions, as instance norm does with its weight for each sample."""
    flow, shape = trace.flow(op["self"]), op.shape()
    extra = len(shape) - len(flow.shape)
    old = (1,) * extra + flow.shape
    fields = []
    for field in flow.fields:
        field = field.reshape((1,) * extra + field.shape)
        times = [shape[d] // old[d] if field.shape[d] > 1 else 1 for d in range(len(shape))]
        fields.append(np.tile(field, times))
    fixed = tuple(each and size > 1 for each, size in zip((True,) * extra + flow.fixed, old, strict=True))
    return Flow(shape, tuple(fields), fixed, flow.roots)


@rule("repeat_interleave")
def repeat_interleave(op: Op, trace: Trace) -> Flow:
    """Repeat each index of a dimension equally often."""
    flow, dim, shape = trace.flow(op.tensors[0]), op.arguments.get("dim"), op.shape()
    if dim is None or not isinstance(op.arguments.get("repeats"), int):
        trace.freeze_flow(flow, f"repeated unevenly in {op.where}")
        return Flow(shape, (), (True,) * len(shape), flow.roots)
    fields = [np.repeat(f, op["repeats"], axis=dim) if f.shape[dim] > 1 else f for f in flow.fields]
    return Flow(shape, tuple(fields), flow.fixed, flow.roots)


# Parts of a dimension


def part(trace: Trace, flow: Flow, dim: int, index: Ints, shape: Shape, why: str) -> Flow:
    """Return the flow of some indices of a dimension; a single channel picked by number is frozen.

    Args:
        trace: what grows.
        flow: of the whole.
        dim: the dimension.
        index: what is taken of it.
        shape: of the result.
        why: reason given for a channel picked by number.
    """
    fields, fixed = [], flow.fixed
    for field in flow.fields:
        if field.shape[dim] > 1:
            field = field.take(index, axis=dim)
            if field.size == 1:
                trace.freeze(field, why)
            if (field < 0).all():  # nothing of the channels: positions, or what was not written yet
                fixed = (*fixed[:dim], bool((field == FIXED).any()), *fixed[dim + 1 :])
        fields.append(trace.simplify(field))
    return Flow(shape, (), fixed, flow.roots).with_fields(fields)


@rule("slice", "slice_copy", "narrow")
def slicing(op: Op, trace: Trace) -> Flow:
    """Take a range of a dimension."""
    flow, dim = trace.flow(op["self"]), op["dim"] % op["self"].ndim
    if op.name == "narrow":
        index = np.arange(op["start"], op["start"] + op["length"])
    else:
        index = np.arange(flow.shape[dim])[op["start"] : op["end"] : op["step"]]
    return part(trace, flow, dim, index, op.shape(), f"picked by number in {op.where}")


@rule("select", "select_copy")
def select(op: Op, trace: Trace) -> Flow:
    """Take one index of a dimension and drop the dimension."""
    flow, dim = trace.flow(op["self"]), op["dim"] % op["self"].ndim
    return _selected(trace, flow, dim, op["index"] % flow.shape[dim], f"picked by number in {op.where}")


def _selected(trace: Trace, flow: Flow, dim: int, index: int, why: str) -> Flow:
    short = (*flow.shape[:dim], 1, *flow.shape[dim + 1 :])
    one = part(trace, flow, dim, np.array([index]), short, why)
    shape = flow.shape[:dim] + flow.shape[dim + 1 :]
    fields = tuple(field.squeeze(dim) for field in one.fields)
    return Flow(shape, fields, flow.fixed[:dim] + flow.fixed[dim + 1 :], flow.roots)


@rule("unbind", "unbind_copy")
def unbind(op: Op, trace: Trace) -> list[Flow]:
    """Take every index of a dimension."""
    flow, dim = trace.flow(op["self"]), op["dim"] % op["self"].ndim
    why = f"picked by number in {op.where}"
    return [_selected(trace, flow, dim, index, why) for index in range(flow.shape[dim])]


@rule("split", "split_with_sizes", "unsafe_split", "unsafe_split_with_sizes", "chunk", "unsafe_chunk", "tensor_split")
def split(op: Op, trace: Trace) -> list[Flow]:
    """Cut a dimension into parts."""
    flow, dim = trace.flow(op["self"]), op["dim"] % op["self"].ndim
    flows, start = [], 0
    for result in op.results:
        index = np.arange(start, start + result.shape[dim])
        start += result.shape[dim]
        flows.append(part(trace, flow, dim, index, tuple(result.shape), f"picked by number in {op.where}"))
    return flows


@rule("flip", "roll")
def moved(op: Op, trace: Trace) -> Flow:
    """Reverse or rotate dimensions."""
    flow = trace.flow(op["self"])
    dims = [dim % len(flow.shape) for dim in op["dims"]]
    if not dims and len(flow.shape) > 1:  # rotated as one long line
        trace.freeze_flow(flow, f"rotated over all dimensions by {op.where}")
        return Flow(flow.shape, (), (True,) * len(flow.shape), flow.roots)
    dims = dims or [0]
    fields = []
    for field in flow.fields:
        axes = [dim for dim in dims if field.shape[dim] > 1]
        if op.name == "flip":
            field = np.flip(field, tuple(axes))
        elif axes:
            shifts = [shift for shift, dim in zip(op["shifts"], dims, strict=True) if dim in axes]
            field = np.roll(field, shifts, axes)
        fields.append(field)
    return Flow(flow.shape, tuple(fields), flow.fixed, flow.roots)


# Joining


@rule("cat", "concat", "concatenate")
def concat(op: Op, trace: Trace) -> Flow:
    """Join tensors along a dimension: their labels stand one after another."""
    tensors = [tensor for tensor in op["tensors"] if not (tensor.ndim == 1 and tensor.shape[0] == 0)]
    flows = [trace.flow(tensor) for tensor in tensors]
    return joined(trace, flows, op["dim"] % len(op.shape()), op.shape(), f"meets a fixed dimension in {op.where}")


@rule("stack")
def stack(op: Op, trace: Trace) -> Flow:
    """Join tensors along a new dimension."""
    dim = op["dim"] % len(op.shape())
    flows = []
    for tensor in op["tensors"]:
        shape = tuple(tensor.shape)
        flows.append(reshaped(trace, trace.flow(tensor), (*shape[:dim], 1, *shape[dim:])))
    return joined(trace, flows, dim, op.shape(), f"meets a fixed dimension in {op.where}")


def joined(trace: Trace, flows: list[Flow], dim: int, shape: Shape, why: str) -> Flow:
    """Return the flow of flows that stand one after another along a dimension.

    Fields over other dimensions alone are tied; a part without labels along the dimension counts as fixed or free.
    """
    thin = [_without_dim(flow, dim, shape) for flow in flows]
    fields = list(trace.merge(thin, thin[0].shape, why).fields)
    if any(flow.over(dim) for flow in flows):
        fields.append(_one_after_another(trace, flows, dim, why))
    fixed = [any(flow.fixed[d] for flow in flows) for d in range(len(shape))]
    fixed[dim] |= len(flows) > 1 and all(flow.constant for flow in flows)  # what one counts, another may not
    return Flow(shape, tuple(fields), tuple(fixed), joined_roots(flows))


def _one_after_another(trace: Trace, flows: list[Flow], dim: int, why: str) -> Ints:
    parts = []
    for flow in flows:
        over = flow.over(dim)
        if not over:
            sizes = [flow.shape[dim] if axis == dim else 1 for axis in range(len(flow.shape))]
            parts.append(np.full(sizes, flow.sentinel(dim)))
            continue
        merged = over[0]
        for other in over[1:]:
            trace.tie(merged, other, why)
        parts.append(merged)
    axes = [max(p.shape[axis] for p in parts) for axis in range(parts[0].ndim)]
    wide = [np.broadcast_to(p, [p.shape[a] if a == dim else n for a, n in enumerate(axes)]) for p in parts]
    return np.concatenate(wide, axis=dim)


@rule("slice_scatter")
def slice_scatter(op: Op, trace: Trace) -> Flow:
    """Write a tensor into a range of another: `x[:, a:b] = y`."""
    dim = op["dim"] % op["self"].ndim
    index = np.arange(op["self"].shape[dim])[op["start"] : op["end"] : op["step"]]
    return scattered(op, trace, trace.flow(op["src"]), dim, index)


@rule("select_scatter")
def select_scatter(op: Op, trace: Trace) -> Flow:
    """Write a tensor into one index of another: `x[:, a] = y`."""
    dim = op["dim"] % op["self"].ndim
    shape = op.shape()
    source = reshaped(trace, trace.flow(op["src"]), (*shape[:dim], 1, *shape[dim + 1 :]))
    return scattered(op, trace, source, dim, np.array([op["index"] % shape[dim]]))


def scattered(op: Op, trace: Trace, source: Flow, dim: int, index: Ints) -> Flow:
    """Return the flow of a base with a source written at some indices of a dimension.

    Args:
        op: the call; its argument `self` is the base.
        trace: what grows.
        source: what is written, of the base's number of dimensions.
        dim: the dimension.
        index: where along it.
    """
    base, why = trace.flow(op["self"]), f"meets a fixed dimension in {op.where}"
    if len(index) == base.shape[dim]:  # all is overwritten: of a constant base nothing is left
        below = replace(base, fixed=(False,) * len(base.shape)) if base.constant else base
        return trace.merge([below, source], op.shape(), why)
    thin = [_without_dim(flow, dim, base.shape) for flow in (base, source)]
    fields = list(trace.merge(thin, thin[0].shape, why).fields)
    if base.over(dim) or source.over(dim):
        fields.append(_written(trace, base, source, dim, index, why))
    fixed = [a or b for a, b in zip(base.fixed, source.fixed, strict=True)]
    fixed[dim] |= base.constant and source.constant  # its values differ from place to place
    return Flow(base.shape, tuple(fields), tuple(fixed), joined_roots([base, source]))


def _without_dim(flow: Flow, dim: int, shape: Shape) -> Flow:
    """Return the fields of a flow that don't vary over a dimension, as a flow of length 1 there."""
    fields = tuple(field for field in flow.fields if field.shape[dim] == 1)
    fixed = (*flow.fixed[:dim], False, *flow.fixed[dim + 1 :])
    return Flow((*shape[:dim], 1, *shape[dim + 1 :]), fields, fixed, flow.roots)


def _written(trace: Trace, base: Flow, source: Flow, dim: int, index: Ints, why: str) -> Ints:
    """Return the labels of a base along a dimension, tied to those written over it where it has any."""
    below = _one_after_another(trace, [base], dim, why)
    above = _one_after_another(trace, [source], dim, why)
    axes = [max(a, b) if axis != dim else a for axis, (a, b) in enumerate(zip(below.shape, above.shape, strict=True))]
    out = np.moveaxis(np.array(np.broadcast_to(below, axes)), dim, 0)
    old = out[index]
    new = np.broadcast_to(np.moveaxis(above, dim, 0), old.shape)
    trace.tie(old, new, why)
    out[index] = np.where(old == FREE, new, old)
    return np.moveaxis(out, 0, dim)
