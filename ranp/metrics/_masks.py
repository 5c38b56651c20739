"""How well a predicted mask meets the true one, in one case: overlap, and the distance between the surfaces.

MONAI counts and measures. A mask that is empty on both sides has no figure: NaN, neither 0 nor 1. One that is empty on
one side alone has an overlap of 0 and a surface Dice of 0, and its surfaces are infinitely far apart.
"""

import warnings
from collections.abc import Sequence

from torch import Tensor

from ranp.errors import need

OVERLAPS = ("dice", "iou")
SURFACES = ("hd95", "surface_dice")
_NAN, _INF = float("nan"), float("inf")


def mask_figures(
    predicted: Tensor,
    true: Tensor,
    spacing: Sequence[float] | None = None,
    *,
    used: Tensor | None = None,
    tolerance: float = 1.0,
    surfaces: bool = True,
) -> dict[str, float]:
    """Compare two masks of one case.

    Args:
        predicted: (*spatial) bool, two or three dimensions.
        true: likewise.
        spacing: between voxels along each axis, in millimetres; None counts in voxels.
        used: (*spatial) bool, what counts; None for all.
        tolerance: how far apart surfaces may be for the surface Dice, in units of `spacing`.
        surfaces: whether distances are measured, which takes longer.

    Returns:
        `dice` 2 |A and B| / (|A| + |B|) and `iou` |A and B| / |A or B|; with `surfaces` `hd95`, the larger of the two
        95th percentiles of the distances from one surface to the other, and `surface_dice`, the share of both surfaces
        that lies within the tolerance of the other (Nikolov et al., 2018, arXiv 1809.04430).

    >>> import torch
    >>> left, right = torch.zeros(2, 4, 4, dtype=torch.bool)
    >>> left[:, :2] = right[:, 1:3] = True
    >>> mask_figures(left, right, surfaces=False)
    {'dice': 0.5, 'iou': 0.3333333432674408}
    """
    if used is not None:
        predicted, true = predicted & used, true & used
    either = predicted | true
    wanted = (*OVERLAPS, *SURFACES) if surfaces else OVERLAPS
    if not either.any():
        return dict.fromkeys(wanted, _NAN)
    if not (predicted.any() and true.any()):
        return {name: _INF if name == "hd95" else 0.0 for name in wanted}
    from monai.metrics import compute_dice, compute_hausdorff_distance, compute_iou, compute_surface_dice

    box = _box(either)  # what lies outside of both masks changes no figure
    given, truth = (mask[box][None, None].cpu().float() for mask in (predicted, true))  # (1, 1, *spatial)
    dice, iou = float(compute_dice(given, truth)), float(compute_iou(given, truth))
    if not surfaces:
        return {"dice": dice, "iou": iou}
    need("scipy.ndimage", "medical")
    steps = None if spacing is None else list(spacing)
    with warnings.catch_warnings():  # MONAI calls what MONAI deprecates
        warnings.filterwarnings("ignore", ".*always_return_as_numpy", FutureWarning)
        hd95 = compute_hausdorff_distance(given, truth, include_background=True, percentile=95, spacing=steps)
        near = compute_surface_dice(given, truth, [float(tolerance)], include_background=True, spacing=steps)
    return {"dice": dice, "iou": iou, "hd95": float(hd95), "surface_dice": float(near)}


def _box(mask: Tensor) -> tuple[slice, ...]:
    """Return the smallest box around a mask that is not empty."""
    box = []
    for axis in range(mask.dim()):
        others = tuple(other for other in range(mask.dim()) if other != axis)
        places = mask.any(dim=others).nonzero() if others else mask.nonzero()
        box.append(slice(int(places[0]), int(places[-1]) + 1))
    return tuple(box)
