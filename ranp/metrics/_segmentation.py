"""Mean IoU, pixel accuracy and mean accuracy over a whole data set, counted by MONAI's confusion matrix.

MONAI's own `MeanIoU` averages per image; here the counts are added up first, as the segmentation benchmarks do.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ranp.errors import UsageError


class SegmentationScores:
    """Running counts of true and false positives and negatives per class.

    Args:
        classes: number of labels, 0 .. classes - 1.
        ignore: target label of pixels that do not count.

    Raises:
        UsageError: fewer than one class.

    >>> scores = SegmentationScores(classes=2, ignore=255)
    >>> scores.update(torch.tensor([[0, 1, 1, 0]]), torch.tensor([[0, 1, 0, 255]]))
    >>> scores.pixel_accuracy(), scores.miou()
    (0.6666666666666666, 0.5)
    """

    def __init__(self, classes: int, ignore: int | None = None) -> None:
        if classes < 1:
            raise UsageError(f"classes={classes}: expected at least 1")
        self.classes = classes
        self.ignore = ignore
        self.counts = torch.zeros(classes, 4, dtype=torch.float64)  # (C, [tp, fp, tn, fn])

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Count a batch of integer label maps of equal shape, (B, H, W) or (B, D, H, W).

        Raises:
            UsageError: shapes that differ, or labels outside 0 .. classes - 1 (besides `ignore` in the target).
        """
        check_pair(prediction, target)
        if self.ignore is not None:
            used = target != self.ignore
            prediction, target = prediction[used], target[used]
        for name, labels in (("prediction", prediction), ("target", target)):
            if labels.numel() and (int(labels.amin()) < 0 or int(labels.amax()) >= self.classes):
                received = f"{labels.amin()} .. {labels.amax()}"
                raise UsageError(f"{name}: expected labels in 0 .. {self.classes - 1}, received {received}")
        self.counts += _confusion(prediction, target, self.classes)

    def iou(self) -> Tensor:
        """Return the intersection over union per class, (C,) float64; NaN for classes seen nowhere."""
        tp, fp, _, fn = self.counts.unbind(1)
        return tp / (tp + fp + fn)

    def miou(self) -> float:
        """Return the mean IoU over the classes that occur in predictions or targets; NaN before any pixel."""
        return float(self.iou().nanmean())

    def accuracy(self) -> Tensor:
        """Return the share of each class's pixels with the right label, (C,) float64; NaN for classes without any."""
        tp, _, _, fn = self.counts.unbind(1)
        return tp / (tp + fn)

    def mean_accuracy(self) -> float:
        """Return the mean of `accuracy` over the classes that occur in targets; NaN before any pixel."""
        return float(self.accuracy().nanmean())

    def pixel_accuracy(self) -> float:
        """Return the share of counted pixels with the right label; NaN before any pixel."""
        tp, _, _, fn = self.counts.sum(0)
        return float(tp / (tp + fn))


def check_pair(prediction: Tensor, target: Tensor) -> None:
    """Check that two label maps are integer and of one shape.

    Raises:
        UsageError: they are not.
    """
    if prediction.shape != target.shape:
        raise UsageError(
            f"prediction: expected the target's shape {tuple(target.shape)}, got {tuple(prediction.shape)}"
        )
    if prediction.is_floating_point() or target.is_floating_point():
        raise UsageError(f"expected integer label maps, received {prediction.dtype} and {target.dtype}")


def used_of(prediction: Tensor, target: Tensor, ignore: int | None) -> Tensor:
    """Check two label maps of images, (B, H, W), or slices, (B, D, H, W), and return which pixels count, bool.

    Raises:
        UsageError: shapes that differ, maps that are not integer, or fewer than three dimensions.
    """
    check_pair(prediction, target)
    if target.ndim < 3:
        raise UsageError(f"target: expected (B, H, W) or (B, D, H, W), received shape {tuple(target.shape)}")
    return torch.ones_like(target, dtype=torch.bool) if ignore is None else target != ignore


def _confusion(prediction: Tensor, target: Tensor, classes: int) -> Tensor:
    from monai.metrics.confusion_matrix import get_confusion_matrix  # seconds to import

    def one_hot(labels: Tensor) -> Tensor:
        return F.one_hot(labels.flatten().long(), classes).T.unsqueeze(0)  # (1, C, P)

    counts: Tensor = get_confusion_matrix(one_hot(prediction), one_hot(target))  # (1, C, 4)
    return counts[0].double().cpu()
