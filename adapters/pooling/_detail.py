"""Detail-preserving pooling: a mean in which elements weigh more the more they differ from their neighbourhood.

Saeedan, Weber, Goesele, Roth, "Detail-Preserving Pooling in Deep Networks" (CVPR 2018):

    y = sum w x / sum w,      w = alpha + (q / mean q)^(lambda / 2),      q = f(x - reference)^2 + 0.001

f keeps both signs, or only what lies above the reference, which is the mean of the window ("lite") or a learned filter
("full"). The formulas are those of the official code, of whose two versions, which normalise q by its mean and by its
sum, this is the one with the mean. Theirs is for 2 x 2 windows; any others are our extension.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ranp.adapters.pooling._pool import Pool, Sizes, per_channel, positive_channels
from ranp.errors import UsageError, nearest
from ranp.kernels.pooling import DPP_POOL, FILTER_POOL

FORMS = ("lite", "full")
LARGEST_OFFSET = 10.0


class DPP(Pool):
    """Detail-preserving pooling of (B, C, *spatial), each channel for itself, inputs of any sign.

    lambda = exp(lambda') and alpha = exp(min(alpha', 10)) are learned per channel as their logarithms, which begin at
    0 and should have no weight decay (`param_groups`). Nothing is kept for the backward but the input, the parameters
    and the full form's reference.

    Args:
        kernel_size, stride, padding, dilation, ceil_mode, return_indices, dims: as in `Pool`.
        channels: C.
        form: `"lite"`, the reference is the mean of the window, or `"full"`, a learned filter of one element more per
            dimension that begins one before the window (3 x 3 for 2 x 2 windows), with a bias. It begins as the mean.
        symmetric: whether elements below the reference gain weight too.

    Raises:
        UsageError: an argument out of range or an unknown form; in the forward pass another shape.
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
        channels: int,
        dims: int = 2,
        form: str = "lite",
        symmetric: bool = False,
    ) -> None:
        super().__init__(kernel_size, stride, padding, dilation, ceil_mode, return_indices, dims=dims)
        count = positive_channels(channels, "its parameters")
        if form not in FORMS:
            raise UsageError(f"form={form!r}: expected one of {', '.join(FORMS)}{nearest(str(form), FORMS)}")
        self.form, self.symmetric = form, symmetric
        self.log_strength = nn.Parameter(torch.zeros(count))
        self.log_offset = nn.Parameter(torch.zeros(count))
        if form == "full":
            mean = torch.full((count, 1, *self.kernel_size), 1 / math.prod(self.kernel_size))
            self.filters = nn.Parameter(F.pad(mean, [1, 0] * dims))
            self.bias = nn.Parameter(torch.zeros(count))

    @property
    def channels(self) -> int:
        """Return how many channels there are parameters for."""
        return len(self.log_strength)

    def pooled(self, x: Tensor) -> Tensor:
        """Return (B, C, *windows) of x (B, C, *spatial)."""
        windows, reference = self.windows, None
        if self.form == "full":
            reference = FILTER_POOL(x, self.filters, windows=windows) + per_channel(self.bias, windows.dims)
        strength = per_channel(self.log_strength.exp(), windows.dims)
        offset = per_channel(self.log_offset.clamp(max=LARGEST_OFFSET).exp(), windows.dims)
        return DPP_POOL(x, reference, strength, offset, not self.symmetric, windows=windows)

    def shown(self) -> dict[str, Any]:
        """Return what else `print` shows."""
        return {"form": self.form, "symmetric": self.symmetric}
