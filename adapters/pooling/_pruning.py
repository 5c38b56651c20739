"""What pruning makes of the pooling operators: each channel for itself, and what is given per channel goes with it.

Importing this registers the rule. Exponents, weights and references broadcast against the output, so their channels are
tied to those of the input; the window moves over positions alone.
"""

from ranp.graph.flow import Flow
from ranp.graph.rules.registry import Op, rule
from ranp.graph.rules.spatial import over_positions
from ranp.graph.trace import Trace
from ranp.kernels.pooling import POOLINGS


@rule(*(name for pooling in POOLINGS for name in pooling.operators))
def pool(op: Op, trace: Trace) -> Flow:
    """Pool the spatial dimensions, and tie what is given per channel to the channels."""
    x, *given = (trace.flow(tensor) for tensor in op.tensors)
    (output,) = over_positions(op, trace, x, len(x.shape) - 2)
    return trace.merge([output, *given], op.shape(), f"meets a fixed dimension in {op.where}")
