"""Scaled dot-product attention kept whole: queries and keys are summed with each other, values pass."""

from ranp.graph.flow import Flow, activation
from ranp.graph.rules.registry import Op, rule
from ranp.graph.tape import Kind
from ranp.graph.trace import Trace


@rule(
    "scaled_dot_product_attention",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_attention_math",
    "_scaled_dot_product_cudnn_attention",
    "_scaled_dot_product_fused_attention_overrideable",
    kind=Kind.ATTENTION,
    results=1,
)
def scaled_dot_product(op: Op, trace: Trace) -> list[Flow]:
    """(B, h, N, d) queries, keys and values: the d of queries and keys is frozen, that of values passes."""
    query, key, value = (trace.flow(op[name]) for name in ("query", "key", "value"))
    last = len(query.shape) - 1
    for flow in (query, key):
        trace.freeze_flow(flow, f"summed with other features in {op.where}", [last])
    trace.freeze_flow(value, f"position in {op.where}", [last - 1])
    heads = [
        flow.with_fields([f for f in flow.fields if f.shape[last] == f.shape[last - 1] == 1]) for flow in (query, key)
    ]
    values = value.with_fields([f for f in value.fields if f.shape[last - 1] == 1])
    shape = op.shape()
    thin = [Flow((*shape[:-2], 1, 1), f.fields, (*f.fixed[:-2], False, False), f.roots) for f in heads]
    wide = Flow((*shape[:-2], 1, shape[-1]), values.fields, (*values.fixed[:-2], False, values.fixed[-1]), values.roots)
    main = trace.merge([*thin, wide], shape, f"meets a fixed dimension in {op.where}")
    out = activation(shape, list(main.fields))
    return [out, *(activation(tuple(r.shape), []) for r in op.results[1:])]
