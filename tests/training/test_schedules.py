import math

import pytest
import torch

from ranp.options import Training
from ranp.training._schedules import rate_at


def rates(steps: int = 20, per_epoch: float = 5, **options: object) -> list[float]:
    training = Training(lr=1.0, warmup=options.pop("warmup", 0.0), gamma=options.pop("gamma", 0.1), **options)  # type: ignore[arg-type]
    return [rate_at(step, steps, per_epoch, training) for step in range(steps)]


def of_torch(make: object, steps: int = 20) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = make(optimizer)  # type: ignore[operator]
    values = []
    for _ in range(steps):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return values


def test_schedules_are_torchs() -> None:
    schedulers = torch.optim.lr_scheduler
    assert rates(schedule="cosine") == pytest.approx(of_torch(lambda o: schedulers.CosineAnnealingLR(o, 20)))
    assert rates(schedule="poly", gamma=0.9) == pytest.approx(of_torch(lambda o: schedulers.PolynomialLR(o, 20, 0.9)))
    assert rates(schedule="step", milestones=(1, 3)) == pytest.approx(
        of_torch(lambda o: schedulers.MultiStepLR(o, [5, 15], 0.1))
    )
    assert rates(schedule="exponential", gamma=0.9, per_epoch=1) == pytest.approx(
        of_torch(lambda o: schedulers.ExponentialLR(o, 0.9))
    )
    assert rates(schedule="constant") == [1.0] * 20


def test_the_rate_rises_first() -> None:
    values = rates(schedule="constant", warmup=0.2)
    assert values[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    cosine = rates(schedule="cosine", warmup=0.2)
    assert cosine[4] == 1.0
    assert cosine[-1] == pytest.approx((1 + math.cos(math.pi * 15 / 16)) / 2)
