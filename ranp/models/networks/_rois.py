"""Features of regions of interest: RoIAlign and RoIPool, in plain PyTorch and any number of dimensions.

RoIAlign: He et al., "Mask R-CNN", ICCV 2017 (https://arxiv.org/abs/1703.06870), as torchvision computes it. A box is
cut into bins, each holds `samples` points along each dimension, and a bin is the mean of the feature, interpolated
linearly, at these. RoIPool: Girshick, "Fast R-CNN", ICCV 2015 (https://arxiv.org/abs/1504.08083): corners and bins are
rounded to positions, and a bin is the maximum of those in it.

Boxes are (B, R, 2 n): R for each image, the lower corner before the upper one, either as x, y (z), the last dimension
of the feature first. What is computed does not depend on their values, so that it traces.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Scale = float | Sequence[float]
"""Positions of the feature for one of a box, for all dimensions or for each, the feature's first dimension first."""


def roi_align(
    features: Tensor, boxes: Tensor, size: Sequence[int], *, scale: Scale = 1.0, samples: int = 2, aligned: bool = True
) -> Tensor:
    """Sample features in boxes.

    A point up to one position outside counts as the border, one further out as zero.

    Args:
        features: (B, C, *spatial), one to three dimensions.
        boxes: (B, R, 2 n).
        size: bins along each dimension.
        scale: see `Scale`.
        samples: points of a bin along each dimension.
        aligned: whether the position 0 is the middle of the first element, not its corner; without it a box is at least
            one position long.

    Returns:
        (B, R, C, *size).
    """
    batch, channels, *spatial = features.shape
    count, dims = boxes.shape[1], len(spatial)
    lower, upper = _corners(boxes, scale, dims)
    if aligned:
        lower, upper = lower - 0.5, upper - 0.5
    length = upper - lower if aligned else (upper - lower).clamp(min=1)
    grids, inside = [], []
    for axis, bins in enumerate(size):
        steps = (torch.arange(bins * samples, dtype=boxes.dtype, device=boxes.device) + 0.5) / (bins * samples)
        points = lower[..., axis, None] + steps * length[..., axis, None]  # (B, R, bins * samples)
        last = spatial[axis] - 1
        shape = [batch, count, *(bins * samples if other == axis else 1 for other in range(dims))]
        inside.append(((points >= -1) & (points <= spatial[axis])).view(shape))
        grids.append((points.clamp(0, last) * (2 / max(last, 1)) - 1).view(shape))
    points_of = [bins * samples for bins in size]
    grid = torch.stack([each.expand(batch, count, *points_of) for each in reversed(grids)], dim=-1)
    flat = grid.reshape(batch, count * points_of[0], *points_of[1:], dims)  # the boxes of an image in one long row
    if dims == 1:  # sampled as an image of one row
        flat = torch.cat([flat, torch.zeros_like(flat)], dim=-1)[:, None]
        features = features[:, :, None]
    found = F.grid_sample(features, flat.to(features.dtype), padding_mode="border", align_corners=True)
    found = found.reshape(batch, channels, count, *(part for bins in size for part in (bins, samples)))
    weight = torch.ones((), dtype=features.dtype, device=features.device)
    for each in inside:
        weight = weight * each.to(features.dtype)
    weight = weight.reshape(batch, 1, count, *(part for bins in size for part in (bins, samples)))
    means = (found * weight).mean(dim=[4 + 2 * axis for axis in range(dims)])  # (B, C, R, *size)
    return means.transpose(1, 2)


def roi_pool(features: Tensor, boxes: Tensor, size: Sequence[int], *, scale: Scale = 1.0) -> Tensor:
    """Take maxima of features in boxes; a bin without a position is 0.

    Args:
        features: (B, C, *spatial).
        boxes: (B, R, 2 n).
        size: bins along each dimension.
        scale: see `Scale`.

    Returns:
        (B, R, C, *size).
    """
    dims = features.ndim - 2
    first, last = (_rounded(corner) for corner in _corners(boxes, scale, dims))
    length = (last - first + 1).clamp(min=1)
    pooled = features[:, None].expand(-1, boxes.shape[1], *features.shape[1:])  # (B, R, C, *spatial)
    for axis, bins in enumerate(size):
        dim, whole = 3 + axis, features.shape[2 + axis]
        places = torch.arange(whole, device=boxes.device).view(-1, *(1,) * (dims - 1 - axis))
        start, long = (each[..., axis].view(*each.shape[:2], *(1,) * (dims + 1)) for each in (first, length))
        maxima = []
        for bin in range(bins):
            begin = start + (long * bin / bins).floor()
            end = start + (long * (bin + 1) / bins).ceil()
            taken = (places >= begin) & (places < end)
            maxima.append(pooled.masked_fill(~taken, float("-inf")).amax(dim))
        pooled = torch.stack(maxima, dim)
    return pooled.masked_fill(pooled == float("-inf"), 0.0)


def _corners(boxes: Tensor, scale: Scale, dims: int) -> tuple[Tensor, Tensor]:
    """Return both corners in positions of the feature, (B, R, n), the feature's first dimension first."""
    factors = [float(scale)] * dims if isinstance(scale, int | float) else list(scale)
    by = torch.tensor(factors, dtype=boxes.dtype, device=boxes.device)
    lower, upper = boxes.view(*boxes.shape[:2], 2, dims).flip(-1).unbind(2)
    return lower * by, upper * by


def _rounded(x: Tensor) -> Tensor:
    """Round halves away from zero, as C does."""
    return x.sign() * (x.abs() + 0.5).floor()
