"""Polynomial pooling: y = sum x^(alpha+1) / sum x^alpha, which leads from the mean (alpha = 0) to the maximum.

Wei et al., "Building Detail-Sensitive Semantic Segmentation Networks with Polynomial Pooling" (CVPR 2019). Of the paper
itself only the abstract was at hand; the side branch that predicts alpha, its ranges and the shift of negative inputs
are those of the first author's code. The differences are told in docs/pooling.md.
"""

from typing import Any

from torch import Tensor

from ranp.adapters.pooling._exponent import Exponent, SideBranch, check_mode
from ranp.adapters.pooling._pool import Pool, Sizes, positive_channels, refuse_negative
from ranp.errors import UsageError, nearest
from ranp.kernels.pooling import P_POOL

MODES = ("fixed", "layer", "channel", "predicted")
NEGATIVE = ("shift", "refuse", "trust")


class PPool(Pool):
    """Polynomial pooling of (B, C, *spatial), each channel for itself.

    alpha = 0 is the mean and infinity the maximum, gradients included; from 70 on y is close to the maximum, while
    every element of a window near to it has a part in the gradient. Computed so that float32 neither overflows nor
    underflows, and with nothing kept for the backward but the input and alpha. An element that is 0 has weight only at
    alpha = 0 and gets no gradient otherwise; a window of zeros gives 0.

    Args:
        kernel_size, stride, padding, dilation, ceil_mode, return_indices, dims: as in `Pool`.
        alpha: fixed, or where learning begins; from 0 to infinity.
        mode: `"fixed"`; `"layer"` or `"channel"`, one learned alpha for all or for each channel; `"predicted"`, an
            alpha for every window by a side branch.
        channels: C, for `"channel"` and `"predicted"`.
        alpha_range: of a learned or predicted alpha. The authors' [1, 110] has no mean in it; [0, 110] has.
        negative: what becomes of inputs below 0, where the definition ends. `"shift"`, as published: the least value of
            each sample and channel is taken off before, where it is negative, and added again. `"refuse"`: an error,
            which costs a pass over the input and on a GPU a wait. `"trust"`: there are none.
        scale: of the side branch's input.
        seed: of the side branch's filters.

    Raises:
        UsageError: an argument out of range or an unknown word; in the forward pass another shape, or negative inputs
            where they are refused.

    >>> import torch
    >>> x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    >>> [round(PPool(2, alpha=alpha)(x).item(), 4) for alpha in (0, 2, float("inf"))]
    [2.5, 3.3333, 4.0]
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
        alpha: float = 70.0,
        mode: str = "fixed",
        channels: int | None = None,
        alpha_range: tuple[float, float] = (1.0, 110.0),
        negative: str = "shift",
        scale: float = 10.0,
        seed: int = 0,
    ) -> None:
        super().__init__(kernel_size, stride, padding, dilation, ceil_mode, return_indices, dims=dims)
        check_mode(mode, MODES)
        check_negative(negative, NEGATIVE)
        self.mode, self.negative = mode, negative
        self.alpha: Exponent | SideBranch
        if mode == "predicted":
            wanted = positive_channels(channels, f"mode={mode!r}")
            self.alpha = SideBranch(wanted, alpha, self.windows, alpha_range, scale, seed)
        else:
            self.alpha = Exponent("alpha", alpha, mode, channels, alpha_range)

    @property
    def channels(self) -> int | None:
        """Return how many channels there are parameters for, or None where it takes any number."""
        return len(self.alpha.bias) if isinstance(self.alpha, SideBranch) else self.alpha.channels

    def pooled(self, x: Tensor) -> Tensor:
        """Return (B, C, *windows) of x (B, C, *spatial)."""
        shift = None
        if self.negative == "shift":
            shift = x.detach().amin(tuple(range(2, x.ndim)), keepdim=True).clamp(max=0)
        elif self.negative == "refuse":
            refuse_negative(x, "PPool", "; negative='shift' takes the least value off before")
        return P_POOL(x, self.alpha(x), shift, windows=self.windows)

    def shown(self) -> dict[str, Any]:
        """Return what else `print` shows."""
        return {"negative": self.negative}


def check_negative(negative: str, known: tuple[str, ...]) -> None:
    """Refuse an unknown word.

    Raises:
        UsageError: it is.
    """
    if negative not in known:
        raise UsageError(f"negative={negative!r}: expected one of {', '.join(known)}{nearest(str(negative), known)}")
