"""What pruning makes of the pooling operators: each channel for itself, and what is given per channel goes with it.

Importing this registers the rules. The window moves over positions alone, so the channels of the input are those of the
output.
"""

from ranp.graph.flow import Flow
from ranp.graph.rules.op import Op
from ranp.graph.rules.registry import rule
from ranp.graph.rules.spatial import over_positions
from ranp.graph.tape import Kind
from ranp.graph.trace import Trace
from ranp.kernels.pooling import POOLINGS


@rule(*(name for each in POOLINGS for name in each.operators if not each.filtered), kind=Kind.POOL, results=1)
def pool(op: Op, trace: Trace) -> Flow:
    """Pool the spatial dimensions; exponents, weights and references broadcast against the output."""
    x, *given = (trace.flow(tensor) for tensor in op.tensors)
    (output,) = over_positions(op, trace, x, len(x.shape) - 2)
    return trace.merge([output, *given], op.shape(), f"meets a fixed dimension in {op.where}")


@rule(*(name for each in POOLINGS for name in each.operators if each.filtered), kind=Kind.POOL, results=1)
def filtered(op: Op, trace: Trace) -> Flow:
    """Multiply windows by each channel's filter, the first dimension of the filters, or by the only one."""
    x, filters = trace.flow(op["x"]), op["filters"]
    (output,) = over_positions(op, trace, x, len(x.shape) - 2)
    if filters.shape[0] == 1:
        return output
    why = f"meets a fixed dimension in {op.where}"
    if trace.is_parameter(filters):
        own = trace.axis(filters, 0)
    else:
        settled = trace.settle(trace.flow(filters), range(1, filters.ndim), f"kernel position in {op.where}")
        own = trace.channels(settled, 0, why)
    trace.tie(trace.channels(output, 1, why), own, why)
    return output
