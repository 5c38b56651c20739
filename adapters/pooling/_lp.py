"""Lp pooling: (sum x^p)^(1/p), or the power mean (mean x^p)^(1/p), with p fixed or learned.

Both lead to the maximum as p grows. The sum form is torch's `LPPool`; at p = 1 it is the sum, and the mean form the
mean. The gradients are those of reference forms checked against 60 digits; equation (2) of the polynomial pooling paper
states others, which are wrong (docs/pooling.md).
"""

from typing import Any

from torch import Tensor

from ranp.adapters.pooling._exponent import Exponent
from ranp.adapters.pooling._polynomial import check_negative
from ranp.adapters.pooling._pool import Pool, Sizes, refuse_negative
from ranp.kernels.pooling import LP_POOL


class LpPool(Pool):
    """Lp pooling of (B, C, *spatial) without overflow, and with nothing kept for the backward but the input and p.

    Args:
        kernel_size, stride, padding, dilation, ceil_mode, return_indices, dims: as in `Pool`.
        power: p, fixed, or where learning begins; above 0, infinity included.
        mean: whether the elements are averaged rather than summed.
        mode: `"fixed"`; `"layer"` or `"channel"`, one learned p for all or for each channel.
        channels: C, for `"channel"`.
        power_range: of a learned p.
        negative: `"refuse"`: inputs below 0 are an error, which costs a pass over the input and on a GPU a wait.
            `"trust"`: there are none.

    Raises:
        UsageError: an argument out of range or an unknown word; in the forward pass another shape or negative inputs.

    >>> import torch
    >>> x = torch.tensor([[[[3.0, 4.0], [0.0, 0.0]]]])
    >>> [round(LpPool(2, power=2, mean=mean)(x).item(), 4) for mean in (False, True)]
    [5.0, 2.5]
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
        power: float = 2.0,
        mean: bool = False,
        mode: str = "fixed",
        channels: int | None = None,
        power_range: tuple[float, float] = (1.0, 110.0),
        negative: str = "refuse",
    ) -> None:
        super().__init__(kernel_size, stride, padding, dilation, ceil_mode, return_indices, dims=dims)
        check_negative(negative, ("refuse", "trust"))
        self.mean, self.negative = mean, negative
        self.power = Exponent("power", power, mode, channels, power_range, above=True)

    @property
    def channels(self) -> int | None:
        """Return how many channels there are parameters for, or None where it takes any number."""
        return self.power.channels

    def pooled(self, x: Tensor) -> Tensor:
        """Return (B, C, *windows) of x (B, C, *spatial)."""
        if self.negative == "refuse":
            refuse_negative(x, "LpPool", "")
        return LP_POOL(x, self.power(x), self.mean, windows=self.windows)

    def shown(self) -> dict[str, Any]:
        """Return what else `print` shows."""
        return {"mean": self.mean, "negative": self.negative}
