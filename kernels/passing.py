"""The message passing as two torch operators, `ranp::message_passing` and its backward.

Each runs native code where there is a library for the tensors' device and type, and reference.py where there is none;
both compute the same thing. Besides tensors they take a Spec, field by field: their schemas name the fields, once, and
what implements them passes them on. `check` is called by the operators and by their fakes alike: eager mode never runs
a fake, so a wrong shape must be caught on the way to C. See reference.py for the layout.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.library import custom_op

from ranp.kernels import _native_passing as native_passing
from ranp.kernels import _reference_backward as reference_backward
from ranp.kernels import reference
from ranp.kernels._proof import prove
from ranp.kernels.reference import METHODS, Result, Spec, empty_indices

LIMIT = 1024
"""The largest number of labels."""

SPEC = (
    "str method, SymInt[] shape, SymInt[] steps, SymInt iterations, float rho, bool last, bool normalise, "
    "SymInt window, bool record"
)
"""A Spec as the operators take it: its fields in order, all steps in one list."""


def _packed(spec: Spec) -> tuple[Any, ...]:
    flat = [move for step in spec.steps for move in step]
    tail = (spec.iterations, spec.rho, spec.last, spec.normalise, spec.window, spec.record)
    return spec.method, spec.shape, flat, *tail


def _unpacked(method: str, shape: Sequence[int], steps: Sequence[int], *tail: Any) -> Spec:
    dims = max(1, len(shape))
    table = tuple(tuple(steps[start : start + dims]) for start in range(0, len(steps), dims))
    return Spec(method, tuple(shape), table, *tail)


def run(unary: Tensor, weights: Tensor, pairwise: Tensor, spec: Spec, *, keep: bool = False) -> Result:
    """Run the operator from a spec, differentiable in the three tensors.

    Args:
        unary: (B, N, L), any strides.
        weights: (B or 1, R, N or 1).
        pairwise: (L, L).
        spec: the method and its settings; `record` must be set where a gradient is wanted.
        keep: return the messages, which are empty otherwise.
    """
    return Result(*message_passing(unary, weights, pairwise, *_packed(spec), keep))


def check(unary: Tensor, weights: Tensor, pairwise: Tensor, spec: Spec) -> None:
    """Refuse what the C code would read out of bounds.

    Raises:
        ValueError: naming the argument, its value and what was expected.
    """
    if spec.method not in METHODS:
        raise ValueError(f"method {spec.method!r}: expected one of {', '.join(METHODS)}")
    if unary.dim() != 3 or unary.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"unary {tuple(unary.shape)} of {unary.dtype}: expected (B, N, L) of float32 or float64")
    batch, nodes, labels = unary.shape
    if not 1 <= labels <= LIMIT:
        raise ValueError(f"{labels} labels: expected 1 to {LIMIT}")
    if nodes != torch.Size(spec.shape).numel():
        raise ValueError(f"unary has {nodes} nodes, but the grid {spec.shape} does not")
    if not 0 <= spec.window < labels:
        raise ValueError(f"window {spec.window}: expected 0 to {labels - 1}, less than the labels")
    directions = len(spec.steps)
    _check_steps(spec)
    sizes = [(1, batch), (directions,), (1, nodes)]
    if weights.dim() != 3 or not all(size in allowed for size, allowed in zip(weights.shape, sizes, strict=True)):
        raise ValueError(f"weights {tuple(weights.shape)}: expected ({batch} or 1, {directions}, {nodes} or 1)")
    if pairwise.shape != (labels, labels):
        raise ValueError(f"pairwise {tuple(pairwise.shape)}: expected ({labels}, {labels})")
    if any(other.dtype != unary.dtype or other.device != unary.device for other in (weights, pairwise)):
        raise ValueError("unary, weights and pairwise: expected one dtype and one device")


def _check_steps(spec: Spec) -> None:
    steps = spec.steps
    if not steps or len(steps) % 2 or any(len(step) != len(spec.shape) or not any(step) for step in steps):
        raise ValueError(f"steps {steps}: expected pairs of non-zero steps of {len(spec.shape)} entries")
    if any(a != tuple(-move for move in b) for a, b in zip(steps[::2], steps[1::2], strict=True)):
        raise ValueError(f"steps {steps}: expected each odd one to be the opposite of the one before")
    if spec.iterations < 1 or not 1 <= len(spec.shape) <= 3:
        raise ValueError(f"{spec.iterations} iterations on a grid {spec.shape}: expected at least 1, on 1 to 3 axes")


@custom_op(
    "ranp::message_passing",
    mutates_args=(),
    schema=f"(Tensor unary, Tensor weights, Tensor pairwise, {SPEC}, bool keep)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
)
def message_passing(
    unary: Tensor, weights: Tensor, pairwise: Tensor, *settings: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return cost (B, N, L), labels (B, N), messages (R, B, N, L) if kept, p and q if recorded."""
    *packed, keep = settings
    spec = _unpacked(*packed)
    check(unary, weights, pairwise, spec)
    if unary.is_cuda:
        prove(unary.device, unary.dtype)
    found = native_passing.forward(unary, weights, pairwise, spec, keep)
    if found is None:
        found = reference.forward(unary, weights, pairwise, spec)
        found = found if keep else found._replace(messages=unary.new_empty(0))
    return found.cost, found.labels, found.messages, found.p, found.q


