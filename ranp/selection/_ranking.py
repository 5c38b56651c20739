"""Which neurons a sparsity keeps, before coupling, and how far it can go (Xu et al., 3DV 2020, section 3).

A rule ranks neurons (or, for SNIP, weight elements). Sparsity is the share dropped from that ranking, so that the last
layer, which is kept whole in the end, takes part in it. Ties are kept: all at or above the threshold stays.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil, inf
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
STEP = 2.0**-53


class Ranking(Protocol):
    """What a rule makes of scores."""

    @property
    def values(self) -> Mapping[str, Floats]:
        """A value for each neuron, by layer."""

    def keep(self, sparsity: float) -> dict[str, Mask]:
        """Return which neurons of each layer stay."""

    def largest(self, needs: list[list[tuple[str, NDArray[np.int64], int]]]) -> float:
        """Return the largest sparsity at which every group still has what it needs.

        Args:
            needs: for each group, its layers as (name, indices of its neurons in the group, how many must stay); one of
                the layers is enough.
        """


@dataclass(frozen=True)
class Global:
    """One threshold over everything ranked.

    Args:
        values: a value for each neuron, by layer; it stays while its value is at or above the threshold.
        pool: everything that is ranked: the neurons' values, or those of weight elements.
        drops: whether the rule counts what is dropped, int(n s), instead of what stays, int(n (1 - s)).
    """

    values: Mapping[str, Floats]
    pool: NDArray[np.floating[Any]]
    drops: bool = False

    def rank(self, sparsity: float) -> int:
        """Return how many of the ranked stay; the float expression is the paper's."""
        count = len(self.pool)
        return count - int(count * sparsity) if self.drops else int(count * (1 - sparsity))

    def keep(self, sparsity: float) -> dict[str, Mask]:
        """Keep neurons at or above the k-th largest ranked value."""
        rank = self.rank(sparsity)
        if rank == 0:
            return {name: np.zeros(len(values), dtype=bool) for name, values in self.values.items()}
        threshold = np.partition(self.pool, len(self.pool) - rank)[len(self.pool) - rank]
        return {name: values >= threshold for name, values in self.values.items()}

    def largest(self, needs: list[list[tuple[str, NDArray[np.int64], int]]]) -> float:
        """A group lives while the threshold is at or below the value of the neuron it can't lose: a rank."""
        threshold = inf
        for group in needs:
            threshold = min(
                threshold, max(_nth_largest(self.values[name][where], count) for name, where, count in group)
            )
        least = 1 + int((self.pool > threshold).sum()) if needs else 1
        count = len(self.pool)
        start = (count - least + 1) / count if self.drops else 1 - least / count
        return _last_float(start, lambda sparsity: self.rank(sparsity) >= least)


@dataclass(frozen=True)
class Layerwise:
    """Each layer keeps its ceil(n (1 - s)) best."""

    values: Mapping[str, Floats]

    def keep(self, sparsity: float) -> dict[str, Mask]:
        """Keep each layer's best; ties may add."""
        kept = {}
        for name, values in self.values.items():
            rank = ceil(len(values) * (1 - sparsity))
            kept[name] = values >= _nth_largest(values, rank)
        return kept

    def largest(self, needs: list[list[tuple[str, NDArray[np.int64], int]]]) -> float:
        """A layer keeps its p best while ceil(n (1 - s)) >= p."""

        def lives(sparsity: float) -> bool:
            return sparsity < 1 and all(
                any(ceil(len(self.values[name]) * (1 - sparsity)) >= rank for name, rank in group) for group in ranks
            )

        ranks = [[(name, self._rank(name, where, count)) for name, where, count in group] for group in needs]
        bounds = [max(1 - (rank - 1) / len(self.values[name]) for name, rank in group) for group in ranks]
        return _last_float(min(bounds, default=1.0), lives)

    def _rank(self, name: str, where: NDArray[np.int64], count: int) -> int:
        """Return how many a layer must keep for some of its neurons to keep a count."""
        values = self.values[name]
        return 1 + int((values > _nth_largest(values[where], count)).sum())


def _nth_largest(values: Floats, count: int) -> float:
    return float(np.partition(values, len(values) - count)[len(values) - count])


def _last_float(start: float, holds: Callable[[float], bool]) -> float:
    """Return the largest multiple of 2^-53 in [0, 1) at which a monotone condition holds, a few steps from a start.

    1 - s is exact for those, so that the rule's own float expression decides.
    """
    steps = min(max(int(start / STEP), 0), int(1 / STEP) - 1)
    while steps > 0 and not holds(steps * STEP):
        steps -= 1
    while steps < int(1 / STEP) - 1 and holds((steps + 1) * STEP):
        steps += 1
    return steps * STEP


def by_scores(values: Mapping[str, Floats]) -> Global:
    """Rank all neurons by their scores."""
    return Global(values, np.concatenate(list(values.values())))


def at_random(sizes: Mapping[str, int], seed: int) -> Global:
    """Drop int(n s) neurons drawn by numpy's legacy generator, which equals the paper's draw (seed 0).

    The legacy `choice` without replacement is the head of a permutation, so that a neuron's place in it is its value.
    """
    count = sum(sizes.values())
    places = np.empty(count)
    places[np.random.RandomState(seed).choice(np.arange(count), count, replace=False)] = np.arange(count)
    ends = np.cumsum(list(sizes.values()))[:-1]
    return Global(dict(zip(sizes, np.split(places, ends), strict=True)), places, drops=True)


def by_elements(elements: Mapping[str, NDArray[np.float32]], neurons: Mapping[str, Floats]) -> Global:
    """Rank weight elements (SNIP); a neuron stays while one of its elements does.

    Args:
        elements: absolute scores of all weight and bias elements, by parameter.
        neurons: for each layer, the largest element of each neuron.
    """
    return Global(neurons, np.concatenate([each.ravel() for each in elements.values()]))
