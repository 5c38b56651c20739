"""Convolutions slab by slab, so that comparing two networks in float64 fits where training them in float32 does.

On the CPU torch unfolds the whole input of a float64 convolution: 27 copies of it for a 3x3x3 kernel, 5.4 GB for
96 channels of 64^3. Cut along the first spatial dimension the result is the same and the copies are bounded.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from ranp.graph.rules.op import Mode

LIMIT = 256 * 2**20  # bytes of unfolded input at a time


class Slabs(Mode):
    """Runs every convolution whose unfolded input is larger than a limit in slabs; use under `torch.no_grad`.

    Args:
        limit: bytes.

    >>> layer = torch.nn.Conv2d(3, 4, 3, padding=1).double()
    >>> image = torch.ones(1, 3, 9, 8, dtype=torch.float64)
    >>> with torch.no_grad(), Slabs(limit=1000):
    ...     found = layer(image)
    >>> bool((found - layer(image)).abs().max() < 1e-12)
    True
    """

    def __init__(self, limit: int = LIMIT) -> None:
        super().__init__()
        self._limit = limit

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an op; a large convolution in slabs."""
        if func is torch.ops.aten.convolution.default and not args[6] and args[0].device.type == "cpu":
            source, weight = args[:2]
            unfolded = source.numel() * weight[0, 0].numel() * source.element_size()
            if unfolded > self._limit:
                return _in_slabs(args, -(-unfolded // self._limit))
        return func(*args, **(kwargs or {}))


def _in_slabs(args: tuple[Any, ...], count: int) -> Tensor:
    """Return the convolution of padded slabs, one after the other."""
    source, weight, bias, stride, padding, dilation, *rest = args
    reach = dilation[0] * (weight.shape[2] - 1) + 1
    height = (source.shape[2] + 2 * padding[0] - reach) // stride[0] + 1
    padded = pad(source, (0, 0) * (source.ndim - 3) + (padding[0], padding[0]))  # (B, C, D + 2p, H, W)
    rows = -(-height // count)
    parts = []
    for first in range(0, height, rows):
        last = min(first + rows, height) - 1
        slab = padded.narrow(2, first * stride[0], (last - first) * stride[0] + reach)
        parts.append(torch.ops.aten.convolution(slab, weight, bias, stride, [0, *padding[1:]], dilation, *rest))
    return torch.cat(parts, dim=2)
