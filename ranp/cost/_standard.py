"""The standard convention: every op that runs, 2 FLOPs a multiply-accumulate, transposed convolutions by input size.

| op | FLOPs |
| --- | --- |
| convolution | 2 x output elements x input channels / groups x kernel, + 1 per output element with a bias |
| transposed convolution | 2 x input elements x output channels / groups x kernel, + the same |
| matrix product | 2 x output elements x summed length, + 1 per output element where something is added |
| attention, where a backend keeps it whole | both products, 6 per score (scale and softmax) |
| batch norm with stored statistics | 2 per element: the statistics fold into one factor and one summand |
| norm with statistics of the data (instance, group, layer) | 6 per element: mean 1, variance 3, factor and summand 2 |
| softmax, log-softmax | 5 per element: maximum, subtract, exponential, sum, divide |
| pooling | kernel per output element; adaptive: 1 per input element |
| resampling | 2 x corners per output element: 2 x 2^d linear, 2 x 4^d cubic; nearest 0 |
| reduction, scan, sort | 1 per input element; variance 4 |
| copy, concat, pad, index, shuffle, unpooling | 0 |
| Fourier transform | 5 log2 of the transformed length per element, rounded |
| an op that is not PyTorch's | per element what its rule says |
| anything else (activation, sum, product) | 1 per output element; an op that is none of these is named in the notes |

Constants, made in the forward from no input and no parameter, cost nothing. Memory is what every op newly stores:
results of views and constants are not counted, nor the statistics of norms, the indices of pooling, and the rest of a
tensor that is written in part. An in-place op counts as if it stored its result.

What an op is stands in its rule (`ranp.graph.rules`), which may say what it costs too.
"""

import re
from collections.abc import Callable, Iterator
from math import log2, prod

from ranp.cost._entry import Entry
from ranp.cost.polynomials import Polynomial, as_polynomial
from ranp.cost.sizes import Sizes
from ranp.graph.flow import Flow
from ranp.graph.rules import RULES
from ranp.graph.tape import Kind, Record

CORNERS = {"linear": 2, "cubic": 4, "nearest": 0}


def entries(sizes: Sizes) -> Iterator[Entry]:
    """Yield the cost of every op of the evaluation run."""
    for record in sizes.graph.runs["eval"].records:
        made = [flow for flow in record.outputs if not flow.constant]
        if made:
            yield Entry(
                record.module,
                _reads(sizes, record),
                _writes(sizes, record),
                flops(sizes, record),
                _stored(sizes, record),
            )


def _reads(sizes: Sizes, record: Record) -> Polynomial:
    if record.kind == Kind.PRODUCT:
        return sizes.axis(record.arguments["left"], -1)
    return sizes.channels(record.inputs[0]) if record.inputs else as_polynomial(0)


def _writes(sizes: Sizes, record: Record) -> Polynomial:
    flow = record.outputs[0]
    return sizes.axis(flow, -1) if record.kind == Kind.PRODUCT and flow.shape else sizes.channels(flow)


def _stored(sizes: Sizes, record: Record) -> Polynomial:
    """Return how many elements an op newly stores."""
    total = as_polynomial(0)
    if record.view or record.kind in (Kind.VIEW, Kind.WRITE):
        return total
    for flow in record.outputs[: record.made]:
        if not flow.constant:
            total = total + sizes.elements(flow)
    return total


def flops(sizes: Sizes, record: Record) -> Polynomial:
    """Return the FLOPs of one op, by the table of this module."""
    if record.view:
        return as_polynomial(0)
    rule = RULES.get(record.op)
    if rule is not None and rule.flops is not None:
        return sizes.elements(record.outputs[0]) * rule.flops(record)
    return FLOPS[record.kind](sizes, record)


def is_known(record: Record) -> bool:
    """Whether the table of this module speaks of an op; any other counts as one FLOP per element of its result."""
    made = [flow for flow in record.outputs if not flow.constant]
    rule = RULES.get(record.op)
    told = record.kind != Kind.OTHER or (rule is not None and rule.flops is not None)
    return not made or record.view or told


def _nothing(sizes: Sizes, record: Record) -> Polynomial:
    return as_polynomial(0)


def _per_element(count: int) -> Callable[[Sizes, Record], Polynomial]:
    return lambda sizes, record: sizes.elements(record.outputs[0]) * count


def _product(sizes: Sizes, record: Record) -> Polynomial:
    out = sizes.elements(record.outputs[0])
    return out * sizes.axis(record.arguments["left"], -1) * 2 + out * int(record.arguments["bias"])


