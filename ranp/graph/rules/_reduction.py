"""Ops that reduce or scan dimensions. A reduction over channels is a statistic: it is taken over the kept ones."""

from dataclasses import replace

import torch

from ranp.graph.flow import Flow, Ints, varying
from ranp.graph.rules.op import Op
from ranp.graph.rules.registry import rule
from ranp.graph.tape import Kind
from ranp.graph.trace import Trace

COUNTING = {"argmax", "argmin", "median", "nanmedian", "prod", "any", "all", "count_nonzero", "aminmax"}
LARGEST = {"amax", "amin", "max", "min", "logsumexp"}
ZERO_SAFE = {"sum", "norm", "linalg_vector_norm"}


@rule("var", "std", "var_mean", "std_mean", kind=Kind.VARIANCE)
def variance(op: Op, trace: Trace) -> list[Flow]:
    """Reduce to a deviation."""
    return reduce(op, trace)


@rule("sum", "nansum", "norm", "linalg_vector_norm", "logsumexp", "prod", "count_nonzero", kind=Kind.SUM)
def total(op: Op, trace: Trace) -> list[Flow]:
    """Reduce to what tells how many there were."""
    return reduce(op, trace)


@rule(
    *("mean", "amax", "amin", "max", "min", *sorted(COUNTING - {"prod", "count_nonzero"})),
    kind=Kind.REDUCTION,
)
def reduce(op: Op, trace: Trace) -> list[Flow]:
    """Drop the reduced dimensions; a statistic over channels of features is remembered as mixing.

    Channels are frozen where the result says which of them it found (argmax). A field that varies over kept dimensions
    too (group norm by hand) is tied along those. A sum or a norm of a parameter is unchanged by entries that are zero,
    so that weight norm over what a layer reads stays exact; other statistics of a parameter freeze what they reduce.
    """
    if op.name in ("max", "min") and isinstance(op.arguments.get("other"), torch.Tensor):
        why = f"meets a fixed dimension in {op.where}"
        return [trace.merge([trace.flow(t) for t in op.tensors], op.shape(), why)]
    flow = trace.flow(op["self"])
    dims = _dims(op, len(flow.shape))
    why = f"reduced over channels by {op.where}"
    if flow.roots is None and op.name not in COUNTING:
        flow = _tied_parts(trace, flow, dims, op)
    over = [field for field in flow.fields if set(dims) & set(varying(field))]
    if over and flow.roots is None and op.name not in COUNTING:
        kept = [dim for dim in range(len(flow.shape)) if dim not in dims]
        trace.settle(flow.with_fields(over), kept, why)
        flow = flow.apart(dims)
        trace.mix(dims)
        if op.name in ("var", "std", "var_mean", "std_mean") and op.arguments.get("correction", 1) != 0:
            trace.wide += over  # of one channel it is no number
    elif flow.roots is None or op.name not in ZERO_SAFE:
        trace.freeze_flow(flow, why, dims)
    else:
        trace.sum_parameter(flow, dims, f"statistic of a parameter in {op.where}")
    flows = [_reduced(flow, dims, tuple(result.shape)) for result in op.results]
    if over and op.name in ("max", "min") and len(flows) == 2:
        flows[1] = replace(flows[1], picks=tuple(over), why=f"numbered by {op.where}")
    return flows


def _tied_parts(trace: Trace, flow: Flow, dims: list[int], op: Op) -> Flow:
    """Tie the parts of channels that are reduced to one another: maxout, and sums of whole blocks of channels.

    A statistic inside each block (group norm by hand) is left as it is.
    """
    fields: list[Ints] = []
    for field in flow.fields:
        inner = [axis for axis in varying(field) if axis in dims]
        outer = [axis for axis in varying(field) if axis not in dims]
        if inner and outer and (op.name in LARGEST or max(inner) < min(outer)):
            fields += trace.settle(flow.with_fields([field]), inner, f"reduced over channels by {op.where}").fields
        else:
            fields.append(field)
    return flow.with_fields(fields)


def _dims(op: Op, ndim: int) -> list[int]:
    dim = op.arguments.get("dim")
    if dim is None or dim == []:
        return list(range(ndim))
    return [axis % max(ndim, 1) for axis in (dim if isinstance(dim, list | tuple) else [dim])]


def _reduced(flow: Flow, dims: list[int], shape: tuple[int, ...]) -> Flow:
    left = [dim for dim in range(len(flow.shape)) if len(shape) == len(flow.shape) or dim not in dims]
    fields = tuple(field.reshape([field.shape[dim] for dim in left]) for field in flow.apart(dims).fields)
    return Flow(shape, fields, tuple(flow.fixed[dim] for dim in left), flow.roots)


@rule(
    *("cumsum", "cumprod", "cummax", "cummin", "logcumsumexp", "sort", "topk", "kthvalue", "argsort", "mode", "renorm"),
    kind=Kind.REDUCTION,
)
def along(op: Op, trace: Trace) -> list[Flow]:
    """Scan or sort one dimension: channels there are frozen, the rest passes."""
    flow = trace.flow(op["self"])
    dim = (op.arguments.get("dim") or 0) % max(len(flow.shape), 1)
    trace.freeze_flow(flow, f"scanned over channels by {op.where}", [dim])
    same = flow.apart([dim]).fixing([dim])
    return [replace(same, shape=tuple(r.shape)) for r in op.results]


@rule("_weight_norm_interface", "_weight_norm", kind=Kind.REDUCTION, results=1)
def weight_norm(op: Op, trace: Trace) -> list[Flow]:
    """`g v / |v|`: the labels of v, those of g tied along the dimension that is kept."""
    why = f"meets a fixed dimension in {op.where}"
    both = trace.merge([trace.flow(op["v"]), trace.flow(op["g"])], op.shape(), why)
    others = [dim for dim in range(len(both.shape)) if dim != op["dim"] % len(both.shape)]
    trace.sum_parameter(both, others, f"statistic of a parameter in {op.where}")
    return [both, *(trace.flow(op["g"]) for _ in op.results[1:])]
