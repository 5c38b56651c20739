import math

import pytest
import torch

from ranp.errors import UsageError
from ranp.metrics import SaliencyScores


def f_beta(precision: float, recall: float) -> float:
    return 1.3 * precision * recall / (0.3 * precision + recall) if precision + recall else 0.0


def test_the_definitions_one_threshold_after_another() -> None:
    generator = torch.Generator().manual_seed(0)
    scores, mae, adaptive = SaliencyScores(), 0.0, 0.0
    curves = [[0.0, 0.0] for _ in range(256)]
    for _ in range(3):
        saliency = torch.rand(7, 6, generator=generator, dtype=torch.float64)
        mask = torch.rand(7, 6, generator=generator) > 0.6
        scores.update(saliency, mask)
        mae += float((saliency - mask.double()).abs().mean()) / 3
        for place, threshold in [*enumerate(torch.linspace(0, 1, 256)), (-1, min(2 * saliency.mean(), 1))]:
            marked = saliency >= threshold
            right = float((marked & mask).sum())
            precision, recall = right / max(float(marked.sum()), 1), right / float(mask.sum())
            if place < 0:
                adaptive += f_beta(precision, recall) / 3
            else:
                curves[place][0] += precision / 3
                curves[place][1] += recall / 3
    found = scores.compute()
    every = [f_beta(*pair) for pair in curves]
    assert found["mae"] == pytest.approx(mae)
    assert found["f_adaptive"] == pytest.approx(adaptive, rel=1e-6)
    assert found["f_max"] == pytest.approx(max(every), rel=1e-6)
    assert found["f_mean"] == pytest.approx(sum(every) / 256, rel=1e-6)


def test_nothing_to_measure_and_mistakes() -> None:
    scores = SaliencyScores()
    assert all(math.isnan(value) for value in scores.compute().values())
    with pytest.raises(UsageError, match="expected the mask's shape"):
        scores.update(torch.zeros(2, 3), torch.ones(3, 2, dtype=torch.bool))
    for saliency, mask in ((torch.full((2, 2), 1.5), torch.ones(2, 2)), (torch.zeros(2, 2), torch.zeros(2, 2))):
        with pytest.raises(UsageError, match="expected values from 0 to 1, and a mask that is not empty"):
            scores.update(saliency, mask.bool())
