"""Stereo: matching costs to start from, and a disparity map with sub-pixel steps to end with.

The matching cost is Birchfield and Tomasi's ("A pixel dissimilarity measure that is insensitive to image sampling",
PAMI 1998) in integer arithmetic, untruncated and summed over the channels, as in the published energies of ISGMR and
TRWP. The regression is the soft argmin of Kendall et al. ("End-to-end learning of geometry and context for deep
stereo regression", ICCV 2017).
"""

import torch
from torch import Tensor

from ranp.errors import UsageError

BRIGHTEST = 255  # 8-bit images; the cost per channel of a match that falls outside the other image


def birchfield_tomasi(left: Tensor, right: Tensor, labels: int) -> Tensor:
    """Return the cost of matching each left pixel x with the right pixel x - d, for d = 0 .. labels - 1.

    Half-way values between neighbours are rounded down, and an absent neighbour at the border is the pixel itself.
    Where x - d lies outside the right image the cost is 255 per channel.

    Args:
        left: (B, C, H, W), grey values 0 to 255 of any dtype; fractions are dropped.
        right: the same shape, the view from the right.
        labels: how many disparities, from 0.

    Returns:
        (B, labels, H, W) float32; every value is a whole number.

    Raises:
        UsageError: the shapes differ or are not (B, C, H, W), or there are no labels.
    """
    _check_pair(left, right, labels)
    # Whole numbers up to 255: int16 holds every sum of two.
    reach_left, reach_right = _reach(left.to(torch.int16)), _reach(right.to(torch.int16))
    batch, channels, height, width = left.shape
    cost = torch.full((batch, labels, height, width), float(BRIGHTEST * channels), device=left.device)
    for disparity in range(min(labels, width)):
        ours = tuple(part[..., disparity:] for part in reach_left)
        theirs = tuple(part[..., : width - disparity] for part in reach_right)
        cost[:, disparity, :, disparity:] = _dissimilarity(ours, theirs).sum(1).float()
    return cost


def soft_argmin(cost: Tensor, temperature: float = 1.0) -> Tensor:
    """Return the mean label under softmax(-cost / temperature): a differentiable, sub-pixel disparity.

    Args:
        cost: (B, L, H, W) or (B, L, D, H, W), lower is better.
        temperature: in the unit of the cost; towards 0 the result nears the argmin.

    Returns:
        (B, H, W) or (B, D, H, W), in labels, of the dtype of `cost`.

    Raises:
        UsageError: the temperature is not positive.
    """
    if not temperature > 0:
        raise UsageError(f"temperature={temperature}: expected a positive number")
    share = torch.softmax(-cost / temperature, 1)
    label = torch.arange(cost.shape[1], dtype=cost.dtype, device=cost.device)
    return torch.einsum("bl...,l->b...", share, label)


def _reach(image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the pixel, and the least and greatest of it and the half-way values to its two neighbours."""
    left = torch.cat([image[..., :1], image[..., :-1]], -1)
    right = torch.cat([image[..., 1:], image[..., -1:]], -1)
    around = torch.stack([image, (image + left) // 2, (image + right) // 2])
    return image, around.amin(0), around.amax(0)


def _dissimilarity(left: tuple[Tensor, ...], right: tuple[Tensor, ...]) -> Tensor:
    """Return how far each centre lies outside the other's reach, whichever way is less."""
    (centre_l, low_l, high_l), (centre_r, low_r, high_r) = left, right
    one = torch.maximum(centre_l - high_r, low_r - centre_l).clamp(min=0)
    other = torch.maximum(centre_r - high_l, low_l - centre_r).clamp(min=0)
    return torch.minimum(one, other)


def _check_pair(left: Tensor, right: Tensor, labels: int) -> None:
    if left.ndim != 4 or left.shape != right.shape:
        shapes = f"{tuple(left.shape)} and {tuple(right.shape)}"
        raise UsageError(f"left and right images: expected two tensors (B, C, H, W) of one shape, got {shapes}")
    if labels < 1:
        raise UsageError(f"labels={labels}: expected at least 1 disparity")
