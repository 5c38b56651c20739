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
| an op that is not PyTorch's | per element what is entered beside its rule (`ELEMENT_FLOPS`) |
| anything else (activation, sum, product) | 1 per output element; an op that is none of these is named in the notes |

Constants, made in the forward from no input and no parameter, cost nothing. Memory is what every op newly stores:
results of views and constants are not counted, nor the statistics of norms, the indices of pooling, and the rest of a
tensor that is written in part. An in-place op counts as if it stored its result.
"""

import re
from collections.abc import Iterator
from functools import cache
from math import prod

import torch

from ranp.cost._entry import Entry
from ranp.cost.polynomials import Polynomial, as_polynomial
from ranp.cost.sizes import Sizes
from ranp.graph.flow import Flow
from ranp.graph.rules.registry import ELEMENT_FLOPS
from ranp.graph.run import LEFT_OPERAND
from ranp.graph.trace import Record

CONVOLUTIONS = {"convolution", "_convolution", "convolution_overrideable"}
ATTENTION = "scaled_dot_product"
STATISTICS = {"native_group_norm", "native_layer_norm", "native_instance_norm"}
SOFTMAX = {"_softmax", "_log_softmax", "_safe_softmax", "softmax", "log_softmax"}
REDUCTIONS = {
    *(
        "mean",
        "sum",
        "nansum",
        "amax",
        "amin",
        "norm",
        "prod",
        "linalg_vector_norm",
        "logsumexp",
        "any",
        "all",
        "argmax",
    ),
    *("argmin", "aminmax", "median", "nanmedian", "count_nonzero", "cumsum", "cumprod", "cummax", "cummin"),
    *(
        "logcumsumexp",
        "sort",
        "topk",
        "kthvalue",
        "argsort",
        "mode",
        "renorm",
        "_weight_norm_interface",
        "_weight_norm",
    ),
}
VARIANCES = {"var", "std", "var_mean", "std_mean"}
MOVES = {
    *("alias", "clone", "contiguous", "copy", "detach", "lift", "lift_fresh", "lift_fresh_copy", "fill", "_to_copy"),
    *("cat", "concat", "concatenate", "stack", "constant_pad_nd", "pad", "repeat", "tile", "repeat_interleave", "flip"),
    *(
        "roll",
        "embedding",
        "index_select",
        "gather",
        "take_along_dim",
        "index",
        "_unsafe_index",
        "index_copy",
        "scatter",
    ),
    *("index_fill", "slice_scatter", "select_scatter", "as_strided_scatter", "diagonal_scatter", "pixel_shuffle"),
    *("pixel_unshuffle", "channel_shuffle", "native_channel_shuffle", "im2col", "max_unpool2d", "max_unpool3d", "tril"),
    *("triu", "view", "_unsafe_view", "reshape", "_reshape_alias", "slice", "select", "expand", "permute", "transpose"),
    *("t", "squeeze", "unsqueeze", "unfold", "split", "split_with_sizes", "chunk", "unbind", "unsafe_split"),
    *("unsafe_split_with_sizes", "unsafe_chunk", "tensor_split", "masked_select", "dropout"),
}
# Results that lie in the storage of an argument though the op's schema does not say so: views, and what functional runs
# make of a write into a part (the written values are their own op, `copy`).
ALIASES = {
    *("_unsafe_view", "_reshape_alias", "slice_scatter", "select_scatter", "as_strided_scatter", "diagonal_scatter"),
    *("reshape", "flatten", "unflatten", "detach", "lift", "lift_fresh"),
}
# Ops of which only the first result is a feature map.
ONE_RESULT = re.compile(r"norm|_pool|attention|native_dropout|_softmax")
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
    if record.op in LEFT_OPERAND:
        return sizes.axis(record.arguments["left"], -1)
    return sizes.channels(record.inputs[0]) if record.inputs else as_polynomial(0)


def _writes(sizes: Sizes, record: Record) -> Polynomial:
    flow = record.outputs[0]
    return sizes.axis(flow, -1) if record.op in LEFT_OPERAND and flow.shape else sizes.channels(flow)


def _stored(sizes: Sizes, record: Record) -> Polynomial:
    """Return how many elements an op newly stores."""
    total = as_polynomial(0)
    if record.view or record.op in ALIASES:
        return total
    results = record.outputs[:1] if ONE_RESULT.search(record.op) else record.outputs
    for flow in results:
        if not flow.constant:
            total = total + sizes.elements(flow)
    return total


def flops(sizes: Sizes, record: Record) -> Polynomial:
    """Return the FLOPs of one op, by the table of this module."""
    name = record.op
    if record.view or name in MOVES:
        return as_polynomial(0)
    if name in CONVOLUTIONS:
        return _convolution(sizes, record)
    out = sizes.elements(record.outputs[0])
    if name in ELEMENT_FLOPS:
        return out * ELEMENT_FLOPS[name](record)
    if name in LEFT_OPERAND:
        return out * sizes.axis(record.arguments["left"], -1) * 2 + out * int(record.arguments["bias"])
    if ATTENTION in name:
        return _attention(sizes, record)
    if "batch_norm" in name:
        return out * (6 if record.arguments.get("training", "with_update" in name) else 2)
    if name in STATISTICS:
        return out * 6
    if name in SOFTMAX:
        return out * 5
    if "_pool" in name:
        return _pooling(sizes, record, out)
    if "upsample" in name or "grid_sampler" in name:
        return out * _resampling(record)
    if name in REDUCTIONS or (name in ("max", "min") and len(record.inputs) + len(record.weights) == 1):
        return sizes.source(record)
    return sizes.source(record) * 4 if name in VARIANCES else out


COUNTED = MOVES | CONVOLUTIONS | set(LEFT_OPERAND) | STATISTICS | SOFTMAX | REDUCTIONS | VARIANCES | ALIASES
PARTS_OF_NAMES = (ATTENTION, "batch_norm", "_pool", "upsample", "grid_sampler")
# Ops that PyTorch does not tag as pointwise though they make each element by itself, or draw it.
ELEMENTWISE = {
    *("bernoulli", "cauchy", "complex", "exponential", "geometric", "glu", "hardswish", "heaviside", "lerp"),
    *("log_normal", "log_sigmoid_forward", "native_dropout", "normal", "normal_functional", "polar", "prelu"),
    *("_prelu_kernel", "rrelu_with_noise", "rrelu_with_noise_functional", "uniform", "where", "zero", "one_hot"),
    *("_conj", "conj", "conj_physical", "_conj_physical", "resolve_conj", "resolve_neg", "real", "imag", "alias_copy"),
    *("max", "min", "empty_like", "zeros_like", "ones_like", "full_like", "rand_like", "randn_like", "randint_like"),
    *("new_empty", "new_zeros", "new_ones", "new_full", "new_empty_strided", "floor_divide", "masked_fill"),
}


@cache
def _is_pointwise(name: str) -> bool:
    packet = getattr(torch.ops.aten, name, None)
    overloads = packet.overloads() if packet is not None and hasattr(packet, "overloads") else []
    return any(torch.Tag.pointwise in getattr(packet, each).tags for each in overloads)


def is_known(record: Record) -> bool:
    """Whether the table of this module speaks of an op; any other counts as one FLOP per element of its result."""
    name = record.op
    made = [flow for flow in record.outputs if not flow.constant]
    told = name in COUNTED or name in ELEMENTWISE or _is_pointwise(name) or any(part in name for part in PARTS_OF_NAMES)
    told = told or name in ELEMENT_FLOPS
    return not made or record.view or told


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


def _pooling(sizes: Sizes, record: Record, out: Polynomial) -> Polynomial:
    return out * window(record) if "kernel_size" in record.arguments else sizes.source(record)


def window(record: Record) -> int:
    """Return how many elements a pooling reads for each output element."""
    kernel, dims = record.arguments["kernel_size"], _dims(record.op)
    lengths = [kernel] if isinstance(kernel, int) else list(kernel)
    return int(prod(lengths) if len(lengths) == dims else lengths[0] ** dims)


def _resampling(record: Record) -> int:
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