@message_passing.register_fake
def _fake(
    unary: Tensor, weights: Tensor, pairwise: Tensor, *settings: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    *packed, keep = settings
    spec = _unpacked(*packed)
    check(unary, weights, pairwise, spec)
    batch, nodes, labels = unary.shape
    p, q = empty_indices(spec, batch, nodes, labels, unary)
    cost = unary.new_empty((batch, nodes, labels))
    found = unary.new_empty((batch, nodes), dtype=torch.int64)
    return cost, found, unary.new_empty((len(spec.steps), batch, nodes, labels) if keep else (0,)), p, q


@custom_op(
    "ranp::message_passing_backward",
    mutates_args=(),
    schema=f"(Tensor grad, Tensor p, Tensor q, Tensor weights, Tensor pairwise, {SPEC},"
    " bool need_weights, bool need_pairwise) -> (Tensor, Tensor, Tensor)",
)
def message_passing_backward(
    grad: Tensor, p: Tensor, q: Tensor, weights: Tensor, pairwise: Tensor, *settings: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of unary (B, N, L), weights (B, R, N) and pairwise (L, L); empty where not needed."""
    *packed, need_weights, need_pairwise = settings
    spec = _unpacked(*packed)
    _check_backward(grad, p, q, weights, pairwise, spec)
    found = native_passing.backward(grad, p, q, weights, pairwise, spec, need_weights, need_pairwise)
    if found is None:
        unary, of_weights, of_pairwise = reference_backward.backward(grad, p, q, weights, pairwise, spec)
        empty = grad.new_empty(0)
        found = unary, of_weights if need_weights else empty, of_pairwise if need_pairwise else empty.clone()
    return found


@message_passing_backward.register_fake
def _fake_backward(
    grad: Tensor, p: Tensor, q: Tensor, weights: Tensor, pairwise: Tensor, *settings: Any
) -> tuple[Tensor, Tensor, Tensor]:
    *packed, need_weights, need_pairwise = settings
    spec = _unpacked(*packed)
    _check_backward(grad, p, q, weights, pairwise, spec)
    batch, nodes, labels = grad.shape
    of_weights = grad.new_empty((batch, len(spec.steps), nodes) if need_weights else (0,))
    of_pairwise = grad.new_empty((labels, labels) if need_pairwise else (0,))
    return grad.new_empty((batch, nodes, labels)), of_weights, of_pairwise


def _check_backward(grad: Tensor, p: Tensor, q: Tensor, weights: Tensor, pairwise: Tensor, spec: Spec) -> None:
    check(grad, weights, pairwise, spec)
    batch, nodes, labels = grad.shape
    lead = (spec.iterations, len(spec.steps), batch, nodes)
    if p.shape != (*lead, labels) or (spec.normalise and q.shape != lead):
        raise ValueError(f"indices {tuple(p.shape)}, {tuple(q.shape)}: expected {(*lead, labels)}, {lead}; recorded?")
    if p.dtype != reference.index_dtype(labels) or q.dtype != p.dtype:
        raise ValueError(f"indices of {p.dtype}, {q.dtype}: expected {reference.index_dtype(labels)}")


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, weights, pairwise, *packed, _ = inputs
    _, labels, messages, p, q = output
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(labels, messages, p, q)
    ctx.save_for_backward(p, q, weights, pairwise)
    ctx.packed = packed


def _differentiate(ctx: Any, grad: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    """Only the cost is differentiable; without its gradient there is nothing to do."""
    rest = (None,) * (len(ctx.packed) + 1)  # one for `keep`
    if grad is None:
        return (None, None, None, *rest)
    p, q, weights, pairwise = ctx.saved_tensors
    needs = ctx.needs_input_grad[1], ctx.needs_input_grad[2]
    found = message_passing_backward(grad, p, q, weights, pairwise, *ctx.packed, *needs)
    unary, of_weights, of_pairwise = found
    summed = of_weights.sum_to_size(weights.shape) if needs[0] else None
    return (unary, summed, of_pairwise if needs[1] else None, *rest)


message_passing.register_autograd(_differentiate, setup_context=_setup_context)
