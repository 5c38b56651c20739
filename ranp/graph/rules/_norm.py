"""Normalisations: channel parameters are tied to the channels; statistics over channels are remembered as mixing."""

from dataclasses import replace

import numpy as np
import torch

from ranp.graph.flow import Flow, Ints, activation
from ranp.graph.rules._sized import hold
from ranp.graph.rules.op import Op
from ranp.graph.rules.registry import rule
from ranp.graph.tape import Kind
from ranp.graph.trace import Trace


@rule(
    *("native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training", "cudnn_batch_norm"),
    *("_native_batch_norm_legit_functional", "_batch_norm_with_update", "_batch_norm_with_update_functional"),
    *("_batch_norm_no_update", "batch_norm_update_stats", "native_batch_norm_legit", "miopen_batch_norm"),
    kind=Kind.BATCH_NORM,
    results=1,
)
def batch_norm(op: Op, trace: Trace) -> list[Flow]:
    """Each channel for itself: weight, bias and running statistics belong to the channel."""
    flow = trace.flow(op["input"])
    dim = 1 if len(flow.shape) > 1 else 0
    others = range(2, len(flow.shape))
    if flow.roots:  # a standardised weight
        trace.freeze_flow(flow, f"statistic of a parameter in {op.where}", others)
    else:
        flow = trace.settle(flow, others, f"position in {op.where}")
    labels = trace.channels(flow, dim, f"meets a fixed dimension in {op.where}")
    _tie_parameters(op, trace, ("weight", "bias", "running_mean", "running_var"), labels)
    _remember_affine(op, trace, flow)
    main = Flow(flow.shape, flow.fields, flow.fixed, flow.roots)
    return [main if tuple(r.shape) == flow.shape else _statistic(r, labels) for r in op.results]


def _statistic(result: torch.Tensor, labels: Ints) -> Flow:
    if tuple(result.shape) == labels.shape:
        return activation(labels.shape, [labels] if (labels >= 0).any() else [])
    return activation(tuple(result.shape), [], fixed=(False,) * result.ndim)


def _tie_parameters(op: Op, trace: Trace, names: tuple[str, ...], labels: Ints) -> None:
    why = f"meets a fixed dimension in {op.where}"
    given = [op.arguments[name] for name in names if isinstance(op.arguments.get(name), torch.Tensor)]
    if given:
        trace.tie(labels, np.stack([trace.channels(trace.flow(each), 0, why) for each in given]), why)


def _remember_affine(op: Op, trace: Trace, flow: Flow) -> None:
    """Say which norm follows a layer, for the scores that need the norm's own parameters."""
    weight, bias = op.arguments.get("weight"), op.arguments.get("bias")
    if flow.layer is None or not isinstance(weight, torch.Tensor) or not isinstance(bias, torch.Tensor):
        return
    names = trace.names.get(id(weight)), trace.names.get(id(bias))
    layer = trace.layers[flow.layer]
    if names[0] and names[1] and layer.norm is None:
        layer.norm = names[0], names[1]


@rule("native_group_norm", kind=Kind.NORM, results=1)
def group_norm(op: Op, trace: Trace) -> list[Flow]:
    """Statistics over the channels of a group: each keeps equally many of its own channels.

    One channel a group is instance norm: each channel for itself, and the number of groups follows the channels.
    """
    flow = trace.settle(trace.flow(op["input"]), range(2, op["input"].ndim), f"position in {op.where}")
    labels = trace.channels(flow, 1, f"meets a fixed dimension in {op.where}")
    _tie_parameters(op, trace, ("weight", "bias"), labels)
    _remember_affine(op, trace, flow)
    groups = op["group"]
    if groups == len(labels) and op.asked is not None and op.asked.name == "group_norm":
        hold(op, trace, flow, 1, op.asked.told(op.asked.argument(1, "num_groups")))
    if groups < len(labels):
        trace.mix((1,), groups)
        if groups > 1:
            trace.balance.append(labels.reshape(groups, -1))
    return [replace(flow, layer=None), *(_statistic(r, labels) for r in op.results[1:])]


def _mix(op: Op, trace: Trace, flow: Flow, dims: tuple[int, ...]) -> None:
    """Remember a statistic over channels of features; one of a parameter freezes what it runs over."""
    if flow.roots is None:
        trace.mix(dims)
    else:
        trace.freeze_flow(flow, f"statistic of a parameter in {op.where}", dims)


@rule("native_layer_norm", kind=Kind.NORM, results=1)
def layer_norm(op: Op, trace: Trace) -> list[Flow]:
    """Statistics over the last dimensions, channels among them."""
    flow = trace.flow(op["input"])
    count, ndim = len(op["normalized_shape"]), len(flow.shape)
    dims = tuple(range(ndim - count, ndim))
    if any(flow.over(dim) for dim in dims):
        _mix(op, trace, flow, dims)
    asked = op.asked.argument(1, "normalized_shape") if op.asked is not None and op.asked.name == "layer_norm" else None
    for dim, number in zip(dims, asked or (), strict=False):
        hold(op, trace, flow, dim, op.asked.told(number) if op.asked is not None else None)
    why = f"meets a fixed dimension in {op.where}"
    tensors = [op[name] for name in ("weight", "bias") if isinstance(op[name], torch.Tensor)]
    _remember_affine(op, trace, flow)
    main = trace.merge([flow, *(trace.flow(t) for t in tensors)], flow.shape, why)
    apart = [field for field in flow.fields if all(field.shape[dim] == 1 for dim in dims)]
    return [main, *(activation(tuple(r.shape), apart) for r in op.results[1:])]


@rule("_softmax", "_log_softmax", "_safe_softmax", "softmax", "log_softmax", kind=Kind.SOFTMAX)
def softmax(op: Op, trace: Trace) -> Flow:
    """A softmax over channels mixes them; over anything else it acts on each channel for itself."""
    flow = trace.flow(op["self"])
    dim = op["dim"] % max(len(flow.shape), 1)
    if flow.shape and flow.over(dim):
        _mix(op, trace, flow, (dim,))
    return replace(flow, layer=None)
