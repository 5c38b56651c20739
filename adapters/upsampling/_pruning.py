"""What pruning makes of upsampling, and what it costs: channels pass through a reassembly, its kernels' taps stay.

The rest follows from PyTorch's own operators: a gate, or a skip that is added, ties the encoder's channels to the
decoder's and so to those of the result; the channels that features are compressed to are free, tied over both
compressors, which one convolution reads; the gate has a single channel, which ties nothing. Importing this registers
the rule and the count.
"""

from ranp.graph.flow import Flow
from ranp.graph.rules.op import Op
from ranp.graph.rules.registry import rule
from ranp.graph.tape import Record
from ranp.graph.ties import joined_roots
from ranp.graph.trace import Trace


def flops(record: Record) -> int:
    """Return the FLOPs of a reassembly per output element: 2 per tap."""
    _, kernels = record.inputs
    return 2 * kernels.shape[1]


@rule("ranp::reassemble", flops=flops)
def channels_pass(op: Op, trace: Trace) -> Flow:
    """Pass the features' channels and freeze the taps, naming the module the operator belongs to."""
    features, kernels = trace.flow(op["x"]), trace.flow(op["kernels"])
    trace.freeze_flow(kernels, f"kernel taps of the upsampling at {op.module or 'the top'}")
    positions = range(2, len(features.shape))
    passed = trace.settle(features, positions, f"position in {op.where}")
    fixed = (*passed.fixed[:2], *(True for _ in positions))
    return Flow(op.shape(), passed.fields, fixed, joined_roots([features, kernels]))
