import math

import pytest
import torch

from ranp.errors import UsageError
from ranp.metrics import DetectionScores

pytest.importorskip("pycocotools")


def zeros(count: int) -> torch.Tensor:
    return torch.zeros(count, dtype=torch.int64)


def test_boxes_by_hand() -> None:
    true = torch.tensor([[0.0, 0.0, 10.0, 10.0], [20.0, 20.0, 60.0, 60.0]])
    found = torch.tensor([[0.0, 0.0, 10.0, 6.0], [70.0, 70.0, 80.0, 80.0], [20.0, 20.0, 60.0, 60.0]])
    scores = DetectionScores()
    scores.update(found, torch.tensor([0.9, 0.8, 0.7]), zeros(3), true, zeros(2))
    values = scores.compute()
    # IoU 0.6, a false one, IoU 1: to 0.6 recall 1/2 at precision 1 and 1 at 2/3, from 0.65 recall 1/2 at 1/3
    low, high = (51 * 1 + 50 * 2 / 3) / 101, 51 / 3 / 101
    assert values["ap50"] == pytest.approx(low)
    assert values["ap75"] == pytest.approx(high)
    assert values["ap"] == pytest.approx((3 * low + 7 * high) / 10)
    assert math.isnan(values["ap_large"])


def test_masks_of_two_images_and_classes() -> None:
    masks = torch.zeros(2, 16, 20, dtype=torch.bool)
    masks[0, 2:10, 2:10] = masks[1, 8:14, 12:18] = True
    scores = DetectionScores("masks")
    scores.update(masks, torch.tensor([0.9, 0.8]), torch.tensor([1, 4]), masks, torch.tensor([1, 4]))
    assert scores.compute()["ap"] == pytest.approx(1)
    scores.update(masks[:1], torch.tensor([0.9]), torch.tensor([4]), masks[:1], torch.tensor([1]))
    # class 1: one of two objects; class 4: a false one before the right one
    assert scores.compute()["ap"] == pytest.approx((51 / 101 + 0.5) / 2)
    scores.update(masks[:0], torch.zeros(0), zeros(0), masks[:0], zeros(0))
    assert scores.compute()["ap"] == pytest.approx((51 / 101 + 0.5) / 2)


def test_nothing_to_measure_and_mistakes() -> None:
    assert all(math.isnan(value) for value in DetectionScores().compute().values())
    with pytest.raises(UsageError, match="of='points': expected boxes or masks"):
        DetectionScores("points")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"true: expected boxes for 2 classes, got \(1, 4\)"):
        DetectionScores().update(torch.zeros(1, 4), torch.ones(1), zeros(1), torch.zeros(1, 4), zeros(2))
