"""Bilinear interpolation as a transposed convolution, fixed or where learning starts from.

Long, Shelhamer, Darrell, "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015
(https://arxiv.org/abs/1411.4038), and the filler of that name in their Caffe: for a factor f a filter 2 f - f % 2 wide,
1 - |i / f - c| along each axis with c = (2 f - 1 - f % 2) / (2 f). It equals `interpolate(align_corners=False)` inside
and darkens the border, where half of the filter meets nothing.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ranp.models.networks._blocks import conv_transpose


def bilinear_filter(dims: int, factor: int) -> Tensor:
    """The filter that upsamples by a whole factor, (k, ..., k) over so many dimensions; it sums to factor^dims."""
    width = 2 * factor - factor % 2
    centre = (2 * factor - 1 - factor % 2) / (2 * factor)
    ramp = 1 - (torch.arange(width) / factor - centre).abs()
    weights = torch.ones(())
    for _ in range(dims):
        weights = weights[..., None] * ramp
    return weights


class BilinearUpsampling(nn.Module):
    """A fixed transposed convolution that upsamples each channel by itself.

    Args:
        dims: number of spatial dimensions.
        channels: of the input and of the result.
        factor: of the upsampling, a whole number.
        padding: cut from each side of the result; factor // 2 makes it `factor` times as large as the input.
    """

    weight: Tensor

    def __init__(self, dims: int, channels: int, factor: int, padding: int = 0) -> None:
        super().__init__()
        self.factor, self.padding = factor, padding
        weight = bilinear_filter(dims, factor)
        self.register_buffer("weight", weight.expand(channels, 1, *weight.shape).clone())  # (C, 1, k, ..., k)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, factor (H - 1) + k - 2 padding, ...)."""
        upsample = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[x.dim() - 3]
        return upsample(x, self.weight, stride=self.factor, padding=self.padding, groups=x.shape[1])


def learned_bilinear(
    dims: int, channels: int, factor: int
) -> nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d:
    """A transposed convolution that upsamples each channel by itself, bilinearly, until it is trained."""
    weight = bilinear_filter(dims, factor)
    layer = conv_transpose(dims)(channels, channels, weight.shape[0], stride=factor, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(channels).view(channels, channels, *[1] * dims) * weight)
    return layer
