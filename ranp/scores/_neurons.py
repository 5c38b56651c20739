"""Which elements of which parameters make a neuron.

A neuron is an output channel: of a convolution the filter (I / groups, *kernel) and the bias element, of a linear layer
the row. A layer with an affine norm right behind can be scored by the norm instead: one pair (gamma, beta) a channel.
"""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ranp.graph.flow import FIXED
from ranp.graph.graph import Graph
from ranp.graph.tape import Layer


def by_inputs(layer: Layer, transposed: str) -> bool:
    """Whether a layer's neurons are its input channels: published for transposed convolutions only."""
    return transposed == "inputs" and layer.kind in ("transposed", "depthwise") and layer.out_dim == 1


def rows(weight: Tensor, layer: Layer, transposed: str = "outputs") -> Tensor:
    """Return a weight, or anything of its shape, with one row per neuron: (O, elements).

    Args:
        weight: (O, I / groups, *kernel), transposed (I, O / groups, *kernel), linear, or filters that are mixed into
            one, such as (K, O, I, *kernel).
        layer: whose weight it is.
        transposed: "inputs" gives transposed convolutions a row per input channel.
    """
    if by_inputs(layer, transposed):
        return weight.reshape(len(weight), -1)
    if layer.groups == 1 or layer.out_dim == 0:
        return weight.movedim(layer.out_dim, 0).reshape(weight.shape[layer.out_dim], -1)
    blocks = weight.reshape(layer.groups, -1, *weight.shape[1:]).transpose(
        1, 2
    )  # (groups, O / groups, I / groups, *kernel)
    return blocks.reshape(layer.groups * weight.shape[1], -1)


@dataclass(frozen=True)
class Source:
    """The parameters one layer is scored by.

    Args:
        layer: the layer.
        weight: shown as one row per neuron; None where the norm stands for it.
        vectors: parameters with one element per neuron: the bias, or gamma and beta.
        size: how many elements a neuron has, its bias included where it counts.
    """

    layer: Layer
    weight: str | None
    vectors: tuple[str, ...]
    size: int


def source(
    graph: Graph, layer: Layer, shapes: dict[str, tuple[int, ...]], *, norms: bool, transposed: str
) -> Source | None:
    """Return what a layer is scored by; None for a weight computed from a parameter that has no part for each neuron.

    Args:
        graph: of the network.
        layer: one of its layers.
        shapes: of the network's tensors, by name.
        norms: whether an affine norm right behind the layer stands for it.
        transposed: see `rows`.
    """
    shape = shapes[layer.name]
    inputs = by_inputs(layer, transposed)
    count = len(layer.units) if not inputs else shape[0]
    found = shape[layer.out_dim] * (1 if layer.kind == "linear" or layer.out_dim == 0 else layer.groups)
    if found != len(layer.units):
        return None
    bias = layer.bias if layer.bias and not inputs and shapes[layer.bias] == (count,) else None
    size = int(np.prod(shape)) // count + (bias is not None)
    if norms and not inputs and _has_norm(graph, layer, shapes):
        assert layer.norm is not None
        return Source(layer, None, layer.norm, size)
    return Source(layer, layer.name, (bias,) if bias else (), size)


def _has_norm(graph: Graph, layer: Layer, shapes: dict[str, tuple[int, ...]]) -> bool:
    """Whether gamma and beta belong to the layer's channels, not to positions (a layer norm over the width)."""
    if layer.norm is None or any(shapes[name] != layer.units.shape for name in layer.norm):
        return False
    members = graph.parameters.get(layer.norm[0])
    fixed = np.full(layer.units.shape, FIXED)  # one channel, which is no unit
    return np.array_equal(members.dims.get(0, fixed) if members else fixed, layer.units)
