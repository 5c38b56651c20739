"""The built-in U-Nets with other upsampling, for MODEL on the command line.

    ranp prune ranp.adapters.upsampling.networks:unet2d --set upsampling=fade --set base_width=16 --input 128

`ranp.models` knows no adapters, so that the choice stands here and not among the settings of `unet2d` and `unet3d`.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ranp.adapters.upsampling.swapping import swap_upsampling
from ranp.models import unet


def unet2d(
    upsampling: str = "fade",
    in_channels: int = 3,
    classes: int = 21,
    base_width: int = 64,
    depth: int = 5,
    kernel_size: int = 5,
    skip: str | None = None,
) -> nn.Module:
    """2D U-Net (`ranp.models.unet.unet2d`) that upsamples by `fade`, `fade-lite` or `carafe`.

    Raises:
        UsageError: an unknown method or setting.
    """
    network = unet.unet2d(in_channels, classes, base_width, depth)
    return _swapped(network, upsampling, (in_channels, 2, depth), {"kernel_size": kernel_size, "skip": skip})


def unet3d(
    upsampling: str = "fade",
    in_channels: int = 1,
    classes: int = 4,
    base_width: int = 32,
    depth: int = 4,
    softmax: bool = False,
    kernel_size: int = 3,
    skip: str | None = None,
) -> nn.Module:
    """3D U-Net (`ranp.models.unet.unet3d`) that upsamples by `fade`, `fade-lite` or `carafe`.

    Raises:
        UsageError: an unknown method or setting.
    """
    network = unet.unet3d(in_channels, classes, base_width, depth, softmax)
    return _swapped(network, upsampling, (in_channels, 3, depth), {"kernel_size": kernel_size, "skip": skip})


def _swapped(network: nn.Module, method: str, sizes: tuple[int, int, int], settings: Mapping[str, Any]) -> nn.Module:
    """Swap on the smallest image that leaves the deepest level two positions wide; weights go on from the last seed."""
    channels, dims, depth = sizes
    image = torch.zeros(1, channels, *[2**depth] * dims)
    return swap_upsampling(network, method, example_inputs=image, seed=torch.initial_seed(), **settings)
