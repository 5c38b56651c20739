"""Which neurons a sparsity keeps, before coupling, and how far it can go (Xu et al., 3DV 2020, section 3).

A rule ranks neurons (or, for SNIP, weight elements). Sparsity is the share dropped from that ranking, so that the last
layer, which is kept whole in the end, takes part in it.

Differs from the paper: it keeps all that equal the threshold, so that a network of equal scores loses nothing at any
sparsity. Here equal values are ranked by a seeded draw of their units, so that exactly what is asked for goes, and
tied layers lose the same units. Where no values are equal the two are one.
"""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from math import ceil
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
STEP = 2.0**-53


class Ranking(Protocol):
    """What a rule makes of scores."""

    @property
    def places(self) -> Mapping[str, Ints]:
        """A place for each neuron, by layer."""

    def keep(self, sparsity: float) -> dict[str, Mask]:
        """Return which neurons of each layer stay."""

    def largest(self, needs: list[list[tuple[str, NDArray[np.int64], int]]]) -> float:
        """Return the largest sparsity at which every group still has what it needs.

        Args:
            needs: for each group, its layers as (name, indices of its neurons in the group, how many must stay); one of
                the layers is enough.
        """

    @property
    def steps(self) -> int:
        """How many choices there are beside the least."""

    def at(self, step: int) -> dict[str, Mask]:
        """Return which neurons stay at a step: more at each, at 0 only what stays at any sparsity."""

    def spared(self, staying: Mapping[str, Mask]) -> "Ranking":
        """Return the ranking of the others, below what stays whatever its score."""

    @property
    def emptied(self) -> float:
        """The largest sparsity at which no more goes than at smaller ones, once all that is not spared is gone."""


@dataclass(frozen=True)
class Global:
    """One threshold over everything ranked.

    Args:
        places: for each neuron, by layer, how many of the ranked stay at least where it does: 1 for the best.
        count: how many are ranked: the neurons, or weight elements.
        drops: whether the rule counts what is dropped, int(n s), instead of what stays, int(n (1 - s)).
        spared_count: up to which place all stay at any sparsity.
    """

    places: Mapping[str, Ints]
    count: int
    drops: bool = False
    spared_count: int = 0

    def rank(self, sparsity: float) -> int:
        """Return how many of the ranked stay; the float expression is the paper's."""
        return self.count - int(self.count * sparsity) if self.drops else int(self.count * (1 - sparsity))

    def keep(self, sparsity: float) -> dict[str, Mask]:
        """Keep the best."""
        return self.at(self.rank(sparsity))

    @property
    def steps(self) -> int:
        """One for each rank."""
        return self.count

    def at(self, step: int) -> dict[str, Mask]:
        """Keep those up to a rank, and what is spared."""
        rank = max(step, self.spared_count)
        return {name: places <= rank for name, places in self.places.items()}

    def largest(self, needs: list[list[tuple[str, NDArray[np.int64], int]]]) -> float:
        """A group lives while the neuron that it can't lose stays: a rank."""
        lowest = [min(_nth(self.places[name][where], count) for name, where, count in group) for group in needs]
        least = max(lowest, default=1)
        return self._last(least)

    def _last(self, least: int) -> float:
        """Return the largest sparsity at which so many stay."""
        start = (self.count - least + 1) / self.count if self.drops else 1 - least / self.count
        return _last_float(start, lambda sparsity: self.rank(sparsity) >= least)

    def spared(self, staying: Mapping[str, Mask]) -> "Global":
        """What stays takes the first places; of elements, which are more than neurons, none is taken."""
        places, stays = _joined(self.places), _joined({name: staying[name] for name in self.places})
        if self.count != len(places):
            return replace(self, places={name: np.where(staying[name], 0, each) for name, each in self.places.items()})
        first, later = np.sort(places[stays]), np.sort(places[~stays])
        fresh = np.where(
            stays,
            np.searchsorted(first, places, side="right"),
            len(first) + np.searchsorted(later, places, side="right"),
        )
        return replace(self, places=_split(self.places, fresh), spared_count=len(first))

    @property
    def emptied(self) -> float:
        """The rank above which the first of the others stands."""
        places = _joined(self.places)
        others = places[places > self.spared_count]
        return self._last(max(int(others.min()) - 1, 0)) if len(others) else 0.0


