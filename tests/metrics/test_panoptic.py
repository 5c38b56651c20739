import math

import pytest
import torch

from ranp.errors import UsageError
from ranp.metrics import PanopticScores


def test_a_picture_by_hand() -> None:
    target = torch.zeros(1, 4, 10, 2, dtype=torch.int64)
    target[:, :, :5] = torch.tensor([1, 1])  # a thing of 20 pixels
    target[:, 0, 5:] = torch.tensor([1, 2])  # and one of 5; the rest, 15 pixels, is stuff
    prediction = torch.zeros_like(target)
    prediction[:, :, :4] = torch.tensor([1, 7])  # 16 of the 20
    prediction[:, 3, 8:] = torch.tensor([1, 8])  # where stuff is
    scores = PanopticScores(things={1, 2}, stuff={0})
    scores.update(prediction, target)
    found = scores.compute()
    things = (16 / 20) / (1 + 0.5 + 0.5)
    stuff = 13 / (22 + 15 - 13)  # of 22 predicted; of the 15 true ones 2 went to a thing
    assert found["pq_things"] == pytest.approx(things)
    assert found["pq_stuff"] == pytest.approx(stuff)
    assert found["pq"] == pytest.approx((things + stuff) / 2)
    assert found["rq"] == pytest.approx((0.5 + 1) / 2)
    assert found["sq"] == pytest.approx((16 / 20 + stuff) / 2)


def test_counts_are_added_up_over_images() -> None:
    labels = torch.zeros(2, 2, 6, 2, dtype=torch.int64)
    labels[..., 3:, 0] = 1
    one, two = PanopticScores({1}, {0}), PanopticScores({1}, {0})
    other = labels.roll(1, 2)
    one.update(other, labels)
    for number in range(2):
        two.update(other[number][None], labels[number][None])
    assert one.compute() == two.compute()
    assert one.compute()["pq"] < 1


def test_nothing_to_measure_and_mistakes() -> None:
    assert math.isnan(PanopticScores({1}, {0}).compute()["pq"])
    with pytest.raises(UsageError, match=r"things=\[0, 1\], stuff=\[0\]: expected classes that are either"):
        PanopticScores({0, 1}, {0})
    with pytest.raises(UsageError, match="prediction: expected"):
        PanopticScores({1}, {0}).update(torch.zeros(1, 2, 3), torch.zeros(1, 2, 3))
