"""Windows whose elements lie apart: how much padding keeps them in place, and pools over them.

A feature whose stride was removed by a factor r holds, at every r-th position, what it held before. A window looks at
every r-th position then, and nothing in between changes what is computed at those.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

MAX_POOL: dict[int, Any] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


@dataclass(frozen=True)
class Axis:
    """The windows of a layer along one dimension.

    Args:
        kernel: elements of a window.
        stride: from a window to the next, before.
        padding: before the first and after the last position, before.
        dilation: from an element to the next, before.
        removed: by which factor the stride of the input was removed.
        kept: from a window to the next, now.
        ceil: whether a last window that reaches over the end counts.
    """

    kernel: int
    stride: int
    padding: tuple[int, int]
    dilation: int
    removed: int
    kept: int
    ceil: bool = False

    @property
    def same(self) -> bool:
        """Whether scaled padding alone keeps the size, or the stride stays as it is."""
        reach = self.dilation * (self.kernel - 1)
        return not self.ceil and (self.kept == self.stride or self.padding == (reach // 2, reach - reach // 2))

    def pad(self, size: int) -> tuple[int, int]:
        """Return how much is put before and after that many positions.

        Where a stride goes, as many positions come out as go in (over the stride that is kept), as far as that agrees
        with the windows there were: paths of other windows between the same two layers still fit together.
        """
        r, (left, right) = self.removed, self.padding
        reach = self.dilation * (self.kernel - 1)
        before = -(-size // r)  # positions there were
        free = before + left + right - reach - 1
        windows = (-(-free // self.stride) if self.ceil else free // self.stride) + 1
        if self.ceil and (windows - 1) * self.stride >= before + left:  # it would begin in the padding
            windows -= 1
        now = r * self.stride // self.kept  # the factor of what comes out
        natural = (size + r * (left + right - reach) - 1) // self.kept + 1
        wanted = max(natural, now * (windows - 1) + 1)
        if self.kept < self.stride:
            wanted = max(wanted, min(-(-size // self.kept), now * windows))
        extra = (wanted - 1) * self.kept + 1 + r * (reach - left - right) - size
        return r * left, r * right + max(0, extra)


def padded(x: Tensor, axes: Sequence[Axis], value: float = 0.0) -> Tensor:
    """Return x (..., *spatial) with what `Axis.pad` says around it."""
    sizes = x.shape[x.ndim - len(axes) :]
    pads = [axis.pad(size) for axis, size in zip(axes, sizes, strict=True)]
    flat = [side for pair in reversed(pads) for side in pair]  # the last dimension first
    return F.pad(x, flat, value=value) if any(flat) else x


@dataclass(frozen=True)
class Padding:
    """A forward pre-hook that pads what a layer without padding is given.

    Args:
        axes: of the layer.
    """

    axes: tuple[Axis, ...]

    def __call__(self, _: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Pad the first input."""
        return (padded(args[0], self.axes), *args[1:])


class DilatedPool(nn.Module):
    """A max or mean pool whose elements lie apart, with any padding; torch's mean pools have no dilation.

    Args:
        axes: of the pool.
        mean: whether it is a mean.
        count_padding: whether padding counts in a mean.
        divisor: of a mean, in place of the number of elements.
    """

    def __init__(
        self, axes: Sequence[Axis], *, mean: bool, count_padding: bool = True, divisor: int | None = None
    ) -> None:
        super().__init__()
        self.axes, self.mean, self.count_padding, self.divisor = tuple(axes), mean, count_padding, divisor

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, *spatial) to (B, C, *windows)."""
        if not self.mean:
            kernel, step, apart = zip(*((a.kernel, a.kept, a.dilation * a.removed) for a in self.axes), strict=True)
            pooled: Tensor = MAX_POOL[len(kernel)](padded(x, self.axes, float("-inf")), kernel, step, 0, apart)
            return pooled
        sums, counts = padded(x, self.axes), x.new_ones(())
        first = x.ndim - len(self.axes)
        for place, axis in enumerate(self.axes):  # a mean is one of means along each dimension
            sums = _sums(sums, axis, first + place)
            counts = counts[..., None] * self._counts(x, axis, x.shape[first + place])
        return sums / (counts if self.divisor is None else self.divisor)

    def _counts(self, x: Tensor, axis: Axis, size: int) -> Tensor:
        """Return how many elements of each window along a dimension count, (windows,)."""
        before, after = axis.pad(size)
        own = [axis.removed * side if self.count_padding else 0 for side in axis.padding]
        ones = F.pad(x.new_ones(size + own[0] + own[1]), (before - own[0], after - own[1]))
        return _sums(ones, axis, 0).clamp(min=1)

    def extra_repr(self) -> str:
        """Return what `print` shows of the layer."""
        names = {"kernel_size": "kernel", "stride": "kept", "padding": "padding", "dilation": "removed"}
        shown = {name: tuple(getattr(axis, key) for axis in self.axes) for name, key in names.items()}
        return ", ".join(["mean" if self.mean else "max", *(f"{name}={value}" for name, value in shown.items())])


def _sums(x: Tensor, axis: Axis, dim: int) -> Tensor:
    """Return the sums of the windows along one dimension of what is padded."""
    apart = axis.dilation * axis.removed
    windows = (x.shape[dim] - apart * (axis.kernel - 1) - 1) // axis.kept + 1
    total = x.new_zeros(())
    for element in range(axis.kernel):
        start = element * apart
        taken = slice(start, start + (windows - 1) * axis.kept + 1, axis.kept)
        total = total + x.transpose(0, dim)[taken].transpose(0, dim)
    return total


class OnLattice(nn.Module):
    """A pool to a fixed size that looks at every r-th position alone.

    Args:
        pool: an adaptive pool.
        removed: r, along each dimension.
    """

    def __init__(self, pool: nn.Module, removed: Sequence[int]) -> None:
        super().__init__()
        self.pool, self.removed = pool, tuple(removed)

    def forward(self, x: Tensor) -> Any:
        """Map (B, C, *spatial) to what the pool makes of it."""
        return self.pool(on_lattice(x, self.removed))


def on_lattice(x: Tensor, removed: Sequence[int]) -> Tensor:
    """Return every r-th position of x (..., *spatial)."""
    places: list[Any] = [..., *(slice(None, None, r) for r in removed)]
    return x[tuple(places)]
