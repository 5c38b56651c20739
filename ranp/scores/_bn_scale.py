"""bn-scale: |gamma| of the affine norm right behind a layer, which scales what its neuron gives.

Liu, Li, Shen, Huang, Yan and Zhang, "Learning Efficient Convolutional Networks through Network Slimming" (ICCV 2017).
There gammas are trained with an L1 penalty, and all layers are ranked together: `--weighting none`. A layer without
such a norm, which the paper does not prune, is scored by the sum of |w| over its neuron, scaled so that the layer's
mean is that of all gammas; a note names such layers.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from ranp.errors import UnsupportedError, some
from ranp.scores._tally import ByNeuron, Part, joined


class NormScale(ByNeuron):
    """Scales of norms, without data."""

    norms = True

    def part(self, values: Mapping[str, Tensor], gradients: Mapping[str, Tensor], where: str) -> Part:
        """Return the score of each neuron, float64; of gradients the signs of the values are expected.

        Raises:
            UnsupportedError: no layer has an affine norm right behind it.
        """
        sums = self.sums(values, gradients, where)
        scales = {each.layer.name: sums["total", each.vectors[0]] for each in self.sources if not each.weight}
        if not scales:
            raise UnsupportedError("bn-scale: no layer has an affine norm right behind it; score with l1 or fpgm")
        mean = torch.cat(list(scales.values())).mean()
        for each in self.sources:
            if each.weight:
                sizes = joined(sums, each)
                scales[each.layer.name] = sizes * (mean / sizes.mean()) if sizes.any() else sizes
        return {("total", name): tensor for name, tensor in scales.items()}

    def notes(self) -> list[str]:
        """Name the layers that have no norm."""
        bare = [each.layer.module or each.layer.name for each in self.sources if each.weight]
        if not bare:
            return []
        return [f"{len(bare)} layers have no affine norm right behind them ({some(bare)}): their |w| stands for it"]
