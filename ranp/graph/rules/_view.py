"""Ops that move elements without changing them: fields move along."""

from dataclasses import replace
from math import gcd
from typing import Any

import numpy as np

from ranp.graph.flow import FIXED, FREE, Flow, Ints, Shape, varying, vector_field
from ranp.graph.origins import Asking, Number, held_in
from ranp.graph.rules._sized import VIEWS, cut, equal_parts, filled, permuted, reshaped, stepped, written
from ranp.graph.rules.op import Op
from ranp.graph.rules.registry import rule
from ranp.graph.tape import Kind, Places
from ranp.graph.ties import joined_roots
from ranp.graph.trace import Trace


@rule(*VIEWS, kind=Kind.VIEW)
def view(op: Op, trace: Trace) -> Flow:
    """Reshape: dimensions merge and split, fields with them."""
    return reshaped(trace, trace.flow(op["self"]), op.shape(), op)


@rule("permute", "permute_copy", kind=Kind.VIEW)
def permute(op: Op, trace: Trace) -> Flow:
    """Reorder dimensions."""
    return permuted(trace.flow(op["self"]), [dim % op["self"].ndim for dim in op["dims"]])


@rule("transpose", "transpose_copy", "t", "t_copy", "numpy_T", "swapaxes", kind=Kind.VIEW)
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


@rule("as_strided", "as_strided_copy", kind=Kind.VIEW)
def as_strided(op: Op, trace: Trace) -> Flow:
    """Other strides: the same elements where they are those of the tensor, as a pool gives its memory format back.

    Anything else picks elements by number.
    """
    flow, tensor = trace.flow(op["self"]), op["self"]
    offset = op["storage_offset"]
    same = all(n < 2 or a == b for n, a, b in zip(op.shape(), tensor.stride(), op["stride"], strict=False))
    if op.shape() == flow.shape and same and offset in (None, tensor.storage_offset()):
        return flow
    trace.freeze_flow(flow, f"picked by number in {op.where}")
    return Flow(op.shape(), (), (True,) * len(op.shape()), flow.roots)


@rule("squeeze", "unsqueeze", "squeeze_copy", "unsqueeze_copy", kind=Kind.VIEW)
def squeeze(op: Op, trace: Trace) -> Flow:
    """Remove or add dimensions of length 1; channels of a dimension that would go with a single one keep two."""
    if op.name.startswith("squeeze"):
        flow, given = trace.flow(op["self"]), op.arguments.get("dim")
        dims = range(len(flow.shape)) if given is None else given if isinstance(given, list | tuple) else [given]
        for dim in dims:
            trace.wide += flow.over(dim % max(len(flow.shape), 1)) if flow.shape else []
    return reshaped(trace, trace.flow(op["self"]), op.shape())


@rule("expand", "expand_copy", "broadcast_to", kind=Kind.VIEW)
def expand(op: Op, trace: Trace) -> Flow:
    """Repeat dimensions of length 1 without copying; how often follows from what the result meets."""
    flow, shape = trace.flow(op["self"]), op.shape()
    extra = len(shape) - len(flow.shape)
    fields = tuple(field.reshape((1,) * extra + field.shape) for field in flow.fields)
    fixed = tuple(
        dim >= extra and flow.fixed[dim - extra] and flow.shape[dim - extra] == size for dim, size in enumerate(shape)
    )
    return _spread(op, trace, Flow(shape, fields, fixed, flow.roots), (1,) * extra + flow.shape)


def _spread(op: Op, trace: Trace, flow: Flow, old: Shape) -> Flow:
    """Return a flow whose dimensions of length 1 were repeated so often as a marked number says."""
    asked = op.asked.sizes(len(old)) if op.asked is not None and op.asked.name in ("expand", "repeat", "tile") else None
    if asked is None:
        return flow
    return filled(trace, flow, [n if isinstance(n, Number) and old[d] == 1 else None for d, n in enumerate(asked)])


