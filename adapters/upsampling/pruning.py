"""What pruning makes of upsampling, and what it costs: channels pass through a reassembly, its kernels' taps stay.

The rest follows from PyTorch's own operators: a gate, or a skip that is added, ties the encoder's channels to the
decoder's and so to those of the result; the channels that features are compressed to are free, tied over both
compressors, which one convolution reads; the gate has a single channel, which ties nothing. Importing this registers
the rule and the count.
"""

from dataclasses import replace

from ranp.cost.polynomials import Polynomial
from ranp.cost.sizes import Sizes
from ranp.cost.standard import FLOPS
from ranp.graph.flow import Flow
from ranp.graph.rules.registry import Op, rule
from ranp.graph.rules.spatial import over_positions
from ranp.graph.trace import Record, Trace, joined_roots


@rule("ranp::reassemble")
def channels_pass(op: Op, trace: Trace) -> list[Flow]:
    """Pass the features' channels and freeze the taps, naming the module the operator belongs to."""
    features, kernels = trace.flow(op["x"]), trace.flow(op["kernels"])
    trace.freeze_flow(kernels, f"kernel taps of the upsampling at {op.module or 'the top'}")
    roots = joined_roots([features, kernels])
    return [replace(flow, roots=roots) for flow in over_positions(op, trace, features, len(features.shape) - 2)]


def multiply_accumulates(sizes: Sizes, record: Record) -> Polynomial:
    """Return the FLOPs of a reassembly: 2 per tap and output element."""
    taps = record.inputs[1].shape[1]
    return sizes.elements(record.outputs[0]) * (2 * taps)


FLOPS["ranp::reassemble"] = multiply_accumulates
