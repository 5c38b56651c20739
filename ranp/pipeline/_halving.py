"""Who goes on, and who wins: successive halving, and a rule that lets noise decide nothing.

Jamieson and Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter Optimization" (AISTATS 2016): every
round trains fewer candidates for longer. Here each round begins anew, so that its schedule runs to its end and what is
compared is a whole training; both steps and seeds grow by `eta`; and one candidate, the baseline, always goes on.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

Scores = Mapping[str, Sequence[float]]
FEWEST = 2  # that go on, and seeds of a round: of one, nobody knows how noisy it is


@dataclass(frozen=True)
class Round:
    """A round: how many candidates there are at most beside the baseline, the steps of each, and the seeds."""

    candidates: int
    steps: int
    seeds: int


def rounds(candidates: int, steps: int, seeds: int, eta: int) -> list[Round]:
    """Return the rounds; the last trains `steps` steps with all seeds, and no more than `eta` candidates.

    >>> for each in rounds(12, 900, 3, 3): print(each)
    Round(candidates=12, steps=100, seeds=2)
    Round(candidates=4, steps=300, seeds=2)
    Round(candidates=2, steps=900, seeds=3)
    """
    counts = [candidates]
    while counts[-1] > eta:
        counts.append(max(FEWEST, math.ceil(counts[-1] / eta)))
    last = len(counts) - 1
    return [
        Round(
            count,
            math.ceil(steps / eta ** (last - number)),
            max(min(FEWEST, seeds), math.ceil(seeds / eta ** (last - number))),
        )
        for number, count in enumerate(counts)
    ]


def going_on(scores: Scores, count: int, baseline: str) -> list[str]:
    """Return the names of the best by their mean, and the baseline, in the order they came.

    Args:
        scores: of each candidate by seed, the simpler first: of equal ones those go on that come first.
        count: how many go on, the baseline not counted where it is not among them.
        baseline: goes on in any case, if it is there.
    """
    best = sorted(scores, key=lambda name: -fmean(scores[name]))[:count]
    return [name for name in scores if name in best or name == baseline]


def noise(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the standard error of the mean of paired differences; 0 of one pair, whose noise nobody knows.

    >>> noise([3.0, 5.0], [1.0, 1.0])
    1.0
    """
    differences = [a - b for a, b in zip(one, other, strict=True)]
    return stdev(differences) / math.sqrt(len(differences)) if len(differences) > 1 else 0.0


def within_noise(best: Sequence[float], other: Sequence[float]) -> bool:
    """Whether the mean of paired differences is no larger than its standard error."""
    return fmean(best) - fmean(other) <= noise(best, other)


def winner(scores: Scores, simplicity: Mapping[str, int]) -> str:
    """Return the best by its mean, or the simplest of those that are within the noise of it.

    So it is never worse than the simplest of all, the baseline, beyond the noise of the two. Where that is within the
    noise of the best, it wins. Where it is not, whoever wins is: the standard error of differences obeys the triangle
    inequality, so that what the winner lacks against the baseline is less than the noise between these two.

    Args:
        scores: of each candidate by seed, the same seeds for all.
        simplicity: of each; the least wins, and of equally simple ones the best.
    """
    best = max(scores, key=lambda name: fmean(scores[name]))
    tied = [name for name in scores if within_noise(scores[best], scores[name])]
    return min(tied, key=lambda name: (simplicity[name], -fmean(scores[name])))
