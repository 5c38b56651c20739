import math

import pytest
import torch

from ranp.errors import UsageError
from ranp.metrics import SegmentationScores


def test_scores_by_hand_over_two_batches() -> None:
    scores = SegmentationScores(classes=3)
    scores.update(torch.tensor([[[0, 0, 1], [1, 1, 0]]]), torch.tensor([[[0, 0, 0], [1, 1, 1]]]))
    scores.update(torch.tensor([[[0, 1]]]), torch.tensor([[[0, 1]]]))
    assert scores.iou()[:2].tolist() == [3 / 5, 3 / 5]
    assert scores.iou()[2].isnan()
    assert scores.miou() == 3 / 5
    assert scores.pixel_accuracy() == 6 / 8


@pytest.mark.parametrize("shape", [(2, 7, 8), (2, 4, 5, 6)])
def test_ignored_pixels_do_not_count_in_2d_and_3d(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    prediction, target = (torch.randint(0, 4, shape, generator=generator) for _ in range(2))
    target[torch.rand(shape, generator=generator) < 0.3] = 255
    scores = SegmentationScores(classes=4, ignore=255)
    scores.update(prediction, target)
    used = target != 255
    ious = []
    for label in range(4):
        p, t = (prediction == label) & used, (target == label) & used
        ious.append(((p & t).sum() / (p | t).sum()).item())
    assert scores.miou() == pytest.approx(sum(ious) / 4)
    assert scores.pixel_accuracy() == pytest.approx((prediction == target)[used].double().mean().item())


def test_nothing_counted_is_not_a_number() -> None:
    scores = SegmentationScores(classes=2, ignore=0)
    scores.update(torch.zeros(1, 2, 2, dtype=torch.int64), torch.zeros(1, 2, 2, dtype=torch.int64))
    assert math.isnan(scores.miou())
    assert math.isnan(scores.pixel_accuracy())


def test_mistakes_are_one_line() -> None:
    labels = torch.zeros(1, 4, 4, dtype=torch.int64)
    with pytest.raises(UsageError, match="classes=0"):
        SegmentationScores(0)
    with pytest.raises(UsageError, match=r"target: expected labels in 0 \.\. 1, received 255 \.\. 255"):
        SegmentationScores(2).update(labels, labels + 255)
    with pytest.raises(UsageError, match=r"prediction: expected labels in 0 \.\. 1, received -1 \.\. -1"):
        SegmentationScores(2).update(labels - 1, labels)
    with pytest.raises(UsageError, match="expected the target's shape"):
        SegmentationScores(2).update(labels[:, 1:], labels)


def test_mean_accuracy_is_over_the_classes_that_occur() -> None:
    scores = SegmentationScores(classes=4)
    scores.update(torch.tensor([[0, 0, 1, 2, 2]]), torch.tensor([[0, 0, 0, 1, 2]]))
    assert scores.accuracy()[:3].tolist() == pytest.approx([2 / 3, 0, 1])
    assert scores.accuracy()[3].isnan()
    assert scores.mean_accuracy() == pytest.approx((2 / 3 + 0 + 1) / 3)
