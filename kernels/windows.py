"""The windows of a pooling, in any number of dimensions: which elements each one holds, as strided views.

Sizes are those of torch's pools: a window may begin in the padding on the left but not in that on the right, and with
`ceil` the last one may reach over the end. Elements outside the input belong to no window: they are not counted, as in
`max_pool` and in `avg_pool(count_include_pad=False)`.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import EllipsisType

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Windows:
    """Kernel, stride, padding and dilation, one entry a dimension; nothing is checked here.

    Args:
        kernel: elements of a window.
        stride: from a window to the next.
        padding: elements that windows may lie before the first and behind the last.
        dilation: from an element of a window to the next.
        ceil: whether a last window that reaches over the end counts.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    ceil: bool = False

    @property
    def dims(self) -> int:
        """Return how many dimensions they lie over."""
        return len(self.kernel)

    @property
    def settings(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...], bool]:
        """Return kernel, stride, padding, dilation and ceil, the order of torch's max pools."""
        return self.kernel, self.stride, self.padding, self.dilation, self.ceil

    @property
    def reach(self) -> list[int]:
        """Return from where to where a window reaches: dilation x (kernel - 1) + 1."""
        return [step * (size - 1) + 1 for size, step in zip(self.kernel, self.dilation, strict=True)]

    def counts(self, sizes: Sequence[int]) -> list[int]:
        """Return how many windows there are along each dimension of an input of these sizes."""
        found = []
        for size, reach, step, pad in zip(sizes, self.reach, self.stride, self.padding, strict=True):
            free = size + 2 * pad - reach
            if self.ceil:  # the last one begins before the padding on the right
                found.append(torch.sym_min((free + step - 1) // step, (size + pad - 1) // step) + 1)
            else:
                found.append(free // step + 1)
        return found

    @property
    def leaves_input(self) -> bool:
        """Whether windows may hold less than all their elements."""
        return self.ceil or any(self.padding)

    def widths(self, lead: int = 0) -> list[int]:
        """Return what `F.pad` takes so that every window lies inside; `lead` more elements per dilation in front."""
        pairs = [
            (pad + lead * step, pad + (stride - 1 if self.ceil else 0))
            for pad, stride, step in zip(self.padding, self.stride, self.dilation, strict=True)
        ]
        return [width for pair in reversed(pairs) for width in pair]

    def padded(self, x: Tensor) -> Tensor:
        """Return `x` in which every window lies inside, filled up with zeros; `x` itself where none leaves it."""
        return F.pad(x, self.widths()) if self.leaves_input else x

    def taps(self, padded: Tensor, counts: Sequence[int]) -> Iterator[Tensor]:
        """Yield views (..., *counts), one for each element of the kernel: that element of all windows.

        No two entries of one view are the same, so that a view may be written into.
        """
        for offset in itertools.product(*map(range, self.kernel)):
            starts = [at * step for at, step in zip(offset, self.dilation, strict=True)]
            places = zip(starts, counts, self.stride, strict=True)
            yield _part(padded, [slice(start, start + (n - 1) * step + 1, step) for start, n, step in places])

    def inside(self, x: Tensor, counts: Sequence[int]) -> list[Tensor] | list[None]:
        """Return for each tap where it lies in the input, bool (*counts); None for all where no window leaves it."""
        if not self.leaves_input:
            return [None] * len(list(itertools.product(*map(range, self.kernel))))
        ones = x.new_ones(x.shape[x.ndim - self.dims :], dtype=torch.bool)
        return list(self.taps(self.padded(ones), counts))

    def cropped(self, padded: Tensor, x: Tensor) -> Tensor:
        """Return the part of a padded tensor that is the input's."""
        if not self.leaves_input:
            return padded
        places = zip(self.padding, x.shape[x.ndim - self.dims :], strict=True)
        return _part(padded, [slice(pad, pad + size) for pad, size in places])


def _part(x: Tensor, places: Sequence[slice]) -> Tensor:
    """Return a view of the last dimensions."""
    index: tuple[EllipsisType | slice, ...] = (..., *places)
    return x[index]