def _batch_norm(sizes: Sizes, record: Record) -> Polynomial:
    statistics = record.arguments.get("training", "with_update" in record.op)
    return sizes.elements(record.outputs[0]) * (6 if statistics else 2)


def _reduction(sizes: Sizes, record: Record) -> Polynomial:
    if len(record.inputs) + len(record.weights) > 1:  # the larger of two tensors
        return sizes.elements(record.outputs[0])
    return sizes.source(record)


def _fourier(sizes: Sizes, record: Record) -> Polynomial:
    before, after = record.inputs[0].shape, record.outputs[0].shape
    length = prod(max(before[dim], after[dim]) for dim in record.arguments["dim"])
    return sizes.elements(record.outputs[0]) * round(5 * log2(max(length, 2)))


def macs(sizes: Sizes, record: Record) -> Polynomial:
    """Return the multiply-accumulates of a convolution: by the output, or of a transposed one by the input."""
    source, target = record.arguments["left"], record.outputs[0]
    here, there = (target, source) if not record.transposed else (source, target)
    kernel: int = prod(record.arguments["kernel"])
    return sizes.elements(here) * per_group(sizes, there, record, source) * kernel


def per_group(sizes: Sizes, flow: Flow, record: Record, source: Flow) -> Polynomial:
    """Return how many channels of a convolution's input or output one group has."""
    if 1 < record.groups == source.shape[1]:  # depthwise: the number of groups follows the channels
        return as_polynomial(flow.shape[1] // record.groups)
    return sizes.axis(flow, 1, record.groups)


def _convolution(sizes: Sizes, record: Record) -> Polynomial:
    bias = sizes.elements(record.outputs[0]) * int(record.arguments["bias"])
    return macs(sizes, record) * 2 + bias


def _attention(sizes: Sizes, record: Record) -> Polynomial:
    query, key = record.inputs[:2]
    # Query and key channels are frozen, so the number of scores is the number of queries times the keys' positions.
    scores = sizes.elements(query.with_fields([f for f in query.fields if f.shape[-1] == 1])) * key.shape[-2]
    values = sizes.elements(record.outputs[0]) * (2 * key.shape[-2])
    per_channel = Polynomial({term: value // query.shape[-1] for term, value in scores.terms.items()})
    return scores * 2 + values + per_channel * 6


def _pooling(sizes: Sizes, record: Record) -> Polynomial:
    return (
        sizes.elements(record.outputs[0]) * window(record)
        if "kernel_size" in record.arguments
        else sizes.source(record)
    )


def window(record: Record) -> int:
    """Return how many elements a pooling reads for each output element."""
    kernel, dims = record.arguments["kernel_size"], _dims(record.op)
    lengths = [kernel] if isinstance(kernel, int) else list(kernel)
    return int(prod(lengths) if len(lengths) == dims else lengths[0] ** dims)


def _resampling(sizes: Sizes, record: Record) -> Polynomial:
    return sizes.elements(record.outputs[0]) * _corners(record)


def _corners(record: Record) -> int:
    if "grid_sampler" in record.op:
        mode = ("linear", "nearest", "cubic")[record.arguments.get("interpolation_mode", 0)]
        dims = 3 if len(record.outputs[0].shape) == 5 else 2
    else:
        mode = next(kernel for kernel in CORNERS if kernel in record.op)
        dims = _dims(record.op)
    return 2 * int(CORNERS[mode] ** dims)


def _dims(name: str) -> int:
    match = re.search(r"(\d)d", name)
    assert match is not None, name
    return int(match.group(1))


FLOPS: dict[Kind, Callable[[Sizes, Record], Polynomial]] = {
    Kind.ATTENTION: _attention,
    Kind.BATCH_NORM: _batch_norm,
    Kind.CONVOLUTION: _convolution,
    Kind.CREATION: _per_element(1),
    Kind.ELEMENTWISE: _per_element(1),
    Kind.FOURIER: _fourier,
    Kind.MOVE: _nothing,
    Kind.NORM: _per_element(6),
    Kind.OTHER: _per_element(1),
    Kind.POOL: _pooling,
    Kind.PRODUCT: _product,
    Kind.REDUCTION: _reduction,
    Kind.RESAMPLING: _resampling,
    Kind.SOFTMAX: _per_element(5),
    Kind.SUM: _reduction,
    Kind.VARIANCE: lambda sizes, record: sizes.source(record) * 4,
    Kind.VIEW: _nothing,
    Kind.WRITE: _nothing,
}
