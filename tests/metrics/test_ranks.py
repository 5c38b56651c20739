import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from ranp.metrics import class_accuracy, rank_figures


@given(st.integers(2, 9), st.integers(1, 20), st.integers(0, 100))
def test_ranks_are_counted_from_the_best(classes: int, samples: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(samples, classes, generator=generator)
    target = torch.randint(0, classes, (samples,), generator=generator)
    ranks = [(row > row[k]).sum().item() for row, k in zip(scores, target, strict=True)]
    expected = {"top1": sum(rank == 0 for rank in ranks) / samples}
    if classes > 5:
        expected["top5"] = sum(rank < 5 for rank in ranks) / samples
    measured = rank_figures(scores, target)
    assert measured.keys() == expected.keys()
    assert all(math.isclose(measured[name], expected[name], rel_tol=1e-6) for name in expected)


def test_a_class_without_samples_has_no_accuracy() -> None:
    scores, target = torch.eye(3)[[0, 1, 1]], torch.tensor([0, 0, 1])
    accuracies = class_accuracy(scores, target)
    assert accuracies[:2] == [0.5, 1.0]
    assert math.isnan(accuracies[2])
