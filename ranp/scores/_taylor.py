"""taylor: the square of how much the loss would change, to first order, if a neuron were gone.

Molchanov, Mallya, Tyree, Frosio and Kautz, "Importance Estimation for Neural Network Pruning" (CVPR 2019), the group
contribution of Eq. 9: with S the elements of a neuron, the mean over batches of

    (sum over s in S of w_s dL/dw_s)^2

Behind an affine norm S is its gamma and beta, the paper's gate after the norm: a sum over the filter is zero there, as
the norm undoes any change of its scale. The paper takes the gradient of each minibatch while it trains; here as many
batches as are given, without a step between.
"""

from collections.abc import Mapping

from torch import Tensor

from ranp.scores._tally import ByNeuron, Part, joined


class Taylor(ByNeuron):
    """Sums over batches of squared changes of the loss."""

    norms = True

    def part(self, values: Mapping[str, Tensor], gradients: Mapping[str, Tensor], where: str) -> Part:
        """Return the squares that one batch adds.

        Raises:
            UsageError: a gradient is not finite.
        """
        sums = self.sums(values, gradients, where)
        squares = {("total", each.layer.name): joined(sums, each).square() for each in self.sources}  # (O,)
        return {**squares, **{key: tensor for key, tensor in sums.items() if key[0] == "cancelled"}}
