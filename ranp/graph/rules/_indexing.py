"""Ops that read or write by index tensors: channels there are frozen, other dimensions pass."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from ranp.graph.flow import Flow, activation
from ranp.graph.rules._sized import reshaped
from ranp.graph.rules.op import Op
from ranp.graph.rules.registry import rule
from ranp.graph.tape import Kind
from ranp.graph.ties import padded
from ranp.graph.trace import Trace


def _passing(trace: Trace, flow: Flow, dims: list[int], why: str) -> Flow:
    trace.freeze_flow(flow, why, dims)
    return flow.apart(dims)


@rule("embedding", kind=Kind.MOVE)
def embedding(op: Op, trace: Trace) -> Flow:
    """Rows of a table (V, C) by number: rows are frozen, columns pass."""
    table = _passing(trace, trace.flow(op["weight"]), [0], f"rows of a table in {op.where}")
    shape = op.shape()
    fields = [f.reshape((1,) * (len(shape) - 1) + (-1,)) for f in table.fields]
    return activation(shape, fields)


@rule("index_select", "gather", "take_along_dim", kind=Kind.MOVE)
def pick(op: Op, trace: Trace) -> Flow:
    """Pick indices of one dimension."""
    flow = trace.flow(op["self"])
    dim = op["dim"] % max(len(flow.shape), 1)
    passing = _passing(trace, flow, [dim], f"picked by number in {op.where}").fixing([dim])
    return Flow(op.shape(), passing.fields, passing.fixed, flow.roots)


@rule("index", "_unsafe_index", kind=Kind.MOVE)
def index(op: Op, trace: Trace) -> Flow:
    """`x[..., i, j, ...]` with index tensors or masks: indexed dimensions are frozen, those around them pass."""
    flow, dims, why = trace.flow(op["self"]), _indexed(op), f"picked by number in {op.where}"
    _freeze_indices(op, trace, why)
    if not _in_a_row(dims):
        trace.freeze_flow(flow, why)
        return activation(op.shape(), [])
    passing = _passing(trace, flow, dims, why)
    new = len(op.shape()) - len(flow.shape) + len(dims)
    fields = [field.reshape(_moved(field.shape, dims, new)) for field in passing.fields]
    fixed = _moved(flow.fixed, dims, new, one=True)
    return Flow(op.shape(), tuple(fields), fixed, flow.roots)


@rule("index_put", "_unsafe_index_put", kind=Kind.MOVE)
def index_put(op: Op, trace: Trace) -> Flow:
    """`x[..., i, ...] = y`: what is written by number stays; a constant written by a mask acts on each element."""
    flow, values, dims = trace.flow(op["self"]), trace.flow(op["values"]), _indexed(op)
    why = f"meets a fixed dimension in {op.where}"
    masks = [each for each in op["indices"] if each is not None]
    if op["values"].numel() == 1 and len(masks) == 1 and _is_mask(masks[0]):
        shape = tuple(size if dim in dims else 1 for dim, size in enumerate(flow.shape))
        placed = reshaped(trace, trace.flow(masks[0]), shape)
        return trace.merge([flow, placed, values], flow.shape, why)
    picked = f"written by number in {op.where}"
    _freeze_indices(op, trace, picked)
    if not _in_a_row(dims):
        trace.freeze_flow(flow, picked)
        trace.freeze_flow(values, picked)
        return activation(op.shape(), [])
    below, written = _passing(trace, flow, dims, picked).thin(*dims), _written(op, trace, values, dims, picked)
    return replace(trace.merge([below, written], below.shape, why).fixing(dims), shape=flow.shape)


def _is_mask(index: torch.Tensor) -> bool:
    return index.dtype in (torch.bool, torch.uint8)


def _indexed(op: Op) -> list[int]:
    """Return the dimensions that index tensors stand for; a mask stands for as many as it has."""
    dims: list[int] = []
    dim = 0
    for index in op["indices"]:
        count = index.ndim if index is not None and _is_mask(index) else 1
        dims += range(dim, dim + count) if index is not None else []
        dim += count
    return dims


def _in_a_row(dims: list[int]) -> bool:
    return dims == list(range(dims[0], dims[-1] + 1))


def _freeze_indices(op: Op, trace: Trace, why: str) -> None:
    for index in op["indices"]:
        if index is not None:
            trace.freeze_flow(trace.flow(index), why)


def _moved(values: Sequence[Any], dims: list[int], new: int, one: Any = 1) -> tuple[Any, ...]:
    """Return what belongs to each dimension with others in the place of some in a row."""
    return (*values[: dims[0]], *(one,) * new, *values[dims[-1] + 1 :])


def _written(op: Op, trace: Trace, values: Flow, dims: list[int], why: str) -> Flow:
    """Return values written at indices as a flow of the whole's dimensions, of length 1 where those are indexed."""
    indices = [each for each in op["indices"] if each is not None]
    new = max(1 if _is_mask(each) else each.ndim for each in indices)  # at least one: zero-dim indices are lifted
    flow = padded(values, op["self"].ndim - len(dims) + new)
    inner = list(range(dims[0], dims[0] + new))
    passing = _passing(trace, flow, inner, why)
    fields = tuple(each.reshape(_moved(each.shape, inner, len(dims))) for each in passing.fields)
    shape, fixed = _moved(flow.shape, inner, len(dims)), _moved(flow.fixed, inner, len(dims), one=False)
    return Flow(shape, fields, fixed, flow.roots)


@rule("masked_select", kind=Kind.MOVE)
def chosen(op: Op, trace: Trace) -> Flow:
    """Pick elements by a mask: which they were is lost."""
    for tensor in op.tensors:
        trace.freeze_flow(trace.flow(tensor), f"picked by number in {op.where}")
    return activation(op.shape(), [])


@rule("index_add", "scatter_add", "scatter_reduce", "index_reduce", kind=Kind.ELEMENTWISE)
def add(op: Op, trace: Trace) -> Flow:
    """Add along one dimension by number."""
    return write(op, trace)


@rule("index_copy", "index_fill", "scatter", kind=Kind.MOVE)
def write(op: Op, trace: Trace) -> Flow:
    """Write or add along one dimension by number: that dimension is frozen, the others are tied."""
    why = f"written by number in {op.where}"
    flows = [trace.flow(op["self"])]
    source = op.arguments.get("source", op.arguments.get("src"))
    if isinstance(source, torch.Tensor):
        flows.append(trace.flow(source))
    dim = op["dim"] % max(len(flows[0].shape), 1)
    thin = [_passing(trace, flow, [dim], why).thin(dim) for flow in flows]
    merged = trace.merge(thin, thin[0].shape, f"meets a fixed dimension in {op.where}")
    return replace(merged.fixing([dim]), shape=op.shape())
