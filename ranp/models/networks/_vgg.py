"""VGG-16, the trunk that most dense networks of 2015 stand on.

Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015
(https://arxiv.org/abs/1409.1556), configuration D. Weights are drawn as He et al. do (ICCV 2015,
https://arxiv.org/abs/1502.01852), without which nothing of the image is left after thirteen layers without norms.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

from torch import nn
from torch.nn.modules.conv import _ConvNd

from ranp.models.networks._blocks import batch_norm, conv, conv_transpose

Layer = TypeVar("Layer", bound=_ConvNd)
VGG16 = ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3))  # (width in units of the first, convolutions) of each stage


def stages(
    dims: int, in_channels: int, width: int, *, norm: bool = False, dilations: Sequence[int] = (1, 1, 1, 1, 1)
) -> list[nn.Sequential]:
    """The thirteen convolutions in five stages, each with ReLU; what pools between them is the caller's.

    Args:
        dims: number of spatial dimensions.
        in_channels: channels of the image.
        width: of the first stage, published 64; the later ones are 2, 4, 8 and 8 times that.
        norm: put batch norm behind each convolution.
        dilations: of each stage.
    """
    widths = [in_channels, *(times * width for times, _ in VGG16)]
    return [
        convolutions(dims, [inputs, *[outputs] * count], norm=norm, dilation=dilation)
        for (inputs, outputs), (_, count), dilation in zip(pairwise(widths), VGG16, dilations, strict=True)
    ]


def mirrored(width: int) -> list[list[int]]:
    """Widths of a decoder that mirrors the stages, deepest first: each stage's last layer leads to the next."""
    shallower = [1, *(times for times, _ in VGG16[:-1])]
    return [
        [*[times * width] * count, after * width]
        for (times, count), after in zip(reversed(VGG16), reversed(shallower), strict=True)
    ]


def convolutions(
    dims: int, widths: Sequence[int], *, norm: bool = False, dilation: int = 1, transposed: bool = False
) -> nn.Sequential:
    """Padded 3-wide convolutions from each width to the next, each with ReLU.

    Args:
        dims: number of spatial dimensions.
        widths: channels of the input, then of each result.
        norm: put batch norm behind each convolution.
        dilation: of each.
        transposed: transposed convolutions of stride 1 instead.
    """
    kind = conv_transpose if transposed else conv
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers.append(drawn_(kind(dims)(inputs, outputs, 3, padding=dilation, dilation=dilation)))
        layers += [batch_norm(dims)(outputs)] if norm else []
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def fully_connected(
    dims: int, inputs: int, hidden: int, kernel: int = 7, *, padding: int = 0, dilation: int = 1
) -> list[nn.Module]:
    """fc6 and fc7 as convolutions, each with ReLU and dropout; fc6 is 7 wide as published."""
    return [
        drawn_(conv(dims)(inputs, hidden, kernel, padding=padding, dilation=dilation)),
        nn.ReLU(inplace=True),
        nn.Dropout(),
        drawn_(conv(dims)(hidden, hidden, 1)),
        nn.ReLU(inplace=True),
        nn.Dropout(),
    ]


def drawn_(layer: Layer) -> Layer:
    """Draw a convolution's weights so that a ReLU behind it keeps the size of the signal; its bias is zero."""
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
