"""Transparent k^n convolutions: a pair of dense random filter banks that is the identity until it is trained.

The paper (Xu et al., 2020, arXiv 2010.04363) leaves larger kernels to future work; this construction is ours. Let H be
any random C -> C filter bank, I the unit impulse, t a number. Filter banks that are polynomials of one H commute, so

    [I + t (I - H)] H  +  [I - t H] (I - H)  =  I

is an identity of finite filters: the first layer is the bank [H; I - H], the second [I + t (I - H), I - t H], both of
size k^n. No linear system is solved, so nothing is ill-conditioned, and 2 C hidden channels are enough in any number of
dimensions (inverting generic random filters by least squares takes 2.8 C in 2D and 4.6 C in 3D for 3^n kernels).
A random matrix P with orthonormal columns mixes the hidden channels, P^T unmixes them, and every weight is dense.

What is exact: with `padding="full"` every output value, because the hidden map is one kernel radius larger than the
image and the second layer drops that ring. With `padding="same"`, the usual kind, outputs closer to the border than the
radius k // 2 differ: there the second layer would need hidden values outside the image, and it reads zeros.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ranp.adapters.transparent.activations import Activation, SeeThrough, activation_module, odd_slope
from ranp.adapters.transparent.init import orthonormal
from ranp.errors import UsageError

_CONVOLUTIONS: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_MIX = 1.0  # t: any number will do; 1 keeps both banks of the second layer of the same size


class TransparentConv(nn.Module):
    """Two k^n convolutions with an activation between: (B, C, ...) -> same shape, unchanged at first. Chain for more.

    Args:
        channels: C.
        hidden: channels between the two layers, at least 2 C (the default); doubled by an activation.
        kernel_size: odd, one number or one per dimension.
        dims: 1, 2 or 3 spatial dimensions.
        activation: as in `TransparentStack`.
        padding: `"full"` is exact everywhere, `"same"` everywhere but within `kernel_size // 2` of the border.
        bias_scale: standard deviation of the hidden biases, in units of the input.
        seed: of every draw; the global generator is left alone.
        dtype: of the parameters; default torch's.
        device: of the parameters.

    Raises:
        UsageError: hidden below 2 C, an even kernel, another number of dims, or an unknown name.
    """

    def __init__(
        self,
        channels: int,
        hidden: int | None = None,
        kernel_size: int | Sequence[int] = 3,
        dims: int = 2,
        activation: Activation | None = None,
        padding: str = "full",
        *,
        bias_scale: float = 1.0,
        seed: int = 0,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        hidden = 2 * channels if hidden is None else hidden
        kernel = (kernel_size,) * dims if isinstance(kernel_size, int) else tuple(kernel_size)
        _check(channels, hidden, kernel, dims, padding)
        first, second, bias = filter_pair(channels, hidden, kernel, bias_scale, seed)
        closing = -torch.einsum("om...,m->o", second, bias)
        self.activation: nn.Module = nn.Identity()
        if activation is not None:
            self.activation = activation_module(activation)
            slope = odd_slope(self.activation)
            second = torch.cat((second, -second), 1) / (slope or 1.0)
            if slope is None:
                self.activation = SeeThrough(self.activation)
            else:
                first, bias = torch.cat((first, -first)), torch.cat((bias, -bias))
        radius = [size // 2 for size in kernel]
        outer, inner = ([2 * r for r in radius], [0] * dims) if padding == "full" else (radius, radius)
        self.encode = _convolution(first, bias, outer, dtype, device)
        self.decode = _convolution(second, closing, inner, dtype, device)

    def forward(self, x: Tensor) -> Tensor:
        """Return the pair's output, same shape as `x` (B, C, ...)."""
        return self.decode(self.activation(self.encode(x)))  # type: ignore[no-any-return]


def filter_pair(
    channels: int, hidden: int, kernel: Sequence[int], bias_scale: float, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw the two filter banks whose composition is the unit impulse, and the bias between them, in float64.

    Args:
        channels: C.
        hidden: M, at least 2 C.
        kernel: odd sizes, one per dimension.
        bias_scale: standard deviation of the bias.
        seed: of every draw.

    Returns:
        weights (M, C, *kernel), weights (C, M, *kernel), bias (M,); correlations, as torch's convolutions are.
    """
    generator = torch.Generator().manual_seed(seed)
    impulse = torch.zeros(channels, channels, *kernel, dtype=torch.float64)
    impulse.flatten(2)[:, :, math.prod(kernel) // 2] = torch.eye(channels, dtype=torch.float64)
    bank = torch.randn(impulse.shape, generator=generator, dtype=torch.float64) / math.sqrt(4 * impulse[0].numel())
    mix = orthonormal(hidden, 2 * channels, generator)
    first = torch.einsum("mu,uc...->mc...", mix, torch.cat((bank, impulse - bank), 0))
    undo = torch.cat((impulse + _MIX * (impulse - bank), impulse - _MIX * bank), 1)
    second = torch.einsum("cu...,mu->cm...", undo, mix)
    return first, second, torch.randn(hidden, generator=generator, dtype=torch.float64) * bias_scale


def _convolution(
    weight: Tensor, bias: Tensor, padding: Sequence[int], dtype: torch.dtype | None, device: torch.device | str | None
) -> nn.Module:
    dtype = dtype or torch.get_default_dtype()
    kind = _CONVOLUTIONS[weight.ndim - 2]
    module: nn.Module = kind(
        weight.shape[1], weight.shape[0], tuple(weight.shape[2:]), padding=tuple(padding), device="meta"
    )
    module.weight = nn.Parameter(weight.to(device, dtype).contiguous())
    module.bias = nn.Parameter(bias.to(device, dtype))
    return module


def _check(channels: int, hidden: int, kernel: Sequence[int], dims: int, padding: str) -> None:
    if dims not in _CONVOLUTIONS:
        raise UsageError(f"dims={dims}: expected 1, 2 or 3")
    if len(kernel) != dims or any(size < 1 or size % 2 == 0 for size in kernel):
        raise UsageError(f"kernel_size={tuple(kernel)}: expected {dims} odd sizes")
    if channels < 1 or hidden < 2 * channels:
        raise UsageError(f"hidden={hidden}: expected at least {2 * channels}, twice the channels")
    if padding not in ("full", "same"):
        raise UsageError(f"padding={padding!r}: expected 'full' or 'same'")
