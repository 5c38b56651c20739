"""Activations an identity can be drawn through: what a stack of layers must do so that a non-linearity loses nothing.

Two forms, after the paper's chapter on refining segmentation with superpixels (Xu et al., 2020, arXiv 2010.04363):

- **doubling**, where sigma(x) - sigma(-x) = c x for every x. The layer feeds x and -x, the next layer subtracts and
  divides by c. Each c is one line of algebra: ReLU max(x,0) - max(-x,0) = x; LeakyReLU x + delta x; softplus
  log(1+e^x) - log(1+e^-x) = x; logsigmoid(x) = -softplus(-x), so x again; GELU x Phi(x) + x Phi(-x) = x (its tanh form
  as well, the bracket is odd); SiLU x s(x) + x s(-x) = x. The paper's text also prints 1/delta for LeakyReLU;
  1/(1 + delta) is right.
- **see-through** for every other sigma: the outputs are (sigma(x), sigma(x) - x), and the next layer subtracts them.
"""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ranp.errors import UsageError, named, nearest


class Arctan(nn.Module):
    """The inverse tangent, element by element."""

    def forward(self, x: Tensor) -> Tensor:
        """Return arctan(x), same shape."""
        return torch.atan(x)


Activation = str | nn.Module | Callable[[Tensor], Tensor]
"""A name of `ACTIVATIONS`, or any elementwise module or function."""


class Applied(nn.Module):
    """A function of one tensor as a module.

    Args:
        function: elementwise, not in place.
    """

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """Return the function of x."""
        return self.function(x)


class SeeThrough(nn.Module):
    """(sigma(x), sigma(x) - x) side by side: whatever sigma loses, the difference of the halves is x.

    Args:
        activation: any elementwise module that is not in place.
        channel_dim: the dimension the halves are concatenated along.
    """

    def __init__(self, activation: nn.Module, channel_dim: int = 1) -> None:
        super().__init__()
        self.activation = activation
        self.channel_dim = channel_dim

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor with twice the channels of `x`."""
        y = self.activation(x)
        return torch.cat((y, y - x), dim=self.channel_dim)


ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "softplus": nn.Softplus,
    "logsigmoid": nn.LogSigmoid,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "arctan": Arctan,
}
_SLOPE_ONE = (nn.ReLU, nn.LogSigmoid, nn.GELU, nn.SiLU)
_LINEAR_FROM = 20  # torch's softplus returns x above threshold / beta; from 20 on the difference is below 1e-8


def activation_module(activation: Activation) -> nn.Module:
    """Return the module for a name of `ACTIVATIONS` or a function, or a copy of the given module, not in place.

    Raises:
        UsageError: an unknown name, or something that can't be called.
    """
    if isinstance(activation, nn.Module):
        module = copy.deepcopy(activation)
        if getattr(module, "inplace", False):
            setattr(module, "inplace", False)  # noqa: B010 (nn.Module does not declare it)
        return module
    if not isinstance(activation, str):
        if not callable(activation):
            raise UsageError(f"{named('activation', activation)}: expected a name, a module or a function")
        return Applied(activation)
    if activation not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise UsageError(
            f"{named('activation', activation)}: expected one of {known}{nearest(activation, ACTIVATIONS)}"
        )
    return ACTIVATIONS[activation]()


def odd_slope(activation: nn.Module) -> float | None:
    """Return c, not 0, where sigma(x) - sigma(-x) = c x for every x, or None where no such c exists or is known.

    Subclasses are not known: they may compute something else.

    >>> odd_slope(nn.LeakyReLU(0.25)), odd_slope(nn.GELU()), odd_slope(nn.Tanh())
    (1.25, 1.0, None)
    """
    if type(activation) is nn.LeakyReLU:
        return 1.0 + activation.negative_slope or None
    if type(activation) is nn.Softplus:
        return 1.0 if activation.threshold >= _LINEAR_FROM else None
    return 1.0 if type(activation) in _SLOPE_ONE else None
