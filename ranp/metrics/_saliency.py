"""How well saliency maps meet their masks: MAE and F-measures with beta squared 0.3, by torchmetrics.

Achanta et al., "Frequency-tuned Salient Region Detection", CVPR 2009: F at twice the mean of the map. Borji et al.,
"Salient Object Detection: A Benchmark", TIP 2015: the largest F of mean precision and recall over 256 thresholds.
"""

import math

import torch
from torch import Tensor

from ranp.errors import UsageError

BETA_SQUARED = 0.3
_THRESHOLDS = 256


class SaliencyScores:
    """Running means over images."""

    def __init__(self) -> None:
        self.images = 0
        self.mae = self.adaptive = 0.0
        self.curves = torch.zeros(2, _THRESHOLDS, dtype=torch.float64)  # ([precision, recall], T)

    def update(self, saliency: Tensor, mask: Tensor) -> None:
        """Count an image.

        Args:
            saliency: (H, W), from 0 to 1.
            mask: (H, W) bool.

        Raises:
            UsageError: shapes that differ, values out of range, or an empty mask, which has no recall.
        """
        if saliency.shape != mask.shape:
            raise UsageError(f"saliency: expected the mask's shape {tuple(mask.shape)}, got {tuple(saliency.shape)}")
        if not mask.any() or float(saliency.amin()) < 0 or float(saliency.amax()) > 1:
            raise UsageError("saliency: expected values from 0 to 1, and a mask that is not empty")
        from torchmetrics.functional import classification as by  # most of a second to import
        from torchmetrics.functional import mean_absolute_error

        given, true = saliency.double().flatten().cpu(), mask.bool().flatten().cpu()
        self.images += 1
        self.mae += float(mean_absolute_error(given, true.double()))
        threshold = min(2 * float(given.mean()), 1.0)
        marked = given >= threshold
        self.adaptive += float(by.binary_fbeta_score(marked.long(), true.long(), beta=math.sqrt(BETA_SQUARED)))
        precision, recall, _ = by.binary_precision_recall_curve(given, true.long(), thresholds=_THRESHOLDS)
        self.curves += torch.stack([precision[:-1], recall[:-1]]).nan_to_num(0)  # where nothing is marked

    def compute(self) -> dict[str, float]:
        """Return `mae`, `f_adaptive`, and `f_max` and `f_mean` over the thresholds; NaN before any image."""
        if not self.images:
            return dict.fromkeys(("mae", "f_adaptive", "f_max", "f_mean"), float("nan"))
        precision, recall = self.curves / self.images
        below = (BETA_SQUARED * precision + recall).clamp(min=1e-300)
        f = (1 + BETA_SQUARED) * precision * recall / below
        return {
            "mae": self.mae / self.images,
            "f_adaptive": self.adaptive / self.images,
            "f_max": float(f.max()),
            "f_mean": float(f.mean()),
        }
