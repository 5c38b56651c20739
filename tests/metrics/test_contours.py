import itertools
import math

import numpy as np
import pytest
import torch

from ranp.errors import UsageError
from ranp.metrics import ContourScores
from ranp.metrics._contours import matched

pytest.importorskip("scipy.spatial")
pytest.importorskip("skimage.morphology")


def most(edges: np.ndarray, drawn: np.ndarray, reach: float) -> int:
    """The size of a largest matching, by trying every order."""
    few, many = sorted((edges, drawn), key=len)
    near = [[math.dist(a, b) <= reach for b in many] for a in few]
    orders = itertools.permutations(range(len(many)), len(few))
    return max(sum(near[i][j] for i, j in enumerate(order)) for order in orders)


@pytest.mark.parametrize("seed", range(8))
def test_as_many_as_can_be_are_matched_one_to_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    edges, drawn = (rng.integers(0, 6, (count, 2)) for count in rng.integers(1, 6, 2))
    found = matched(edges, drawn, 1.5)
    assert found.shape == (len(edges),)
    assert found.sum() == most(edges, drawn, 1.5)
    assert not matched(edges, drawn[:0], 1.5).any()


def lines(*columns: int) -> torch.Tensor:
    picture = torch.zeros(20, 20)
    for column in columns:
        picture[:, column] = 1
    return picture


@pytest.mark.parametrize(("off", "f"), [(0, 1.0), (1, 1.0), (2, 0.0)])
def test_a_line_that_is_near_enough(off: int, f: float) -> None:
    scores = ContourScores(1, tolerance=0.05)  # of 28.3: 1.4 pixels
    scores.update(lines(8 + off), lines(8)[None].bool())
    assert (scores.compute().ods, scores.compute().ois) == (f, f)
    assert scores.compute().threshold == 0.5


def test_precision_is_of_any_annotator_and_recall_of_all() -> None:
    scores = ContourScores(1)
    scores.update(lines(4, 9, 14), torch.stack([lines(4), lines(4, 9)]).bool())
    precision, recall = 2 / 3, 1.0
    assert scores.compute().ods == pytest.approx(2 * precision * recall / (precision + recall))
    assert scores.images[0].tolist() == [[40, 60, 60, 60]]


def test_one_threshold_for_all_and_the_best_for_each() -> None:
    scores = ContourScores(3)  # 0.25, 0.5, 0.75
    scores.update(torch.maximum(lines(5) * 0.3, lines(10) * 0.1), lines(5)[None].bool())
    scores.update(torch.maximum(lines(5) * 0.8, lines(10) * 0.6), lines(5)[None].bool())
    found = scores.compute()
    # at 0.25 the second map has two lines for one: 40 of 60 edges are right, all 40 drawn are met
    assert found.ods == pytest.approx(2 * (2 / 3) / (2 / 3 + 1))
    assert found.threshold == 0.25
    assert found.ois == 1.0


def test_edges_are_thinned() -> None:
    wide, drawn = lines(7, 8, 9), lines(8)[None].bool()
    thin, thick = ContourScores(1), ContourScores(1, thin=False)
    thin.update(wide, drawn)
    thick.update(wide, drawn)
    assert thick.images[0][0, 1] == 60
    assert thin.images[0][0, 1] <= 20
    assert thin.compute().ods > thick.compute().ods


def test_nothing_to_measure_and_mistakes() -> None:
    assert math.isnan(ContourScores().compute().ods)
    with pytest.raises(UsageError, match="thresholds=0"):
        ContourScores(0)
    with pytest.raises(UsageError, match="drawn: expected"):
        ContourScores().update(lines(3), lines(3).bool())