@rule("repeat", "tile", kind=Kind.MOVE)
def repeat(op: Op, trace: Trace) -> Flow:
    """Repeat dimensions, as instance norm does with its weight for each sample.

    Filters that are repeated for as many channels as a tensor has stay; each repetition belongs to a channel.
    """
    flow, shape = trace.flow(op["self"]), op.shape()
    asked = op.asked.sizes(len(shape)) if op.asked is not None and op.asked.name == "repeat" else None
    for dim, times in enumerate(asked if asked is not None and flow.roots is not None else ()):
        own = dim - len(shape) + len(flow.shape)
        if own >= 0 and flow.shape[own] > 1 and isinstance(times, Number) and trace.labels_read(times) is not None:
            trace.freeze_flow(flow, f"repeated for every channel in {op.where}", [own])
            labels = trace.shadow(int(times))
            trace.follow(labels, times)
            field = vector_field(np.repeat(labels, flow.shape[own]), dim, len(shape))
            return Flow(shape, (field,), tuple(axis != dim for axis in range(len(shape))), flow.roots)
    extra = len(shape) - len(flow.shape)
    old = (1,) * extra + flow.shape
    fields = []
    for field in flow.fields:
        field = field.reshape((1,) * extra + field.shape)
        fields.append(np.tile(field, [shape[d] // old[d] if field.shape[d] > 1 else 1 for d in range(len(shape))]))
    fixed = tuple(each and size > 1 for each, size in zip((True,) * extra + flow.fixed, old, strict=True))
    return _spread(op, trace, Flow(shape, tuple(fields), fixed, flow.roots), old)


@rule("repeat_interleave", kind=Kind.MOVE)
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


def _place_of_slice(arguments: dict[str, Any], shape: Shape) -> Places:
    dim = arguments["dim"] % len(shape)
    return {dim: slice(arguments["start"], arguments["end"], arguments["step"]).indices(shape[dim])}


def _place_of_narrow(arguments: dict[str, Any], shape: Shape) -> Places:
    return {arguments["dim"] % len(shape): (arguments["start"], arguments["length"])}


def _place_of_select(arguments: dict[str, Any], shape: Shape) -> Places:
    dim = arguments["dim"] % len(shape)
    return {dim: (arguments["index"] % shape[dim],)}


def _place_of_roll(arguments: dict[str, Any], shape: Shape) -> Places:
    pairs = zip(arguments["dims"], arguments["shifts"], strict=False)
    return {dim % len(shape): (shift % shape[dim],) for dim, shift in pairs}


@rule("narrow", kind=Kind.VIEW, places=_place_of_narrow)
def narrow(op: Op, trace: Trace) -> Flow:
    """Take so many of a dimension from a place on."""
    return _sliced(op, trace, np.arange(op["start"], op["start"] + op["length"]))


@rule("slice", "slice_copy", kind=Kind.VIEW, places=_place_of_slice)
def slicing(op: Op, trace: Trace) -> Flow:
    """Take a range of a dimension."""
    return _sliced(op, trace, np.arange(op["self"].shape[op["dim"]])[op["start"] : op["end"] : op["step"]])


def _sliced(op: Op, trace: Trace, index: Ints) -> Flow:
    flow, dim = trace.flow(op["self"]), op["dim"] % op["self"].ndim
    if flow.over(dim) and len(index):
        if op.arguments.get("step", 1) > 1:
            stepped(op, trace, flow, dim, op["step"])
        else:
            for place, asked in _bounds(op, flow.shape[dim]):
                cut(op, trace, flow, dim, place, asked)
    return part(trace, flow, dim, index, op.shape(), f"picked by number in {op.where}")


def _bounds(op: Op, length: int) -> list[tuple[int, Asking]]:
    """Return where a range of a dimension begins and ends, with the places as they stand in the code."""
    call = op.asked
    if call is None:
        return []
    if call.name == "narrow":
        start, count = call.argument(2, "start"), call.argument(3, "length")
        if not isinstance(start, int) or not isinstance(count, int):
            return []
        return [(each % (length + 1), call.told(each)) for each in (start, start + count)]
    if call.name not in ("__getitem__", "__setitem__"):
        return []
    first, last, _ = slice(op["start"], op["end"]).indices(length)
    asked = call.slice(op["dim"] % op["self"].ndim, (first, last), length)
    return [(first, asked[0]), (last, asked[1])]


@rule("select", "select_copy", kind=Kind.VIEW, places=_place_of_select)
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


@rule("unbind", "unbind_copy", kind=Kind.VIEW)
def unbind(op: Op, trace: Trace) -> list[Flow]:
    """Take every index of a dimension."""
    flow, dim = trace.flow(op["self"]), op["dim"] % op["self"].ndim
    why = f"picked by number in {op.where}"
    return [_selected(trace, flow, dim, index, why) for index in range(flow.shape[dim])]


@rule(
    *("split", "split_with_sizes", "unsafe_split", "unsafe_split_with_sizes", "chunk", "unsafe_chunk", "tensor_split"),
    kind=Kind.VIEW,
)
def split(op: Op, trace: Trace) -> list[Flow]:
    """Cut a dimension into parts."""
    flow, dim = trace.flow(op["self"]), op["dim"] % op["self"].ndim
    _split_as_asked(op, trace, flow, dim)
    flows, start = [], 0
    for result in op.results:
        index = np.arange(start, start + result.shape[dim])
        start += result.shape[dim]
        flows.append(part(trace, flow, dim, index, tuple(result.shape), f"picked by number in {op.where}"))
    return flows


def _split_as_asked(op: Op, trace: Trace, flow: Flow, dim: int) -> None:
    """Hold the sizes of parts: of so many equal ones they keep equally many, otherwise each what is asked for it."""
    sizes, over = [result.shape[dim] for result in op.results], flow.over(dim)
    if not over or len(sizes) < 2:
        return
    call = op.asked
    asked = call.argument(1, "split_size_or_sections") if call is not None and call.name != "chunk" else None
    if call is not None and call.name in ("split", "split_with_sizes") and asked is None:
        asked = call.kwargs.get("split_size", call.kwargs.get("split_sizes"))
    single = isinstance(asked, int)
    numbers = [asked] * len(sizes) if single else list(asked) if isinstance(asked, list | tuple) else []
    told = [call.told(each) for each in numbers] if call is not None and len(numbers) == len(sizes) else []
    if (single or not told) and (told[:1] == [None] or not told or isinstance(told[0], Number)):
        for field in over:
            if len(set(sizes)) == 1:
                equal_parts(trace, field, dim, sizes[0])
            elif not told:
                trace.freeze(field, f"cut into unequal parts in {op.where}")
    start = 0
    for size, number in zip(sizes, told[:1] if single and isinstance(told[0], Number) else told, strict=False):
        _hold_part(op, trace, flow, dim, range(start, start + size), number)
        start += size


def _hold_part(op: Op, trace: Trace, flow: Flow, dim: int, part: range, asked: Asking) -> None:
    for field in flow.over(dim):
        labels = field.take(part, axis=dim)
        if isinstance(asked, Number):
            if varying(field) == (dim,):
                trace.follow(labels.ravel(), asked)
            trace.some.append(labels)
        elif asked is not None:
            trace.freeze(labels, written(op))


@rule("flip", kind=Kind.MOVE)
def flipped(op: Op, trace: Trace) -> Flow:
    """Reverse dimensions."""
    flow = trace.flow(op["self"])
    dims = [dim % len(flow.shape) for dim in op["dims"]]
    fields = tuple(np.flip(field, tuple(dim for dim in dims if field.shape[dim] > 1)) for field in flow.fields)
    return Flow(flow.shape, fields, flow.fixed, flow.roots)


@rule("roll", kind=Kind.MOVE, places=_place_of_roll)
def rolled(op: Op, trace: Trace) -> Flow:
    """Rotate dimensions."""
    flow = trace.flow(op["self"])
    dims = [dim % len(flow.shape) for dim in op["dims"]]
    if not dims and len(flow.shape) > 1:  # rotated as one long line
        trace.freeze_flow(flow, f"rotated over all dimensions by {op.where}")
        return Flow(flow.shape, (), (True,) * len(flow.shape), flow.roots)
    dims = dims or [0]
    fields = []
    for field in flow.fields:
        axes = [dim for dim in dims if field.shape[dim] > 1]
        if axes:
            shifts = [shift for shift, dim in zip(op["shifts"], dims, strict=True) if dim in axes]
            for axis, shift in zip(axes, shifts, strict=True):
                _rolled(op, trace, field, axis, shift % field.shape[axis])
            field = np.roll(field, shifts, axes)
        fields.append(field)
    return Flow(flow.shape, tuple(fields), flow.fixed, flow.roots)


def _rolled(op: Op, trace: Trace, field: Ints, axis: int, shift: int) -> None:
    """Hold how far channels are rotated: of a share of them that was read, else those stay that change their end."""
    given = op.asked.argument(1, "shifts") if op.asked is not None else None
    numbers = given if isinstance(given, list | tuple) else [given]
    asked = op.asked.told(numbers[0]) if op.asked is not None and len(numbers) == 1 else None
    if shift and isinstance(asked, Number) and not held_in(asked):
        equal_parts(trace, field, axis, gcd(shift, field.shape[axis]))
    elif shift:
        back = isinstance(numbers[0], int) and numbers[0] < 0
        ends = range(field.shape[axis] - shift) if back else range(field.shape[axis] - shift, field.shape[axis])
        trace.freeze(field.take(ends, axis=axis), written(op))


# Joining


@rule("cat", "concat", "concatenate", kind=Kind.MOVE)
def concat(op: Op, trace: Trace) -> Flow:
    """Join tensors along a dimension: their labels stand one after another."""
    tensors = [tensor for tensor in op["tensors"] if not (tensor.ndim == 1 and tensor.shape[0] == 0)]
    flows = [trace.flow(tensor) for tensor in tensors]
    return joined(trace, flows, op["dim"] % len(op.shape()), op.shape(), f"meets a fixed dimension in {op.where}")


@rule("stack", kind=Kind.MOVE)
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
    thin = [flow.thin(dim) for flow in flows]
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


@rule("slice_scatter", kind=Kind.WRITE, places=_place_of_slice)
def slice_scatter(op: Op, trace: Trace) -> Flow:
    """Write a tensor into a range of another: `x[:, a:b] = y`."""
    dim = op["dim"] % op["self"].ndim
    index = np.arange(op["self"].shape[dim])[op["start"] : op["end"] : op["step"]]
    return scattered(op, trace, trace.flow(op["src"]), dim, index)


@rule("select_scatter", kind=Kind.WRITE, places=_place_of_select)
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
    thin = [flow.thin(dim) for flow in (base, source)]
    fields = list(trace.merge(thin, thin[0].shape, why).fields)
    if base.over(dim) or source.over(dim):
        fields.append(_written(trace, base, source, dim, index, why))
    fixed = [a or b for a, b in zip(base.fixed, source.fixed, strict=True)]
    fixed[dim] |= base.constant and source.constant  # its values differ from place to place
    return Flow(base.shape, tuple(fields), tuple(fixed), joined_roots([base, source]))


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
