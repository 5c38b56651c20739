import math

import pytest
import torch
from torch import Tensor

from ranp.errors import UsageError
from ranp.metrics import EdgeScores
from ranp.metrics._edges import dilate, edges


def brute_edges(labels: Tensor, used: Tensor) -> Tensor:
    height, width = labels.shape
    marked = torch.zeros(height, width, dtype=torch.bool)
    for y in range(height):
        for x in range(width):
            for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if 0 <= v < height and 0 <= u < width and used[y, x] and used[v, u]:
                    marked[y, x] |= bool(labels[y, x] != labels[v, u])
    return marked


def random_labels(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 3, shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(6, 7), (1, 5), (5, 1), (1, 1)])
def test_edges_are_four_neighbours_with_another_label(shape: tuple[int, int]) -> None:
    labels = random_labels(*shape)
    used = random_labels(*shape, seed=1) > 0
    assert torch.equal(edges(labels, used), brute_edges(labels, used))


def test_dilation_is_a_square() -> None:
    point = torch.zeros(1, 7, 9, dtype=torch.bool)
    point[0, 2, 4] = True
    expected = torch.zeros_like(point)
    expected[0, 0:5, 2:7] = True
    assert torch.equal(dilate(point, 2), expected)
    assert torch.equal(dilate(point, 0), point)


def test_counts_by_hand_one_column_off() -> None:
    target = torch.zeros(1, 4, 10, dtype=torch.int64)
    prediction = target.clone()
    target[..., 5:] = 1  # edge columns 4, 5
    prediction[..., 6:] = 1  # edge columns 5, 6
    scores = EdgeScores(dilations=(0, 1))
    scores.update(prediction, target)
    sharp, soft = scores.compute()
    assert scores.counts.tolist() == [[4, 4, 4], [12, 4, 4]]
    assert sharp.performance_ratio == 0.5
    assert sharp.f_measure == sharp.precision == sharp.recall == 0.5
    assert (soft.dilation, soft.performance_ratio, soft.f_measure) == (1, 1.5, 0.75)


def test_ignored_pixels_make_no_edges_and_are_not_counted() -> None:
    target = torch.zeros(1, 4, 10, dtype=torch.int64)
    target[..., 4:6] = 255
    target[..., 6:] = 1  # no visible edge: the ignored strip lies between
    prediction = torch.zeros_like(target)
    prediction[..., 5:] = 1  # edge columns 4, 5: both ignored
    scores = EdgeScores(dilations=(1,), ignore=255)
    scores.update(prediction, target)
    assert scores.counts.tolist() == [[0, 0, 0]]
    assert math.isnan(scores.compute()[0].f_measure)


def test_volumes_are_measured_slice_by_slice() -> None:
    prediction, target = random_labels(2, 3, 8, 9), random_labels(2, 3, 8, 9, seed=1)
    volume, slices = EdgeScores(), EdgeScores()
    volume.update(prediction, target)
    for b in range(2):
        slices.update(prediction[b], target[b])
    assert torch.equal(volume.counts, slices.counts)
    flat = torch.arange(4).view(1, 4, 1, 1).expand(1, 4, 5, 5)  # labels that change between slices only
    alone = EdgeScores()
    alone.update(flat, flat)
    assert alone.counts.sum() == 0


def test_a_perfect_prediction_has_an_infinite_ratio() -> None:
    labels = random_labels(1, 6, 6)
    scores = EdgeScores()
    scores.update(labels, labels)
    assert [score.dilation for score in scores.compute()] == [1, 2, 3, 4, 5]
    assert all(score.performance_ratio == math.inf and score.f_measure == 1 for score in scores.compute())


def test_mistakes_are_one_line() -> None:
    labels = torch.zeros(1, 4, 4, dtype=torch.int64)
    for dilations in ((-1,), (1.5,), ()):
        with pytest.raises(UsageError, match="dilations="):
            EdgeScores(dilations=dilations)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"expected the target's shape \(1, 4, 4\), got \(1, 4, 3\)"):
        EdgeScores().update(labels[..., :3], labels)
    with pytest.raises(UsageError, match="integer label maps"):
        EdgeScores().update(labels.float(), labels)
    with pytest.raises(UsageError, match=r"\(B, H, W\) or \(B, D, H, W\)"):
        EdgeScores().update(labels[0], labels[0])
