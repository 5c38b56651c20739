"""The convention the published tables were counted in: by calls of modules that have no children, in evaluation mode.

| module | operations per call |
| --- | --- |
| convolution, transposed convolution | output elements x (input channels / groups x kernel, + 1 with a bias) |
| linear | output elements x (2 x input features - 1, + 1 with a bias) |
| batch norm | 4 x input elements |
| average pooling | output elements x (kernel + 1) |
| softmax | batch x (3 x channels - 1) |
| any other | 0 |

Multiply-accumulates of convolutions count once, those of linear layers twice, transposed convolutions by their output:
this is what the figures of Xu et al., "RANP: Resource Aware Neuron Pruning at Initialization for 3D CNNs", were made
with. Memory is 4 bytes for every output element of every call, in-place and pooling modules too; functional ops are not
seen.
"""

from collections.abc import Iterator
from math import prod

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.pooling import _AvgPoolNd

from ranp.cost._entry import Entry
from ranp.cost._standard import per_group, window
from ranp.cost.polynomials import Polynomial, as_polynomial
from ranp.cost.sizes import Sizes
from ranp.graph.tape import Call, Kind, Record

CONTRACTIONS = (Kind.CONVOLUTION, Kind.PRODUCT)


def entries(sizes: Sizes, *, published_transposed: bool = False) -> Iterator[Entry]:
    """Yield the cost of every call of a childless module.

    Args:
        sizes: of the graph.
        published_transposed: count a transposed convolution by its output channels in place of its input channels, as
            the published counter did in rebuilt networks. The published figures of pruned PSM need it; those of full
            networks do not.
    """
    run = sizes.graph.runs["eval"]
    records: dict[str, list[Record]] = {}
    for record in run.records:
        if record.kind in CONTRACTIONS or "avg_pool" in record.op:
            records.setdefault(record.module, []).append(record)
    for call in run.calls:
        last = call.inputs.shape and issubclass(call.kind, nn.Linear)
        inputs = sizes.axis(call.inputs, -1) if last else sizes.channels(call.inputs)
        outputs = sizes.axis(call.outputs, -1) if last else sizes.channels(call.outputs)
        mine = records.get(call.module, [])
        ops = _operations(sizes, call, mine, published_transposed=published_transposed)
        yield Entry(call.module, inputs, outputs, ops, sizes.elements(call.outputs))


def _operations(sizes: Sizes, call: Call, records: list[Record], *, published_transposed: bool) -> Polynomial:
    """Return the operations of one call; its ops leave the list, since a module may be called again."""
    if issubclass(call.kind, _BatchNorm):
        return sizes.elements(call.inputs) * 4
    if issubclass(call.kind, nn.Softmax):
        return (sizes.channels(call.inputs) * 3 + -1) * call.inputs.shape[0]
    if issubclass(call.kind, _ConvNd | nn.Linear) and records:
        return contraction(sizes, records.pop(0), published_transposed=published_transposed)
    if issubclass(call.kind, _AvgPoolNd | nn.AvgPool1d) and records:
        return sizes.elements(call.outputs) * (window(records.pop(0)) + 1)
    return as_polynomial(0)


def contraction(sizes: Sizes, record: Record, *, published_transposed: bool = False) -> Polynomial:
    """Return the operations of one convolution or matrix product."""
    out, bias = sizes.elements(record.outputs[0]), int(record.arguments["bias"])
    left = record.arguments["left"]
    if record.kind != Kind.CONVOLUTION:
        return out * (sizes.axis(left, -1) * 2 + (bias - 1))
    read = record.outputs[0] if published_transposed and record.transposed else left
    kernel: int = prod(record.arguments["kernel"])
    return out * (per_group(sizes, read, record, left) * kernel + bias)
