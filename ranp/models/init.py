"""Fresh weights before scoring, as the published method draws them (thesis section 5.3; reference rules 3.1).

Weights of convolutions and linear layers: Glorot normal or orthogonal. Batch norm: weight ~ N(1, 0.02), bias 0. Bias of
a convolution ~ N(0, 1). Everything else keeps its values.
"""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import parametrize

from ranp.errors import UsageError, named, nearest

Scheme = Literal["glorot", "orthogonal", "keep"]
_NORM_SPREAD = 0.02  # standard deviation of batch norm's weight around 1


@torch.no_grad()
def initialise_(module: nn.Module, scheme: Scheme, generator: torch.Generator) -> None:
    """Overwrite the module's weights in place.

    Every number is drawn on the CPU in the order of `module.modules()`, so that one seed gives the same weights on
    every device.

    Args:
        module: the network to change.
        scheme: `"keep"` changes nothing.
        generator: a CPU generator, the only source of randomness.

    Raises:
        UsageError: an unknown scheme.
    """
    if scheme not in get_args(Scheme):
        known = get_args(Scheme)
        raise UsageError(f"{named('init', scheme)}: expected {', '.join(known)}{nearest(str(scheme), known)}")
    if scheme == "keep":
        return
    draw = nn.init.xavier_normal_ if scheme == "glorot" else nn.init.orthogonal_
    for layer in module.modules():
        if isinstance(layer, (_ConvNd, nn.Linear)):
            _set(layer, "weight", lambda values: draw(values, generator=generator))
        if isinstance(layer, _ConvNd) and layer.bias is not None:
            _set(layer, "bias", lambda values: values.normal_(generator=generator))
        if isinstance(layer, _BatchNorm) and layer.affine:
            _set(layer, "weight", lambda values: values.normal_(1.0, _NORM_SPREAD, generator=generator))
            layer.bias.zero_()


def _set(layer: nn.Module, name: str, draw: Callable[[Tensor], Tensor]) -> None:
    old = getattr(layer, name)
    new = draw(torch.empty(old.shape, dtype=torch.float32)).to(old)
    if parametrize.is_parametrized(layer, name):
        setattr(layer, name, new)  # the parametrisation turns it into its own parameters
    else:
        old.copy_(new)
