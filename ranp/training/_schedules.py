"""The learning rate as a function of the step alone, so that a schedule has no state to keep."""

import math

from ranp.options import Training

_MILESTONES = (2 / 3, 5 / 6)  # of the steps, where none are given


def rate_at(step: int, steps: int, per_epoch: float, training: Training) -> float:
    """Return the learning rate of a step.

    Args:
        step: from 0.
        steps: of the whole training.
        per_epoch: steps in an epoch.
        training: resolved options: `lr` times what the schedule says, after a rise from 0 over `warmup`.
    """
    assert training.lr is not None
    assert training.warmup is not None
    assert training.gamma is not None
    rising = round(training.warmup * steps)
    if step < rising:
        return training.lr * (step + 1) / (rising + 1)
    done = (step - rising) / max(1, steps - rising)  # from 0 to below 1
    milestones = [epoch * per_epoch for epoch in training.milestones] or [share * steps for share in _MILESTONES]
    factor = {
        "constant": 1.0,
        "cosine": (1 + math.cos(math.pi * done)) / 2,
        "poly": (1 - done) ** training.gamma,
        "exponential": training.gamma ** (step / per_epoch),
        "step": training.gamma ** sum(step >= milestone for milestone in milestones),
    }[str(training.schedule)]
    return float(training.lr * factor)
