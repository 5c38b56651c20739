"""Weighting by layer and by resource: Eqs. 5.9 and 5.10 of resource-aware neuron pruning.

Xu et al., "RANP: Resource Aware Neuron Pruning at Initialization for 3D CNNs", 3DV 2020
(https://arxiv.org/abs/2010.02488).

Differs from the text: tau is divided by its maximum before the softmax, as the published figures were made; without it
the softmax of Eq. 5.10 is one-hot. A layer whose scores are all equal, or all zero, counts as at its mean.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ranp.cost import CostFunction, LatencyTable
from ranp.cost.paper import contraction
from ranp.cost.polynomials import Evaluator, Polynomial
from ranp.cost.sizes import Sizes
from ranp.errors import UsageError, listed, named
from ranp.graph.graph import Graph

Floats = NDArray[np.float64]
RESOURCES = ("flops", "memory", "latency")


def weigh(scores: Mapping[str, Floats]) -> dict[str, Floats]:
    """Bring the mean score of every layer to the largest of the means (Eq. 5.9).

    Args:
        scores: of each layer's neurons, by layer name; non-negative.

    Returns:
        The scores, each layer's multiplied by max of means / own mean. Neurons of a layer whose scores are all equal
        get the largest mean itself, so that a layer of zeros is not ranked below every other.

    >>> weigh({"a": np.array([1.0, 3.0]), "b": np.array([0.0, 0.0])})
    {'a': array([1., 3.]), 'b': array([2., 2.])}
    """
    means = {name: float(values.mean()) for name, values in scores.items() if values.size}
    largest = max(means.values(), default=0.0)
    return {name: _at_mean(values, means.get(name, 0.0), largest) for name, values in scores.items()}


def _at_mean(values: Floats, mean: float, largest: float) -> Floats:
    if not values.size:
        return values.astype(np.float64)
    if (values == values[0]).all():
        return np.full(values.shape, largest)
    return values / mean * largest


def reweigh(weighted: Mapping[str, Floats], tau: Mapping[str, float], strength: float) -> dict[str, Floats]:
    """Raise the scores of layers that use little of a resource (Eq. 5.10).

    Args:
        weighted: scores of each layer's neurons after Eq. 5.9, by layer name.
        tau: how much of the resource each layer uses; every ranked layer takes part in the softmax.
        strength: lambda.

    Returns:
        The scores, each layer's multiplied by 1 + lambda softmax(-tau / max tau).
    """
    factors = resource_factors({name: tau[name] for name in weighted}, strength)
    return {name: values * factors[name] for name, values in weighted.items()}


def resource_factors(tau: Mapping[str, float], strength: float) -> dict[str, float]:
    """Return the factor of each layer: 1 + lambda softmax(-tau / max tau).

    >>> resource_factors({"a": 1.0, "b": 1.0}, strength=2.0)
    {'a': 2.0, 'b': 2.0}
    """
    if not tau:
        return {}
    values = np.fromiter(tau.values(), dtype=np.float64)
    share = np.exp(-values / (values.max() or 1.0))
    return dict(zip(tau, (1 + strength * share / share.sum()).tolist(), strict=True))


def taus(graph: Graph, resource: str, price: CostFunction | None = None) -> dict[str, float]:
    """Return how much of a resource each convolution or linear layer uses by itself in the full network.

    Operations are those of the paper's convention, memory is output elements; several calls of one layer add up. A
    layer that only runs in training uses none.

    Args:
        graph: traced with the inputs whose costs matter.
        resource: "flops", "memory" or "latency".
        price: which has measured the layers, for the latency.

    Returns:
        tau by layer, in the order of `graph.layers`.

    Raises:
        UsageError: no such resource, or nobody measured it.
    """
    if resource not in RESOURCES:
        raise UsageError(f"resource {resource!r}: expected {listed(RESOURCES)}")
    if resource == "latency":
        times = price.meters.get("latency") if price else None
        if not isinstance(times, LatencyTable):
            raise UsageError(f"{named('reweight', resource)}: needs measured times of layers, which ranp.prune takes")
        return {layer.name: times.layers.get(layer.name, 0.0) for layer in graph.layers}
    sizes = Sizes(graph)
    used = {layer.name: Polynomial() for layer in graph.layers}
    for record in graph.runs["eval"].records:
        name = record.outputs[0].layer
        if name in used and "left" in record.arguments:
            each = contraction(sizes, record) if resource == "flops" else sizes.elements(record.outputs[0])
            used[name] = used[name] + each
    widths = sizes.widths.compiled()(np.ones(graph.count, dtype=bool))
    return dict(zip(used, Evaluator(used.values())(widths).astype(np.float64).tolist(), strict=True))
