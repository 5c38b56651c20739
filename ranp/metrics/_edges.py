"""How well segmentation edges are met: performance ratio and F-measure on dilated edges.

Source: the measures of the paper's chapter on refining segmentation with superpixels (Xu et al., 2020, arXiv
2010.04363). A pixel is an edge where one of its 4 neighbours has another label. The predicted and the true edge map are
both dilated by k pixels, and true positives, false positives and false negatives are counted per pixel over the data
set: performance ratio TP / (FP + FN), F-measure 2 TP / (2 TP + FP + FN).

The paper does not say which disk "k pixels" is; here it is the square of side 2 k + 1 (Chebyshev distance k). Volumes
are measured slice by slice. An ignored pixel is neither an edge nor makes one of its neighbours, and is not counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ranp.errors import UsageError
from ranp.metrics._segmentation import used_of


@dataclass(frozen=True)
class EdgeScore:
    """Measures at one dilation."""

    dilation: int
    """k, pixels."""
    performance_ratio: float
    """TP / (FP + FN); infinite where nothing is wrong, NaN where there is no edge at all."""
    f_measure: float
    """2 TP / (2 TP + FP + FN); NaN where there is no edge at all."""
    precision: float
    """TP / (TP + FP)."""
    recall: float
    """TP / (TP + FN)."""


class EdgeScores:
    """Running counts of edge pixels per dilation.

    Args:
        dilations: k, in pixels.
        ignore: target label of pixels that do not count.

    Raises:
        UsageError: no dilations, or one that is no whole number from 0.

    >>> scores = EdgeScores(dilations=(1,))
    >>> labels = torch.tensor([[[0, 0, 1, 1, 1]]])
    >>> scores.update(labels, labels)
    >>> scores.compute()[0].f_measure
    1.0
    """

    def __init__(self, dilations: Sequence[int] = (1, 2, 3, 4, 5), ignore: int | None = None) -> None:
        if not dilations or not all(isinstance(k, int) and k >= 0 for k in dilations):
            raise UsageError(f"dilations={tuple(dilations)}: expected at least one whole number, none below 0")
        self.dilations = tuple(dilations)
        self.ignore = ignore
        self.counts = torch.zeros(len(self.dilations), 3, dtype=torch.int64)  # (K, [tp, fp, fn])

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Count a batch of integer label maps of equal shape, (B, H, W) or, slice by slice, (B, D, H, W).

        Raises:
            UsageError: shapes that differ, maps that are not integer, or fewer than three dimensions.
        """
        used = used_of(prediction, target, self.ignore)
        predicted, true = edges(prediction, used), edges(target, used)
        for row, k in enumerate(self.dilations):
            p, t = dilate(predicted, k), dilate(true, k)
            counts = [(p & t & used).sum(), (p & ~t & used).sum(), (~p & t & used).sum()]
            self.counts[row] += torch.stack(counts).cpu()

    def compute(self) -> list[EdgeScore]:
        """Return one `EdgeScore` per dilation over everything counted so far."""
        return [_score(k, *row) for k, row in zip(self.dilations, self.counts.double(), strict=True)]


def edges(labels: Tensor, used: Tensor) -> Tensor:
    """Mark used pixels (..., H, W) that have a used 4-neighbour with another label; same shape, bool."""
    marked = torch.zeros_like(used)
    for axis in (-2, -1):
        n = labels.shape[axis] - 1
        if n < 1:
            continue
        a, b = labels.narrow(axis, 0, n), labels.narrow(axis, 1, n)
        differ = (a != b) & used.narrow(axis, 0, n) & used.narrow(axis, 1, n)
        marked.narrow(axis, 0, n).logical_or_(differ)
        marked.narrow(axis, 1, n).logical_or_(differ)
    return marked


def dilate(marked: Tensor, k: int) -> Tensor:
    """Dilate bool maps (..., H, W) by the square of side 2 k + 1, slice by slice."""
    slices = marked.reshape(-1, 1, *marked.shape[-2:]).float()
    for window, padding in (((2 * k + 1, 1), (k, 0)), ((1, 2 * k + 1), (0, k))):
        slices = F.max_pool2d(slices, window, stride=1, padding=padding)
    return slices.bool().view_as(marked)


def _score(k: int, tp: Tensor, fp: Tensor, fn: Tensor) -> EdgeScore:
    return EdgeScore(
        k, float(tp / (fp + fn)), float(2 * tp / (2 * tp + fp + fn)), float(tp / (tp + fp)), float(tp / (tp + fn))
    )
