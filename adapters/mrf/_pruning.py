"""What pruning makes of the message passing: its labels stay, and the report says whose they are.

Every entry of the operator's inputs counts in every entry of its results, so all that touches it stays.

Importing this registers the rule, and until something imports it there is none: ranp/ knows no adapter, so the table of
rules is filled from here. The layer imports it, and with it all of `ranp.adapters.mrf` does; a network that calls the
operator of ranp.kernels by itself may leave it out. Its labels stay all the same, as those of any operator without a
rule; the report then names the operator instead of the module.
"""

import torch

from ranp.graph.flow import Flow, activation
from ranp.graph.rules.op import Op
from ranp.graph.rules.registry import rule
from ranp.graph.trace import Trace


@rule("ranp::message_passing")
def labels_stay(op: Op, trace: Trace) -> list[Flow]:
    """Freeze the labels that go into the operator, naming the module it belongs to."""
    flows = [trace.flow(tensor) for tensor in op.tensors]
    for flow in flows:
        trace.freeze_flow(flow, f"labels of the MRF at {op.module or 'the top'}")
    results: list[torch.Tensor] = op.results
    return [activation(tuple(result.shape), []) for result in results]
