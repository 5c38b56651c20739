"""Boundary IoU: overlap of what lies close to the contours of two masks.

Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation", CVPR 2021
(https://arxiv.org/abs/2103.16562), as their code has it: of each mask the pixels count that d erosions by a square of 3
take away, d being 2 % of the image's diagonal, at least 1; what lies outside the image is outside the mask.

Here counts of a class are added up over the data set. Volumes are measured slice by slice. An ignored pixel is taken
for what is predicted there, and is not counted.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ranp.errors import UsageError
from ranp.metrics._edges import dilate
from ranp.metrics._segmentation import used_of

_RATIO = 0.02


def near_contour(mask: Tensor, distance: int) -> Tensor:
    """Return the pixels of bool masks (..., H, W) that are at most so far from their contours, as chessboards count.

    >>> near_contour(torch.ones(1, 5, 5, dtype=torch.bool), 2)[0].sum()
    tensor(24)
    """
    outside = dilate(F.pad(~mask, (distance,) * 4, value=True), distance)
    height, width = mask.shape[-2:]
    return mask & outside[..., distance : distance + height, distance : distance + width]


class BoundaryScores:
    """Running counts of intersections and unions of boundaries, for each class.

    Args:
        classes: number of labels, 0 .. classes - 1.
        ratio: how wide a boundary is, of the diagonal.
        ignore: target label of pixels that do not count.

    Raises:
        UsageError: fewer than one class, or a ratio out of (0, 1].

    >>> scores = BoundaryScores(classes=2)
    >>> labels = torch.tensor([[[0, 0, 1, 1, 1]]])
    >>> scores.update(labels, labels)
    >>> scores.mean()
    1.0
    """

    def __init__(self, classes: int, ratio: float = _RATIO, ignore: int | None = None) -> None:
        if classes < 1 or not 0 < ratio <= 1:
            raise UsageError(f"classes={classes}, ratio={ratio}: expected at least 1, and a share from above 0 to 1")
        self.classes, self.ratio, self.ignore = classes, ratio, ignore
        self.counts = torch.zeros(classes, 2, dtype=torch.int64)  # (C, [intersection, union])

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Count a batch of integer label maps of equal shape, (B, H, W) or, slice by slice, (B, D, H, W).

        Raises:
            UsageError: shapes that differ, maps that are not integer, or fewer than three dimensions.
        """
        used = used_of(prediction, target, self.ignore)
        target = torch.where(used, target, prediction)
        distance = max(1, round(self.ratio * math.hypot(*target.shape[-2:])))
        for label in range(self.classes):
            given, true = (near_contour(labels == label, distance) & used for labels in (prediction, target))
            self.counts[label] += torch.stack([(given & true).sum(), (given | true).sum()]).cpu()

    def iou(self) -> Tensor:
        """Return the boundary IoU of each class, (C,) float64; NaN for classes seen nowhere."""
        both, either = self.counts.double().unbind(1)
        return both / either

    def mean(self) -> float:
        """Return the mean over the classes that occur in predictions or targets; NaN before any pixel."""
        return float(self.iou().nanmean())
