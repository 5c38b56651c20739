"""What scoring leaves: one number per neuron, and for SNIP one per weight element."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from ranp.graph.graph import Graph
from ranp.graph.tape import Layer
from ranp.scores._neurons import by_inputs, rows


def summary(values: Mapping[str, NDArray[np.float64]]) -> dict[str, dict[str, float]]:
    """Return the least, mean and largest value of each layer's neurons.

    >>> summary({"a": np.array([1.0, 3.0])})
    {'a': {'min': 1.0, 'mean': 2.0, 'max': 3.0}}
    """
    return {
        name: {"min": float(each.min()), "mean": float(each.mean()), "max": float(each.max())}
        for name, each in values.items()
        if each.size
    }


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of neurons; larger means that the loss depends on it more.

    Args:
        method: a word of `ranp.options.Method`.
        reduce: "sum", "mean" or "max" over a neuron's elements.
        batches: how many were averaged; 0 for those that need none.
        neurons: by layer (its weight parameter), float64 (O,) in the order of its output channels.
        elements: for `snip`, by weight and bias parameter, in its shape; float32, as they are as many as the weights.
        transposed: whether neurons of transposed convolutions are their "outputs" or, as published, their "inputs".
        notes: what a person should know: norms that were zero, layers that score zero.
    """

    method: str
    reduce: str
    batches: int
    neurons: dict[str, NDArray[np.float64]]
    elements: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    transposed: str = "outputs"
    notes: tuple[str, ...] = ()

    def summary(self) -> dict[str, dict[str, float]]:
        """Return the least, mean and largest score of each layer."""
        return summary(self.neurons)

    def largest_elements(self, graph: Graph) -> dict[str, NDArray[np.float64]]:
        """Return for each layer the largest element of each neuron, its bias included: (O,), only for `snip`."""
        return {layer.name: self._largest(layer) for layer in graph.layers}

    def _largest(self, layer: Layer) -> NDArray[np.float64]:
        if layer.name not in self.elements:
            return np.full(len(layer.units), np.inf)  # it can't be scored, and stays
        found = rows(torch.from_numpy(self.elements[layer.name]), layer, self.transposed).amax(1)  # (O,)
        bias = None if layer.bias is None or by_inputs(layer, self.transposed) else self.elements.get(layer.bias)
        if bias is not None:
            found = torch.maximum(found, torch.from_numpy(bias))
        return found.double().numpy()
