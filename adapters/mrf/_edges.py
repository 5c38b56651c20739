"""Edge weights from an image: neighbours that look alike should share a label, neighbours across an edge need not.

Both kinds are tied: the weight of a pair is the same in both directions, stored at the target node of each.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from ranp.adapters.mrf._directions import Step, steps
from ranp.errors import UsageError, need
from ranp.kernels.chains import Box, overlap


def canny_weights(image: Tensor, *, directions: int = 4, sigma: float = 1.0) -> Tensor:
    """Return 1 - |e_i - e_j| with e the Canny edge map: 0 on the border of an edge, 1 elsewhere.

    Canny, "A computational approach to edge detection" (PAMI 1986), by scikit-image, on the mean of the channels
    scaled to 0..1. A volume is taken slice by slice along D, so edges between slices are not seen.

    Args:
        image: (B, C, H, W) or (B, C, D, H, W).
        directions: 4, 8, 16 in 2D; 6, 18, 26 in 3D.
        sigma: width of the Gaussian before the gradients, in pixels.

    Returns:
        (B, R, *spatial) float32 on the device of the image, 1 where the neighbour lies outside.

    Raises:
        UsageError: another shape, directions not in the table, or a sigma that is not positive.
        MissingExtra: scikit-image is not installed.
    """
    _check_image(image)
    if not sigma > 0:
        raise UsageError(f"sigma={sigma}: expected a positive number")
    canny = need("skimage.feature", "mrf").canny
    grey = image.detach().double().mean(1)  # (B, *spatial)
    slices = grey.reshape(-1, *grey.shape[-2:]).cpu().numpy()
    maps = np.stack([canny(_to_unit(part), sigma=sigma) for part in slices])
    edges = torch.from_numpy(maps).reshape(grey.shape).to(image.device, torch.float32)
    return _from_pairs(edges[:, None], directions, lambda difference: 1 - difference.abs().amax(1))


def contrast_weights(image: Tensor, *, directions: int = 4, floor: float = 0.0, beta: float | None = None) -> Tensor:
    """Return floor + (1 - floor) exp(-beta |c_i - c_j|^2), with |.| over the channels: 1 where neighbours look alike.

    Boykov and Jolly, "Interactive graph cuts" (ICCV 2001); the default beta = 1 / (2 mean |c_i - c_j|^2), one per
    image over all its pairs, is that of GrabCut (Rother et al. 2004). Pairs are not divided by their distance.
    Differentiable in the image, through beta as well.

    Args:
        image: (B, C, H, W) or (B, C, D, H, W).
        directions: 4, 8, 16 in 2D; 6, 18, 26 in 3D.
        floor: the least weight, 0 to 1.
        beta: 1 / squared grey values, or None for the rule above.

    Returns:
        (B, R, *spatial), of the dtype of a floating-point image and float32 for others, 1 where the neighbour lies
        outside.

    Raises:
        UsageError: another shape, directions not in the table, a floor outside 0..1 or a negative beta.
    """
    _check_image(image)
    if not 0 <= floor <= 1:
        raise UsageError(f"floor={floor}: expected 0 to 1")
    if beta is not None and not beta >= 0:
        raise UsageError(f"beta={beta}: expected a number of at least 0")
    image = image if image.is_floating_point() else image.float()
    scale = _contrast_scale(image, directions) if beta is None else image.new_full((len(image),), beta)
    scale = scale.reshape(-1, *[1] * (image.ndim - 2))

    def weigh(difference: Tensor) -> Tensor:
        return floor + (1 - floor) * torch.exp(-scale * difference.square().sum(1))

    return _from_pairs(image, directions, weigh)


def _contrast_scale(image: Tensor, directions: int) -> Tensor:
    """Return (B,): 1 / (2 mean |c_i - c_j|^2) over all pairs, or 0 for an image without contrast."""
    even = steps(directions, image.ndim - 2)[::2]
    squares = [_difference(image, step).square().sum(1).flatten(1) for step in even]
    total = torch.cat(squares, 1).sum(1)
    pairs = sum(square.shape[1] for square in squares)
    return torch.where(total > 0, pairs / (2 * total.clamp(min=torch.finfo(image.dtype).tiny)), 0)


def _difference(image: Tensor, step: Step) -> Tensor:
    """Return (B, C, ...): the image at i minus that at i - step, for the pairs inside."""
    neighbours, nodes = overlap(step, tuple(image.shape[2:]))
    return image[:, :, *nodes] - image[:, :, *neighbours]


def _from_pairs(image: Tensor, directions: int, weigh: Callable[[Tensor], Tensor]) -> Tensor:
    """Return (B, R, *spatial): a weight of each pair, at both of its ends, and 1 where there is no pair."""
    spatial = tuple(image.shape[2:])
    table = steps(directions, len(spatial))
    weights = []
    for even in table[::2]:
        pair = weigh(_difference(image, even))  # (B, ...)
        weights += [pad(pair, _margins(part, spatial), value=1) for part in reversed(overlap(even, spatial))]
    return torch.stack(weights, 1)


def _margins(part: Box, spatial: tuple[int, ...]) -> list[int]:
    """Return the padding that puts a part of the grid back in its place, as `pad` wants it."""
    around = [(where.start, size - where.stop) for where, size in zip(part, spatial, strict=True)]
    return [margin for pair in reversed(around) for margin in pair]


def _to_unit(grey: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    low, high = grey.min(), grey.max()
    return (grey - low) / (high - low) if high > low else np.zeros_like(grey)


def _check_image(image: Tensor) -> None:
    if image.ndim not in (4, 5):
        raise UsageError(f"image: expected (B, C, H, W) or (B, C, D, H, W), got {tuple(image.shape)}")
