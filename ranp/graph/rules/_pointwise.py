"""Ops that act on each element: labels of the operands are tied where they meet."""

from dataclasses import replace

from ranp.graph.flow import Flow, constant
from ranp.graph.origins import LIKE, Asking, Number
from ranp.graph.rules._sized import filled
from ranp.graph.rules.op import Op
from ranp.graph.rules.registry import rule
from ranp.graph.tape import Kind
from ranp.graph.trace import Trace


@rule("detach", "lift", "lift_fresh", "alias", "alias_copy", kind=Kind.VIEW)
def same(op: Op, trace: Trace) -> list[Flow]:
    """The same tensor under another name."""
    return elementwise(op, trace)


@rule("clone", "contiguous", "copy", "fill", "lift_fresh_copy", "_to_copy", kind=Kind.MOVE)
def copied(op: Op, trace: Trace) -> list[Flow]:
    """The same elements elsewhere."""
    return elementwise(op, trace)


@rule("native_dropout", kind=Kind.ELEMENTWISE, results=1)
def dropped(op: Op, trace: Trace) -> list[Flow]:
    """Elements and the mask of those that are kept."""
    return elementwise(op, trace)


@rule("tril", "triu", kind=Kind.MOVE)
def triangle(op: Op, trace: Trace) -> Flow:
    """Keep a triangle of the last two dimensions, which are positions."""
    flow = trace.flow(op["self"])
    last = range(len(flow.shape) - 2, len(flow.shape))
    return trace.settle(flow, last, f"position in {op.where}").fixing(last)


@rule(
    *("pointwise", "bernoulli", "exponential", "masked_fill", "normal_functional", "prelu", "_prelu_kernel"),
    *("rrelu_with_noise", "rrelu_with_noise_functional", "uniform", "where", "hardswish", "complex", "polar", "conj"),
    *("_conj", "conj_physical", "_conj_physical", "resolve_conj", "resolve_neg", "real", "imag", "zero", "normal"),
    *(
        "cauchy",
        "geometric",
        "log_normal",
        "floor_divide",
    ),
    kind=Kind.ELEMENTWISE,
)
def elementwise(op: Op, trace: Trace) -> list[Flow]:
    """Every result carries the union of the operands' fields."""
    flows = [trace.flow(tensor) for tensor in op.tensors]
    why = f"meets a fixed dimension in {op.where}"
    return [trace.merge(flows, tuple(result.shape), why) for result in op.results]


CREATIONS = {"empty", "zeros", "ones", "full", "rand", "randn"}


@rule(
    *("empty", "empty_like", "empty_strided", "zeros", "zeros_like", "ones", "ones_like", "full", "full_like"),
    *("rand", "randn", "rand_like", "randn_like", "randint", "randint_like", "new_empty", "new_zeros", "new_ones"),
    *("new_full", "new_empty_strided", "scalar_tensor"),
    kind=Kind.CREATION,
)
def creation(op: Op, trace: Trace) -> list[Flow]:
    """A new tensor is free along sizes of unknown origin: they follow from what it meets."""
    asked: list[Asking] | None = None
    if op.asked is not None and op.asked.name in LIKE:
        marked = trace.sizes(op.asked.args[0]) if op.asked.args else None
        asked = None if marked is None else [each if isinstance(each, Number) else None for each in marked]
    elif op.asked is not None and op.asked.name.split("new_")[-1] in CREATIONS:
        asked = op.asked.sizes(op.results[0].ndim)
    return [filled(trace, constant(tuple(result.shape)), asked) for result in op.results]


@rule("arange", "linspace", "logspace", "eye", "randperm", "tril_indices", "triu_indices", kind=Kind.CREATION)
def numbering(op: Op, trace: Trace) -> list[Flow]:
    """A new tensor whose values differ from place to place: what meets it is counted, and stays."""
    return [replace(constant(tuple(r.shape)), fixed=(True,) * r.ndim) for r in op.results]


@rule("log_sigmoid_forward", kind=Kind.ELEMENTWISE)
def log_sigmoid(op: Op, trace: Trace) -> list[Flow]:
    """Elementwise, with a buffer for the backward that is empty on some devices."""
    flow = replace(trace.flow(op["self"]), layer=None)
    return [flow, *(flow if tuple(r.shape) == flow.shape else constant(tuple(r.shape)) for r in op.results[1:])]


@rule("glu", kind=Kind.ELEMENTWISE)
def gated(op: Op, trace: Trace) -> Flow:
    """One half times the sigmoid of the other: both halves are tied index by index."""
    flow, dim = trace.flow(op["self"]), op["dim"] % op["self"].ndim
    half = flow.shape[dim] // 2
    fields = []
    for field in flow.fields:
        if field.shape[dim] > 1:
            first, second = field.take(range(half), axis=dim), field.take(range(half, 2 * half), axis=dim)
            trace.tie(first, second, f"meets a fixed dimension in {op.where}")
            field = trace.simplify(first)
        fields.append(field)
    return Flow(op.shape(), tuple(f for f in fields if f.size > 1), flow.fixed, flow.roots)
