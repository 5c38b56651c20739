"""Ops that read or write by index tensors: channels there are frozen, other dimensions pass."""

from dataclasses import replace

import torch

from ranp.graph.flow import Flow, activation
from ranp.graph.rules.registry import Op, rule
from ranp.graph.trace import Trace


def _passing(trace: Trace, flow: Flow, dims: list[int], why: str) -> Flow:
    trace.freeze_flow(flow, why, dims)
    return flow.with_fields([f for f in flow.fields if all(f.shape[dim] == 1 for dim in dims)])


@rule("embedding")
def embedding(op: Op, trace: Trace) -> Flow:
    """Rows of a table (V, C) by number: rows are frozen, columns pass."""
    table = _passing(trace, trace.flow(op["weight"]), [0], f"rows of a table in {op.where}")
    shape = op.shape()
    fields = [f.reshape((1,) * (len(shape) - 1) + (-1,)) for f in table.fields]
    return activation(shape, fields)


@rule("index_select", "gather", "take_along_dim")
def pick(op: Op, trace: Trace) -> Flow:
    """Pick indices of one dimension."""
    flow = trace.flow(op["self"])
    dim = op["dim"] % max(len(flow.shape), 1)
    passing = _passing(trace, flow, [dim], f"picked by number in {op.where}")
    return Flow(op.shape(), passing.fields, (*flow.fixed[:dim], True, *flow.fixed[dim + 1 :]), flow.roots)


@rule("index", "_unsafe_index")
def index(op: Op, trace: Trace) -> Flow:
    """`x[..., i, j, ...]` with index tensors: indexed dimensions are frozen, those around them pass."""
    flow = trace.flow(op["self"])
    dims = [dim for dim, each in enumerate(op["indices"]) if each is not None]
    why = f"picked by number in {op.where}"
    masks = any(op["indices"][dim].dtype in (torch.bool, torch.uint8) for dim in dims)
    if masks or dims != list(range(dims[0], dims[-1] + 1)):
        trace.freeze_flow(flow, why)
        return activation(op.shape(), [])
    passing = _passing(trace, flow, dims, why)
    new = len(op.shape()) - len(flow.shape) + len(dims)
    start, stop = dims[0], dims[-1] + 1
    fields = [f.reshape((*f.shape[:start], *(1,) * new, *f.shape[stop:])) for f in passing.fields]
    fixed = (*flow.fixed[:start], *(True,) * new, *flow.fixed[stop:])
    return Flow(op.shape(), tuple(fields), fixed, flow.roots)


@rule("index_add", "index_copy", "index_fill", "scatter", "scatter_add", "scatter_reduce", "index_reduce")
def write(op: Op, trace: Trace) -> Flow:
    """Write or add along one dimension by number: that dimension is frozen, the others are tied."""
    why = f"written by number in {op.where}"
    flows = [trace.flow(op["self"])]
    source = op.arguments.get("source", op.arguments.get("src"))
    if isinstance(source, torch.Tensor):
        flows.append(trace.flow(source))
    dim = op["dim"] % max(len(flows[0].shape), 1)
    shape = (*flows[0].shape[:dim], 1, *flows[0].shape[dim + 1 :])
    thin = [_without(trace, flow, dim, why) for flow in flows]
    merged = trace.merge(thin, shape, f"meets a fixed dimension in {op.where}")
    return replace(merged, shape=op.shape(), fixed=(*merged.fixed[:dim], True, *merged.fixed[dim + 1 :]))


def _without(trace: Trace, flow: Flow, dim: int, why: str) -> Flow:
    passing = _passing(trace, flow, [dim], why)
    shape = (*flow.shape[:dim], 1, *flow.shape[dim + 1 :])
    return replace(passing, shape=shape, fixed=(*flow.fixed[:dim], False, *flow.fixed[dim + 1 :]))
