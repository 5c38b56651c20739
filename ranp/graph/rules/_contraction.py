"""Ops that sum over channels: the weight's input labels are tied to the input's, its output labels start new ones."""

import numpy as np
import torch

from ranp.graph.flow import FREE, Flow, Ints, activation, varying, vector_field
from ranp.graph.rules._sized import hold
from ranp.graph.rules.op import Op
from ranp.graph.rules.registry import rule
from ranp.graph.tape import Kind, Layer
from ranp.graph.ties import joined_roots, padded
from ranp.graph.trace import Trace


@rule("convolution", "_convolution", "convolution_overrideable", kind=Kind.CONVOLUTION)
def convolution(op: Op, trace: Trace) -> Flow:
    """Tie input channels to the weight's input labels; outputs carry the weight's output labels.

    In a depthwise convolution each input channel is tied to its outputs. A grouped convolution keeps its number of
    groups, so each group keeps equally many of its inputs and of its outputs.
    """
    flow, weight = trace.flow(op["input"]), op["weight"]
    groups, transposed = op["groups"], op["transposed"]
    spatial = range(2, len(flow.shape))
    flow = trace.settle(flow, spatial, f"position in {op.where}")
    inputs = trace.channels(flow, 1, f"meets a fixed dimension in {op.where}")
    shape = tuple(weight.shape)
    depthwise = 1 < groups == len(inputs)
    if depthwise and op.asked is not None:
        hold(op, trace, flow, 1, op.asked.told(op.asked.argument(6, "groups")))
    if trace.is_parameter(weight):
        weight_flow = Flow(shape, (), (True,) * len(shape), frozenset([trace.names[id(weight)]]))
        outputs = _leaf_outputs(op, trace, transposed, groups, depthwise)
        reads = None if depthwise else _leaf_inputs(op, trace, transposed, groups)
    else:
        weight_flow = trace.settle(trace.flow(weight), range(2, len(shape)), f"kernel position in {op.where}")
        outputs, reads = _computed_labels(op, trace, weight_flow, transposed, groups)
    why = f"network input or fixed dimension read by {op.where}"
    if weight_flow.roots is None:
        trace.freeze(inputs, f"weight computed from features in {op.where}")
        trace.freeze_flow(weight_flow, f"weight computed from features in {op.where}")
    elif depthwise:
        trace.tie(inputs[:, None], outputs.reshape(groups, -1), why)
    elif reads is not None:
        blocks = inputs.reshape(groups, -1)
        _contract(trace, blocks, reads, why, weight_flow)
        if groups > 1:
            trace.balance.extend([blocks, outputs.reshape(groups, -1)])
    name = None
    if (outputs != FREE).any():
        name = _add_layer(op, trace, weight, outputs, depthwise, transposed, groups, weight_flow)
    elif depthwise:  # one constant filter for all channels
        outputs = np.repeat(inputs, len(outputs) // groups)
    if op["bias"] is not None:
        trace.tie(outputs, trace.channels(trace.flow(op["bias"]), 0, why), why)
    batch = [f for f in flow.fields if f.shape[0] > 1 and f.shape[1] == 1]
    field = vector_field(outputs, 1, len(flow.shape))
    return activation(op.shape(), [*batch, field] if (outputs >= 0).any() else batch, layer=name)


def _leaf_outputs(op: Op, trace: Trace, transposed: bool, groups: int, depthwise: bool) -> Ints:
    weight = op["weight"]
    if not transposed:
        return trace.axis(weight, 0)
    if depthwise:
        return np.repeat(trace.axis(weight, 0), weight.shape[1])
    if groups == 1:
        return trace.axis(weight, 1)
    # (I, O / groups): output channel o of group j is column o of the rows of group j.
    return trace.grouped_inputs(weight, groups).reshape(-1)


def _leaf_inputs(op: Op, trace: Trace, transposed: bool, groups: int) -> Ints:
    weight = op["weight"]
    if transposed:
        return trace.axis(weight, 0).reshape(groups, -1)
    if groups == 1:
        return trace.axis(weight, 1).reshape(1, -1)
    return trace.grouped_inputs(weight, groups)


def _computed_labels(op: Op, trace: Trace, weight: Flow, transposed: bool, groups: int) -> tuple[Ints, Ints]:
    """Return output labels (O,) and input labels (groups, I / groups) of a weight computed from parameters.

    Its second dimension is shared by all groups, so that in a grouped convolution their labels are tied.
    """
    why = f"meets a fixed dimension in {op.where}"
    first, second = (trace.channels(weight, dim, why) for dim in (0, 1))
    if transposed:
        return np.tile(second, groups), first.reshape(groups, -1)
    return first, np.tile(second, (groups, 1))


def _contract(trace: Trace, inputs: Ints, reads: Ints, why: str, weight: Flow) -> None:
    """Tie what is read to what reads it; what a constant reads stays, because masking can't zero it."""
    trace.consume(weight, reads)
    trace.tie(inputs, reads, why)
    summed = np.broadcast_to(inputs, reads.shape)[(reads == FREE) | weight.constant]
    trace.freeze(summed, why.replace("network input or fixed dimension read", "summed with constant weights"))


def _add_layer(
    op: Op, trace: Trace, weight: object, outputs: Ints, depthwise: bool, transposed: bool, groups: int, flow: Flow
) -> str | None:
    root = weight_root(trace, flow)
    if root is None:
        return None
    kind = "depthwise" if depthwise else "transposed" if transposed else "conv"
    bias = _bias_root(trace, op["bias"]) if op["bias"] is not None else None
    trace.add_layer(Layer(root, op.module, kind, 1 if transposed else 0, groups, outputs, bias))
    return root


def _bias_root(trace: Trace, bias: torch.Tensor) -> str | None:
    """Return the parameter a bias is, or was made of element by element: one that autocast made shorter."""
    if trace.is_parameter(bias):
        return trace.names[id(bias)]
    flow = trace.flow(bias)
    root = next(iter(flow.roots)) if flow.roots and len(flow.roots) == 1 else None
    return root if root is not None and trace.shapes.get(root) == flow.shape else None


def weight_root(trace: Trace, weight: Flow) -> str | None:
    """Return the parameter a weight stands for: itself, or the largest it was computed from."""
    if not weight.roots:
        return None
    shapes = {name: trace.shapes.get(name, (1,)) for name in weight.roots}
    sizes = {name: (int(np.prod(shape)), len(shape)) for name, shape in shapes.items()}
    return max(sorted(sizes), key=lambda name: sizes[name])


# Matrix products


@rule("mm", "bmm", kind=Kind.PRODUCT, left="self")
def product(op: Op, trace: Trace) -> Flow:
    """Multiply matrices (..., N, K) and (..., K, M)."""
    return _product(op, trace, op["self"], op["mat2"], None)


@rule("addmm", kind=Kind.PRODUCT, left="mat1")
def product_plus(op: Op, trace: Trace) -> Flow:
    """Multiply matrices and add a third."""
    return _product(op, trace, op["mat1"], op["mat2"], op["self"])


@rule("baddbmm", kind=Kind.PRODUCT, left="batch1")
def batch_plus(op: Op, trace: Trace) -> Flow:
    """Multiply batches of matrices and add another."""
    return _product(op, trace, op["batch1"], op["batch2"], op["self"])


@rule("addmv", kind=Kind.PRODUCT, left="mat")
def vector_product_plus(op: Op, trace: Trace) -> Flow:
    """Multiply a matrix by a vector and add another."""
    out = vector_product(op, trace)
    return trace.merge([trace.flow(op["self"]), out], op.shape(), f"meets a fixed dimension in {op.where}")


@rule("mv", "dot", "vdot", kind=Kind.PRODUCT, left="self")
def vector_product(op: Op, trace: Trace) -> Flow:
    """Multiply a matrix or vector by a vector."""
    left = trace.flow(op["mat"] if op.name == "addmv" else op["self"])
    right = trace.flow(op["vec" if op.name in ("mv", "addmv") else "tensor" if op.name == "dot" else "other"])
    _sum_over(op, trace, left, right, len(left.shape) - 1, 0)
    fields = [field.reshape(-1) for field in left.apart([len(left.shape) - 1]).fields]
    return activation(op.shape(), fields, roots=joined_roots([left, right]))


@rule("linear", kind=Kind.PRODUCT, left="input")
def linear(op: Op, trace: Trace) -> Flow:
    """Apply a weight (O, I) to the last dimension, where a backend keeps the op whole."""
    flow, weight = trace.flow(op["input"]), trace.flow(op["weight"])
    turned = _transposed(weight)
    out = _matrix_product(op, trace, flow, turned)
    return _with_bias(op, trace, out, op["bias"])


def _transposed(flow: Flow) -> Flow:
    return Flow(flow.shape[::-1], tuple(f.T for f in flow.fields), flow.fixed[::-1], flow.roots)


def _product(op: Op, trace: Trace, left: object, right: object, bias: object) -> Flow:
    out = _matrix_product(op, trace, trace.flow(left), trace.flow(right))  # type: ignore[arg-type]
    return _with_bias(op, trace, out, bias)


def _with_bias(op: Op, trace: Trace, out: Flow, bias: object) -> Flow:
    if not isinstance(bias, torch.Tensor):
        return out
    if out.layer is not None and (name := _bias_root(trace, bias)) is not None:
        trace.layers[out.layer].bias = name
    merged = trace.merge([out, trace.flow(bias)], op.shape(), f"meets a fixed dimension in {op.where}")
    return Flow(merged.shape, merged.fields, merged.fixed, merged.roots, out.layer)


def _matrix_product(op: Op, trace: Trace, left: Flow, right: Flow) -> Flow:
    """Contract the last dimension of the left with the last but one of the right; leading ones are a batch."""
    _sum_over(op, trace, left, right, len(left.shape) - 1, len(right.shape) - 2)
    ndim = len(left.shape)
    columns = padded(right.apart([len(right.shape) - 2]), ndim)
    made = left.constant and bool(right.roots)  # features of a constant: the embedding of a time or a position
    roots = None if made else joined_roots([left, right])
    outputs = Flow(
        (*op.shape()[:-2], 1, op.shape()[-1]), columns.fields, (False,) * (ndim - 1) + right.fixed[-1:], right.roots
    )
    one = trace.merge([left.thin(ndim - 1), outputs], op.shape(), f"meets a fixed dimension in {op.where}")
    layer = None
    if left.roots is None or made:
        layer = _linear_layer(op, trace, right, -1)
    elif right.roots is None:
        _linear_layer(op, trace, left, -2)
    return Flow(op.shape(), one.fields, (True,) * ndim, roots, layer)


def _linear_layer(op: Op, trace: Trace, weight: Flow, dim: int) -> str | None:
    """Remember a matrix product with a weight as a linear layer, where the weight's own outputs can be told.

    Args:
        op: the product.
        trace: what grows.
        weight: a matrix computed from parameters, or a batch of the same one.
        dim: its dimension of outputs.
    """
    root, over = weight_root(trace, weight), weight.over(dim)
    if root is None or len(over) != 1 or varying(over[0]) != (dim % len(weight.shape),):
        return None
    outputs = over[0].ravel()
    for born_dim, born in trace.born.get(root, {}).items():
        if np.isin(outputs, born).all():  # all of them, or a part (the queries of one packed weight)
            trace.add_layer(Layer(root, op.module, "linear", born_dim, 1, born))
            return root if len(born) == len(outputs) else None
    return None


def _sum_over(op: Op, trace: Trace, left: Flow, right: Flow, left_dim: int, right_dim: int) -> None:
    """Tie the labels of a summed dimension: one side must be a weight, or both are frozen."""
    features = [flow for flow in (left, right) if flow.roots is None]
    if len(features) == 2:
        why = f"summed with other features in {op.where}"
        trace.freeze_flow(left, why, [left_dim])
        trace.freeze_flow(right, why, [right_dim])
        return
    reads, reads_dim, inputs, inputs_dim = right, right_dim, left, left_dim
    if right.roots is None or (left.roots is not None and left.roots and not right.roots):
        reads, reads_dim, inputs, inputs_dim = left, left_dim, right, right_dim
    why = f"network input or fixed dimension read by {op.where}"
    if left.constant and right.constant:
        return
    _contract(
        trace,
        trace.channels(_unbatched(inputs, inputs_dim), inputs_dim, why),
        trace.channels(_unbatched(reads, reads_dim), reads_dim, why),
        why,
        reads,
    )


def _unbatched(flow: Flow, dim: int) -> Flow:
    return flow.with_fields([f for f in flow.fields if dim in varying(f)])
