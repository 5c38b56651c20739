"""The context module, seven dilated convolutions that see ever further, behind a dilated VGG-16.

Yu and Koltun, "Multi-Scale Context Aggregation by Dilated Convolutions", ICLR 2016 (https://arxiv.org/abs/1511.07122).
The front end is VGG-16 without its last two poolings, conv5 dilated by 2 and fc6 by 4. The module starts as the
identity: it hands on what the front end says until it learns better.

Differs from the paper: the front end pads each convolution with zeros instead of reflecting 186 pixels around the
image, so that images of any size go through, and so does the module. Its scores are upsampled to the image.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from ranp.models.networks._blocks import conv, max_pool, resized
from ranp.models.networks._vgg import drawn_, fully_connected, stages
from ranp.models.registry import register

DILATIONS = (1, 1, 2, 4, 8, 16, 1)  # of the 3-wide convolutions; they see 3, 5, 9, 17, 33, 65 and 67 pixels
WIDTHS = {"basic": (1, 1, 1, 1, 1, 1, 1), "large": (2, 2, 4, 8, 16, 32, 32)}  # of their outputs, times the input's
_NOISE = 0.01


class Context(nn.Sequential):
    """Seven dilated 3-wide convolutions with ReLU and a 1-wide one, which start as the identity on what is positive.

    Args:
        dims: number of spatial dimensions.
        channels: of the input and the output.
        widths: of the seven convolutions, in units of `channels`.
        noise: standard deviation of the weights that the identity leaves at zero, in units of those it sets. The paper
            has none where all widths are equal. Without it the channels that repeat one input are equal, so that
            nothing tells which of them matter.
    """

    def __init__(self, dims: int, channels: int, widths: Sequence[int], noise: float = _NOISE) -> None:
        layers: list[nn.Module] = []
        for (inputs, outputs), dilation in zip(pairwise((1, *widths)), DILATIONS, strict=True):
            shape = {"padding": dilation, "dilation": dilation}
            layers += [conv(dims)(inputs * channels, outputs * channels, 3, **shape), nn.ReLU(inplace=True)]  # type: ignore[arg-type]
        super().__init__(*layers, conv(dims)(widths[-1] * channels, channels, 1))
        for layer in self:
            if not isinstance(layer, nn.ReLU):
                start_as_identity_(layer, channels, noise)  # type: ignore[arg-type]


@torch.no_grad()
def start_as_identity_(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d, channels: int, noise: float) -> None:
    """Let a convolution hand on its input, of which each of so many channels may lie repeated in a row.

    Input a and output b go together where floor(a channels / inputs) = floor(b channels / outputs). There the centre
    weighs channels / outputs; behind one another the shares multiply to 1.

    Args:
        layer: overwritten; inputs and outputs are multiples of `channels`.
        channels: that are told apart.
        noise: standard deviation of all other weights, in units of the centre's; drawn from torch's global generator.
    """
    outputs, inputs, *kernel = layer.weight.shape
    share = channels / outputs
    source = torch.arange(inputs) * channels // inputs  # (inputs,), which channel each repeats
    goal = torch.arange(outputs) * channels // outputs  # (outputs,)
    layer.weight.normal_(0, 1).mul_(noise * share)
    centre = layer.weight.flatten(2)[..., math.prod(kernel) // 2]  # (outputs, inputs), a view: lengths are odd
    centre[goal[:, None] == source] = share
    if layer.bias is not None:
        layer.bias.zero_()


class DilatedVGG(nn.Module):
    """The front end and the context module.

    Args:
        dims: number of spatial dimensions.
        in_channels: channels of the image.
        classes: of each pixel.
        width: of VGG-16's first stage, published 64.
        hidden: channels of fc6 and fc7.
        widths: of the context module, in units of `classes`.
        noise: of its start; see `Context`.
    """

    def __init__(
        self,
        dims: int,
        in_channels: int,
        classes: int,
        width: int,
        hidden: int,
        widths: Sequence[int],
        noise: float,
    ) -> None:
        super().__init__()
        one, two, three, four, five = stages(dims, in_channels, width, dilations=(1, 1, 1, 1, 2))
        pools = [max_pool(dims)(2, stride=2) for _ in range(3)]
        self.front = nn.Sequential(
            *(one, pools[0], two, pools[1], three, pools[2], four, five),
            *fully_connected(dims, 8 * width, hidden, padding=12, dilation=4),
        )
        scores = drawn_(conv(dims)(hidden, classes, 1))
        assert scores.bias is not None
        nn.init.ones_(scores.bias)  # equal for all classes, and lets each through the module's ReLUs
        self.front.append(scores)
        self.context = Context(dims, classes, widths, noise)

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to logits (B, classes, H, W)."""
        return resized(self.context(self.front(image)), image.shape[2:])


@register("context", spatial=(224, 224))
def context(
    in_channels: int = 3,
    classes: int = 21,
    width: int = 64,
    hidden: int = 4096,
    kind: Literal["basic", "large"] = "basic",
    noise: float = _NOISE,
    spatial_dims: int = 2,
) -> DilatedVGG:
    """Dilated VGG-16 and the context module, `basic` or `large`; `noise` of its start as the identity."""
    return DilatedVGG(spatial_dims, in_channels, classes, width, hidden, WIDTHS[kind], noise)
