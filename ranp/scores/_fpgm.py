"""fpgm: how far a filter is from all others of its layer; the nearest to their geometric median can be made of them.

He, Liu, Wang, Hu and Yang, "Filter Pruning via Geometric Median for Deep Neural Networks Acceleration" (CVPR 2019):

    sum over the layer's filters j of || F_i - F_j ||_2

The paper ranks within a layer and prunes all alike; between layers, the rule and the weighting of `select` decide.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from ranp.scores._neurons import rows
from ranp.scores._tally import ByNeuron, Part


class GeometricMedian(ByNeuron):
    """Distances between the filters of each layer; biases are no part of them, and neither is data."""

    def part(self, values: Mapping[str, Tensor], gradients: Mapping[str, Tensor], where: str) -> Part:
        """Return the sum of each filter's distances, float64; gradients are not looked at."""
        found = {}
        for name, layer in self.layers.items():
            filters = rows(values[name].detach(), layer, self.transposed)  # (O, elements)
            filters = (torch.view_as_real(filters).flatten(1) if filters.is_complex() else filters).double()
            # without matrix products, whose rounding would leave equal filters apart
            distances = torch.cdist(filters, filters, compute_mode="donot_use_mm_for_euclid_dist")  # (O, O)
            found["total", name] = distances.sum(1)
        return found
