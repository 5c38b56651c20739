"""How far predicted disparities are off: end-point error, accuracies at one and three pixels, KITTI's D1.

D1 is the share of pixels off by more than 3 pixels and by more than 5 % of the truth (Menze and Geiger, CVPR 2015).
Acc-1 and Acc-3 are the shares off by no more than 1 and 3 pixels.
"""

import torch
from torch import Tensor

_SLACK = 1.0  # pixels, by which a nearer surface has to be nearer
_D1 = (3.0, 0.05)


def disparity_figures(predicted: Tensor, true: Tensor, counted: Tensor) -> dict[str, float]:
    """Compare disparities (H, W) in pixels.

    Args:
        predicted: of the left picture.
        true: likewise.
        counted: (H, W) bool, the pixels that count.

    Returns:
        `epe` in pixels, `acc1`, `acc3` and `d1` as shares; NaN where no pixel counts.

    >>> true = torch.full((1, 4), 10.0)
    >>> disparity_figures(true + torch.tensor([[0.0, 1.0, 2.0, 5.0]]), true, true > 0)
    {'epe': 2.0, 'acc1': 0.5, 'acc3': 0.75, 'd1': 0.25}
    """
    if not counted.any():
        return dict.fromkeys(("epe", "acc1", "acc3", "d1"), float("nan"))
    from torchmetrics.functional.regression import mean_absolute_error  # most of a second to import

    given, truth = predicted[counted].double(), true[counted].double()
    off = (given - truth).abs()
    wrong = (off > _D1[0]) & (off > _D1[1] * truth.abs())
    return {
        "epe": float(mean_absolute_error(given, truth)),
        "acc1": float((off <= 1).double().mean()),
        "acc3": float((off <= 3).double().mean()),
        "d1": float(wrong.double().mean()),
    }


def not_occluded(disparity: Tensor) -> Tensor:
    """Say which pixels of the left picture the right eye sees, by the left picture's true disparities alone.

    A pixel at x lands at x - disparity(x) in the right picture. It is not seen where that lies outside, or where a
    surface that is nearer by more than a pixel lands at the same place. Where disparities are unknown nothing hides.

    Args:
        disparity: (H, W), inf where unknown.

    Returns:
        (H, W) bool; False where the disparity is unknown.

    >>> not_occluded(torch.tensor([[0.0, 0.0, 0.0, 2.0, 2.0, 0.0]]))
    tensor([[ True, False, False,  True,  True,  True]])
    """
    height, width = disparity.shape
    known = disparity.isfinite()
    d = torch.where(known, disparity, torch.zeros_like(disparity)).double()
    landed = torch.arange(width, device=d.device, dtype=torch.float64) - d  # (H, W)
    inside = known & (landed >= -0.5) & (landed < width - 0.5)
    nearest = torch.full((height, width + 2), -torch.inf, dtype=torch.float64, device=d.device)
    for place in (landed.floor(), landed.ceil()):  # a surface that is stretched leaves no gap
        column = torch.where(inside, place.clamp(-1, width) + 1, torch.zeros_like(place)).long()
        nearest.scatter_reduce_(1, column, torch.where(inside, d, -torch.inf), "amax")
    column = (landed.round().clamp(0, width - 1) + 1).long()
    return inside & (d >= nearest.gather(1, column) - _SLACK)
