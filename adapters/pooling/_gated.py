"""Gated pooling: a mix of maximum and mean, by a gate that each window opens for itself.

Lee, Gallagher, Tu, "Generalizing Pooling Functions in Convolutional Neural Networks: Mixed, Gated, and Tree" (AISTATS
2016): y = g max + (1 - g) mean, g = sigmoid(<omega, window>), in the polynomial pooling authors' form, which has one
omega for all channels of a layer.
"""

import torch
from torch import Tensor, nn

from ranp.adapters.pooling._pool import Pool, Sizes, mean_of_windows, positive_channels
from ranp.kernels.pooling import FILTER_POOL
from ranp.kernels.pooling_reference import MAX_POOL


class GatedPool(Pool):
    """Gated pooling of (B, C, *spatial). It begins half open, halfway between mean and maximum.

    For the backward are kept, beside the input, four maps of the output's size and the places of the maxima.

    Args:
        kernel_size, stride, padding, dilation, ceil_mode, return_indices, dims: as in `Pool`.
        channels: C, for one omega per channel; None for one omega for all.

    Raises:
        UsageError: an argument out of range; in the forward pass another shape.
    """

    def __init__(
        self,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Sizes = 0,
        dilation: Sizes = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
        *,
        dims: int = 2,
        channels: int | None = None,
    ) -> None:
        super().__init__(kernel_size, stride, padding, dilation, ceil_mode, return_indices, dims=dims)
        own = channels is not None
        self.per_channel = own
        count = positive_channels(channels, "one omega per channel") if own else 1
        self.omega = nn.Parameter(torch.zeros(count, 1, *self.kernel_size))

    @property
    def channels(self) -> int | None:
        """Return how many channels there are parameters for, or None where it takes any number."""
        return len(self.omega) if self.per_channel else None

    def pooled(self, x: Tensor) -> Tensor:
        """Return (B, C, *windows) of x (B, C, *spatial)."""
        windows = self.windows
        gate = torch.sigmoid(FILTER_POOL(x, self.omega, windows=windows))
        largest, mean = MAX_POOL[windows.dims](x, *windows.settings), mean_of_windows(x, windows)
        return mean + gate * (largest - mean)
