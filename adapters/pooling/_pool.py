"""What all poolings share: the windows, the shapes they take, and the places of the maxima."""

import functools
import operator
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from ranp.adapters.pooling._pruning import pool as pool  # registers the rule
from ranp.errors import UsageError
from ranp.kernels.pooling import check, exporting
from ranp.kernels.pooling_reference import MAX_POOL, count_of, wide
from ranp.kernels.windows import Windows

CONVOLUTIONS: dict[int, Any] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
AVERAGE: dict[int, Any] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
Sizes = int | Sequence[int]
"""One number for all dimensions, or one for each."""


class Pool(nn.Module):
    """A pooling with the arguments of torch's max pools; subclasses say what becomes of a window.

    A window holds the elements that lie in the input: padding never counts, not even in a mean, as with
    `count_include_pad=False`.

    Args:
        kernel_size: of a window.
        stride: from a window to the next, by default the kernel size.
        padding: on both sides, at most half the kernel size.
        dilation: from an element of a window to the next.
        ceil_mode: whether a last window that reaches over the end counts.
        return_indices: whether to return as well where the largest element of each window lies, as `MaxUnpool` takes
            it. It goes back to the place of the maximum, although it is not the maximum's value.
        dims: spatial dimensions: 1, 2 or 3.

    Raises:
        UsageError: an argument out of range; in the forward pass an input of another shape or type.
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
    ) -> None:
        super().__init__()
        if dims not in CONVOLUTIONS:
            raise UsageError(f"dims={dims}: expected 1, 2 or 3")
        self.kernel_size = _sizes("kernel_size", kernel_size, dims, 1)
        self.stride = _sizes("stride", kernel_size if stride is None else stride, dims, 1)
        self.padding = _sizes("padding", padding, dims, 0)
        self.dilation = _sizes("dilation", dilation, dims, 1)
        self.ceil_mode, self.return_indices = ceil_mode, return_indices
        if any(2 * pad > size for pad, size in zip(self.padding, self.kernel_size, strict=True)):
            raise UsageError(f"padding={padding}: expected at most half of kernel_size={kernel_size}")

    @property
    def windows(self) -> Windows:
        """Return the windows."""
        return Windows(self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)

    @property
    def channels(self) -> int | None:
        """Return how many channels there are parameters for, or None where it takes any number."""
        return None

    def forward(self, input: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return (B, C, *windows) of (B, C, *spatial), and indices where they are wanted; the batch may be missing."""
        windows, name = self.windows, type(self).__name__
        if input.ndim == windows.dims + 1:
            result = self.forward(input.unsqueeze(0))
            return result.squeeze(0) if isinstance(result, Tensor) else (result[0].squeeze(0), result[1].squeeze(0))
        try:
            check(input, (), windows)
        except ValueError as error:
            raise UsageError(f"{name}: {error}") from None
        if self.channels not in (None, input.shape[1]):
            raise UsageError(f"{name}: expected {self.channels} channels, got x {tuple(input.shape)}")
        result = self.pooled(input)
        if not self.return_indices:
            return result
        return result, MAX_POOL[windows.dims](input.detach(), *windows.settings, return_indices=True)[1]

    def pooled(self, x: Tensor) -> Tensor:
        """Return (B, C, *windows) of x (B, C, *spatial)."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        """Return what `print` shows of the layer."""
        shown = {name: getattr(self, name) for name in ("kernel_size", "stride", "padding", "dilation")}
        shown |= {name: True for name in ("ceil_mode", "return_indices") if getattr(self, name)}
        shown |= {} if self.channels is None else {"channels": self.channels}
        return ", ".join(f"{name}={value}" for name, value in (shown | self.shown()).items())

    def shown(self) -> dict[str, Any]:
        """Return what else `print` shows."""
        return {}


def _sizes(name: str, given: Sizes, dims: int, least: int) -> tuple[int, ...]:
    try:
        sizes = tuple(map(operator.index, given)) if isinstance(given, Sequence) else (operator.index(given),) * dims
    except TypeError:
        sizes = ()
    if len(sizes) != dims or min(sizes) < least:
        raise UsageError(f"{name}={given!r}: expected a whole number of at least {least}, or {dims} of them")
    return sizes


def positive_channels(channels: int | None, why: str) -> int:
    """Return the number of channels there are to be parameters for.

    Raises:
        UsageError: it is not given, or below 1.
    """
    if channels is None or channels < 1:
        raise UsageError(f"channels={channels}: expected how many channels there are, for {why}")
    return channels


def per_channel(vector: Tensor, dims: int) -> Tensor:
    """Return a vector (C,), or a number, as what broadcasts against (B, C, *dims sizes)."""
    return vector.reshape(-1, *[1] * dims)


def depthwise(x: Tensor, filters: Tensor, windows: Windows, lead: int = 0) -> Tensor:
    """Return each channel's windows times its filter, (B, C, *counts); outside of the input there are zeros.

    Args:
        x: (B, C, *spatial).
        filters: (C, 1, *kernel).
        windows: where the filters lie, but for the kernel's size.
        lead: how many elements a filter begins before its window.
    """
    padded = F.pad(x, windows.widths(lead)) if windows.leaves_input or lead else x
    result = CONVOLUTIONS[windows.dims](
        padded, filters.to(x.dtype), stride=windows.stride, dilation=windows.dilation, groups=x.shape[1]
    )
    if windows.ceil:
        for dim, count in enumerate(windows.counts(x.shape[2:]), start=2):
            result = result.narrow(dim, 0, count)
    return result  # type: ignore[no-any-return]


def mean_of_windows(x: Tensor, windows: Windows) -> Tensor:
    """Return the mean of each window, (B, C, *counts)."""
    known = x.is_cuda or wide(x) == x.dtype  # torch's pools on the CPU, of volumes at least
    if known and all(step == 1 for step in windows.dilation):
        geometry = windows.kernel, windows.stride, windows.padding, windows.ceil
        mean: Tensor = AVERAGE[windows.dims](x, *geometry, count_include_pad=False)
        return mean
    counts = windows.counts(x.shape[2:])
    total = functools.reduce(torch.add, (tap.to(wide(x)) for tap in windows.taps(windows.padded(x), counts)))
    return (total / count_of(windows.inside(x, counts), total)).to(x.dtype)


def refuse_negative(x: Tensor, name: str, otherwise: str) -> None:
    """Refuse negative values where values can be read: one pass over x, on a GPU a wait for it.

    Shapes alone (meta and fake tensors), compilers and exporters have none to read.

    Raises:
        UsageError: the least value of x is negative.
    """
    if x.is_meta or isinstance(x, FakeTensor) or not x.numel() or torch.compiler.is_compiling() or exporting():
        return
    if torch._C._are_functorch_transforms_active():  # values inside are wrapped
        return
    least = float(x.detach().amin())
    if least < 0:
        raise UsageError(f"{name}: the least value of its input is {least:.3g}; expected none below 0{otherwise}")
