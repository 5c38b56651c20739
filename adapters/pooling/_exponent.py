"""Where a pooling's exponent comes from: a number, one learned for the layer or for each channel, or a side branch."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ranp.adapters.pooling._pool import per_channel, positive_channels
from ranp.errors import UsageError, nearest
from ranp.kernels.pooling import FILTER_POOL
from ranp.kernels.pooling_reference import wide
from ranp.kernels.windows import Windows


class _Within(torch.autograd.Function):
    """A clamp that lets a value outside come back: gradients pass that a descent would bring it inside by."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, low: float, high: float) -> Tensor:
        """Return the value, at least low and at most high."""
        ctx.save_for_backward(value)
        ctx.bounds = low, high
        return value.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradient where it keeps the value inside or leads there."""
        (value,), (low, high), (grad,) = ctx.saved_tensors, ctx.bounds, grads
        passes = ((value >= low) | (grad < 0)) & ((value <= high) | (grad > 0))
        return grad * passes, None, None


class Exponent(nn.Module):
    """An exponent of a pooling: fixed, or learned for the whole layer or for each channel and held within a range.

    A learned exponent outside of its range counts as its nearest end and finds back, which a plain clamp would not
    let it.

    Args:
        name: how messages call it.
        value: it has, or begins with.
        mode: `"fixed"`, `"layer"` or `"channel"`.
        channels: C, for `"channel"`.
        least: of a fixed value; more than that where `above` is set.
        bounds: of a learned one.
        above: whether the least value itself is refused.
    """

    def __init__(
        self,
        name: str,
        value: float,
        mode: str,
        channels: int | None,
        bounds: Sequence[float],
        *,
        least: float = 0.0,
        above: bool = False,
    ) -> None:
        super().__init__()
        check_mode(mode, ("fixed", "layer", "channel"))
        check_exponent(name, value, mode, bounds, least, above)
        self.value, self.mode, self.bounds = float(value), mode, tuple(map(float, bounds))
        if mode != "fixed":
            shape = (positive_channels(channels, f"mode={mode!r}"),) if mode == "channel" else ()
            self.exponent = nn.Parameter(torch.full(shape, self.value))

    @property
    def channels(self) -> int | None:
        """Return how many channels have one of their own, or None."""
        return len(self.exponent) if self.mode == "channel" else None

    def forward(self, x: Tensor) -> Tensor:
        """Return the exponent for x (B, C, *spatial), of as many dimensions."""
        dims = x.ndim - 2
        if self.mode == "fixed":
            return torch.full((1,) * x.ndim, self.value, dtype=wide(x), device=x.device)
        value = self.exponent.clamp(*self.bounds) if torch.compiler.is_exporting() else _within(self, self.bounds)
        return per_channel(value, dims)

    def extra_repr(self) -> str:
        """Return what `print` shows of it."""
        return f"{self.value:g}" if self.mode == "fixed" else f"{self.mode}, within {self.bounds}"


def _within(exponent: Exponent, bounds: Sequence[float]) -> Tensor:
    value: Tensor = _Within.apply(exponent.exponent, *bounds)  # type: ignore[no-untyped-call]
    return value


class SideBranch(nn.Module):
    """Predicts alpha for every window: the published form of polynomial pooling.

        u = scale x / (1 + max |x|),      alpha = clamp(bias + factor PReLU(depthwise convolution of u))

    per sample and channel, with windows as the pooling's. No gradient flows back to x. The branch begins with alpha
    equal to the bias: its factors are 0, while the filters are random.

    Args:
        channels: C.
        alpha: where the bias begins.
        windows: of the pooling.
        bounds: of alpha.
        scale: of u; the authors take 1 or 10.
        seed: of the filters; the global generator is left alone.
    """

    def __init__(
        self, channels: int, alpha: float, windows: Windows, bounds: Sequence[float], scale: float, seed: int
    ) -> None:
        super().__init__()
        check_exponent("alpha", alpha, "predicted", bounds, 0.0, False)
        if not (math.isfinite(scale) and scale > 0):
            raise UsageError(f"scale={scale}: expected a positive number")
        self.windows, self.bounds, self.scale = windows, tuple(map(float, bounds)), float(scale)
        generator, sizes = torch.Generator().manual_seed(seed), (channels, 1, *windows.kernel)
        drawn = torch.rand(sizes, generator=generator, device="cpu").to(torch.get_default_device())  # the same on each
        self.filters = nn.Parameter((2 * drawn - 1) / math.prod(windows.kernel) ** 0.5)
        self.slopes = nn.Parameter(torch.full((channels,), 0.25))
        self.factors = nn.Parameter(torch.zeros(channels))
        self.bias = nn.Parameter(torch.full((channels,), float(alpha)))

    def forward(self, x: Tensor) -> Tensor:
        """Return alpha (B, C, *windows) of x (B, C, *spatial)."""
        x, dims = x.detach(), self.windows.dims
        spatial = tuple(range(2, x.ndim))
        largest = torch.maximum(x.amax(spatial, keepdim=True), -x.amin(spatial, keepdim=True))
        # The convolution is linear: x itself, alive anyway, is kept for its gradient, not a scaled copy.
        u = FILTER_POOL(x, self.filters, windows=self.windows) * (self.scale / (1 + largest))
        bent = torch.where(u > 0, u, per_channel(self.slopes, dims) * u)
        alpha = per_channel(self.bias, dims) + per_channel(self.factors, dims) * bent
        return alpha.clamp(*self.bounds)

    def extra_repr(self) -> str:
        """Return what `print` shows of it."""
        return f"channels={len(self.bias)}, within {self.bounds}, scale={self.scale:g}"


def check_mode(mode: str, known: Sequence[str]) -> None:
    """Refuse an unknown mode.

    Raises:
        UsageError: it is.
    """
    if mode not in known:
        raise UsageError(f"mode={mode!r}: expected one of {', '.join(known)}{nearest(str(mode), known)}")


def check_exponent(name: str, value: float, mode: str, bounds: Sequence[float], least: float, above: bool) -> None:
    """Refuse an exponent that is no number, below the least, or outside of the range it is to be learned in.

    Raises:
        UsageError: it is one of these, or the range is none.
    """
    allowed = f"{'above' if above else 'at least'} {least:g}"
    if not (value > least or (value == least and not above)):
        raise UsageError(f"{name}={value}: expected a number {allowed}")
    if mode == "fixed":
        return
    low, high = bounds
    if not (low < high < math.inf and (low > least or (low == least and not above))):
        raise UsageError(f"{name}_range={tuple(bounds)}: expected two finite numbers, the first {allowed}")
    if not low <= value <= high:
        raise UsageError(f"{name}={value}: expected {low:g} to {high:g}, {name}_range, as it is learned")
