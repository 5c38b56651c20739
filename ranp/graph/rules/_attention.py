"""Scaled dot-product attention kept whole: queries and keys are summed with each other, values pass."""

from ranp.graph.flow import Flow, activation
from ranp.graph.rules.op import Op
from ranp.graph.rules.registry import rule
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
    parts = [query.thin(last - 1, last), key.thin(last - 1, last), value.thin(last - 1)]
    main = trace.merge(parts, op.shape(), f"meets a fixed dimension in {op.where}")
    out = activation(op.shape(), list(main.fields))
    return [out, *(activation(tuple(r.shape), []) for r in op.results[1:])]