@dataclass(frozen=True)
class Layerwise:
    """Each layer, or class of equal layers, keeps its ceil(n (1 - s)) best.

    Args:
        places: of each layer's neurons among its own or its class's: 1 for the best; 0 stays at any sparsity.
        sizes: for each layer, how many are ranked with it.
    """

    places: Mapping[str, Ints]
    sizes: Mapping[str, int]

    def _kept(self, name: str, sparsity: float) -> int:
        return ceil(self.sizes[name] * (1 - sparsity))

    def keep(self, sparsity: float) -> dict[str, Mask]:
        """Keep each layer's best."""
        return {name: places <= self._kept(name, sparsity) for name, places in self.places.items()}

    @cached_property
    def _shares(self) -> list[Fraction]:
        """The shares kept at which some layer keeps one more."""
        distinct = {Fraction(place, size) for size in set(self.sizes.values()) for place in range(1, size + 1)}
        return sorted(distinct)

    @property
    def steps(self) -> int:
        """One for each share at which some layer keeps one more."""
        return len(self._shares)

    def at(self, step: int) -> dict[str, Mask]:
        """Keep the same share of each."""
        kept = self._shares[step - 1] if step else Fraction(0)
        return {name: places <= ceil(self.sizes[name] * kept) for name, places in self.places.items()}

    def largest(self, needs: list[list[tuple[str, NDArray[np.int64], int]]]) -> float:
        """A layer keeps its p best while ceil(n (1 - s)) >= p."""

        def lives(sparsity: float) -> bool:
            return sparsity < 1 and all(
                any(self._kept(name, sparsity) >= rank for name, rank in group) for group in ranks
            )

        ranks = [[(name, _nth(self.places[name][where], count)) for name, where, count in group] for group in needs]
        bounds = [max(1 - (rank - 1) / self.sizes[name] for name, rank in group) for group in ranks]
        return _last_float(min(bounds, default=1.0), lives)

    def spared(self, staying: Mapping[str, Mask]) -> "Layerwise":
        """What stays counts among a layer's best."""
        places = {name: np.where(staying[name], 0, each) for name, each in self.places.items()}
        return replace(self, places=places)

    @property
    def emptied(self) -> float:
        """The last layer that loses more."""
        others = {name: each[each > 0] for name, each in self.places.items() if (each > 0).any()}
        left = {name: max(int(each.min()) - 1, 1) for name, each in others.items()}  # what a layer is left with

        def loses(sparsity: float) -> bool:
            return sparsity < 1 and any(self._kept(name, sparsity) >= count for name, count in left.items())

        return _last_float(
            max((1 - (count - 1) / self.sizes[name] for name, count in left.items()), default=0.0), loses
        )


def _nth(places: Ints, count: int) -> int:
    """Return the place up to which all must stay for a count of these to stay."""
    return int(np.partition(places, count - 1)[count - 1])


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


def in_order(values: Floats, draw: Ints) -> Ints:
    """Return the place of each value, 1 for the largest; equal ones are ordered by a draw.

    >>> in_order(np.array([1.0, 2.0, 2.0]), np.array([0, 1, 0])).tolist()
    [3, 2, 1]
    """
    places = np.empty(len(values), dtype=np.int64)
    places[np.lexsort((draw, -values))] = np.arange(1, len(values) + 1)
    return places


def by_scores(values: Mapping[str, Floats], draws: Mapping[str, Ints]) -> Global:
    """Rank all neurons by their scores.

    Args:
        values: by layer.
        draws: for each neuron a number that orders it among equal ones.
    """
    places = in_order(_joined(values), _joined(draws))
    return Global(_split(values, places), len(places))


def by_layer(values: Mapping[str, Floats], draws: Mapping[str, Ints]) -> Layerwise:
    """Rank the neurons of each layer among themselves; arguments as those of `by_scores`."""
    places = {name: in_order(each, draws[name]) for name, each in values.items()}
    return Layerwise(places, {name: len(each) for name, each in places.items()})


def by_class(values: Mapping[str, Floats], draws: Mapping[str, Ints], classes: Mapping[str, Hashable]) -> Layerwise:
    """Rank the neurons of layers of one class together; arguments as those of `by_scores`.

    Args:
        values: by layer.
        draws: see `by_scores`.
        classes: of each layer.
    """
    places: dict[str, Ints] = {}
    for kind in dict.fromkeys(classes.values()):
        own = {name: each for name, each in values.items() if classes[name] == kind}
        places |= _split(own, in_order(_joined(own), _joined({name: draws[name] for name in own})))
    sizes = {name: sum(len(values[other]) for other in values if classes[other] == classes[name]) for name in values}
    return Layerwise({name: places[name] for name in values}, sizes)


def at_random(sizes: Mapping[str, int], seed: int) -> Global:
    """Drop int(n s) neurons drawn by numpy's legacy generator, which equals the paper's draw (seed 0).

    The legacy `choice` without replacement is the head of a permutation, so that a neuron's place in it decides.
    """
    count = sum(sizes.values())
    places = np.empty(count, dtype=np.int64)
    places[np.random.RandomState(seed).choice(np.arange(count), count, replace=False)] = count - np.arange(count)
    ends = np.cumsum(list(sizes.values()))[:-1]
    return Global(dict(zip(sizes, np.split(places, ends), strict=True)), count, drops=True)


def by_elements(
    elements: Mapping[str, NDArray[np.float32]], neurons: Mapping[str, Floats], draws: Mapping[str, Ints]
) -> Global:
    """Rank weight elements (SNIP); a neuron stays while one of its elements does.

    Where the best elements of several neurons are equal, these share the places of all such elements evenly.

    Args:
        elements: absolute scores of all weight and bias elements, by parameter.
        neurons: for each layer, the largest element of each neuron.
        draws: see `by_scores`.
    """
    pool = np.sort(np.concatenate([each.ravel() for each in elements.values()]))
    values = _joined(neurons)
    above = len(pool) - np.searchsorted(pool, values, side="right")
    equal = len(pool) - np.searchsorted(pool, values, side="left") - above
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    order = in_order(values, _joined(draws)) - 1  # over all neurons, the best first
    before = np.cumsum(sizes[::-1])[::-1] - sizes  # neurons that are better than those of each group
    places = 1 + above + (order - before[group]) * equal // sizes[group]
    return Global(_split(neurons, places), len(pool))


def _joined(values: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    return np.concatenate(list(values.values()))


def _split(like: Mapping[str, NDArray[Any]], joined: Ints) -> dict[str, Ints]:
    ends = np.cumsum([len(each) for each in like.values()])[:-1]
    return dict(zip(like, np.split(joined, ends), strict=True))
