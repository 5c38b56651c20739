"""Layers of any number of spatial dimensions, picked by that number.

>>> conv(3)
<class 'torch.nn.modules.conv.Conv3d'>
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


def conv(dims: int) -> type[nn.Conv1d] | type[nn.Conv2d] | type[nn.Conv3d]:
    """The convolution over `dims` spatial dimensions."""
    return (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]


def conv_transpose(dims: int) -> type[nn.ConvTranspose1d] | type[nn.ConvTranspose2d] | type[nn.ConvTranspose3d]:
    """The transposed convolution over `dims` spatial dimensions."""
    return (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[dims - 1]


def batch_norm(dims: int) -> type[nn.BatchNorm1d] | type[nn.BatchNorm2d] | type[nn.BatchNorm3d]:
    """Batch norm of images with `dims` spatial dimensions."""
    return (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[dims - 1]


def max_pool(dims: int) -> type[nn.MaxPool1d] | type[nn.MaxPool2d] | type[nn.MaxPool3d]:
    """Max pooling over `dims` spatial dimensions."""
    return (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)[dims - 1]


def max_unpool(dims: int) -> type[nn.MaxUnpool1d] | type[nn.MaxUnpool2d] | type[nn.MaxUnpool3d]:
    """What puts max-pooled values over `dims` spatial dimensions back to where they came from."""
    return (nn.MaxUnpool1d, nn.MaxUnpool2d, nn.MaxUnpool3d)[dims - 1]


def resized(x: Tensor, size: Sequence[int]) -> Tensor:
    """Interpolate linearly along each of its spatial dimensions, corners not aligned; its own size changes nothing."""
    mode = ("linear", "bilinear", "trilinear")[x.dim() - 3]
    return F.interpolate(x, size=tuple(size), mode=mode, align_corners=False)


def conv_norm(
    dims: int,
    inputs: int,
    outputs: int,
    kernel: int,
    *,
    stride: int | tuple[int, ...] = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
) -> nn.Sequential:
    """A bias-free convolution and its batch norm."""
    layer = conv(dims)(inputs, outputs, kernel, stride, padding, dilation, groups, bias=False)  # type: ignore[arg-type]
    return nn.Sequential(layer, batch_norm(dims)(outputs))


def scaled(channels: int, width: float) -> int:
    """A published channel count times a width multiplier, at least 1."""
    return max(1, round(channels * width))
