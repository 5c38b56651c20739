"""The widths a network can be built with, as numbers that are chosen one by one.

Groups that a constraint ties (rows that keep equally many, stages of equal width) make one variable. A variable's
steps are nested choices of its units: the least it can keep, then its best units one after another, or as many at once
as keep the network buildable. Widths of variables add up to the widths that costs speak of, so that a plan is priced
without being built.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ranp.graph.flow import Ints
from ranp.graph.graph import Graph, Mask

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Space:
    """All plans of a network.

    Args:
        graph: of the network.
        base: units of the smallest plan, shape (count,).
        steps: for each variable, the units that each of its steps adds.
        values: for each variable, what each of its choices keeps beside the base, from 0 on, shape (steps + 1,).
    """

    graph: Graph
    base: Mask
    steps: list[list[Ints]]
    values: list[Floats]

    @classmethod
    def of(
        cls, graph: Graph, base: Mask, value: Floats, stages: Sequence[Ints], align: int, tie: Callable[[Mask], Mask]
    ) -> "Space":
        """Find the variables and their steps.

        Args:
            graph: of the network.
            base: the smallest plan.
            value: of each unit; the best of a group are added first.
            stages: groups that are equally wide.
            align: what widths are multiples of.
            tie: makes a choice one that can be built, by adding to it.
        """
        steps = []
        for members, tied in _variables(graph, stages):
            order = _order(graph, members, base, value)
            chain = _free(graph, members[0], base, order, align) if not tied else _built(base, order, tie)
            if chain:
                steps.append(chain)
        values = [np.cumsum([0.0, *(float(value[units].sum()) for units in chain)]) for chain in steps]
        return cls(graph, base, steps, values)

    def mask(self, choice: Ints) -> Mask:
        """Return the units of a choice of a step for each variable."""
        kept = self.base.copy()
        for chain, taken in zip(self.steps, choice.tolist(), strict=True):
            for units in chain[:taken]:
                kept[units] = True
        return kept

    def inside(self, kept: Mask) -> Ints:
        """Return the largest choice whose groups are nowhere wider than a plan's."""
        widths, own = np.array(self.graph.widths(kept)), np.array(self.graph.widths(self.base))
        choice = []
        for chain in self.steps:
            taken, wide = 0, own.copy()
            for units in chain:
                np.add.at(wide, self.graph.group_of[units], 1)
                if (wide > widths).any():
                    break
                taken += 1
            choice.append(taken)
        return np.array(choice, dtype=np.int64)

    def widths(self, function: Callable[[Mask], Ints]) -> tuple[Ints, list[Ints]]:
        """Return the widths of the base, shape (numbers,), and what each choice adds to them, (steps + 1, numbers)."""
        start = function(self.base)
        added = []
        for chain in self.steps:
            kept, rows = self.base.copy(), [np.zeros_like(start)]
            for units in chain:
                kept[units] = True
                rows.append(function(kept) - start)
            added.append(np.array(rows))
        return start, added


def _variables(graph: Graph, stages: Sequence[Ints]) -> list[tuple[list[int], bool]]:
    """Return the groups of each variable, and whether a constraint holds them."""
    pairs: list[tuple[int, int]] = []
    tied = np.zeros(len(graph.groups), dtype=bool)
    sets = [np.unique(graph.group_of[rows[rows >= 0]]) for rows in graph.balance] + list(stages)
    for each in sets:
        tied[each] = True
        pairs += [(int(each[0]), int(other)) for other in each[1:]]
    first, second = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    links = coo_array((np.ones(len(first)), (first, second)), shape=(len(graph.groups),) * 2)
    _, label = connected_components(links, directed=False)
    return [
        (np.flatnonzero(label == each).tolist(), bool(tied[label == each].any()))
        for each in range(label.max(initial=-1) + 1)
    ]


def _order(graph: Graph, members: list[int], base: Mask, value: Floats) -> list[Ints]:
    """Return units beyond the base by their place: the best of every group, or row, then the second best."""
    place = np.full(graph.count, -1)
    for number in members:
        units = graph.groups[number].units
        place[units[np.lexsort((units, -value[units], ~base[units]))]] = np.arange(len(units))
    inside = np.isin(graph.group_of, members)
    for rows in graph.balance:
        for row in rows:
            units = np.unique(row[row >= 0])
            if len(units) and inside[units].all():
                place[units[np.lexsort((units, -value[units], ~base[units]))]] = np.arange(len(units))
    later = np.flatnonzero(inside & ~base)
    return [later[place[later] == each] for each in np.unique(place[later])]


def _free(graph: Graph, number: int, base: Mask, order: list[Ints], align: int) -> list[Ints]:
    """Return the steps of a group by itself: one unit each, or up to the next multiple of `align`."""
    flat = np.concatenate(order) if order else np.zeros(0, dtype=np.int64)
    start = int(base[graph.groups[number].units].sum())
    cuts = [at for at in range(1, len(flat)) if (start + at) % align == 0]
    return [each for each in np.split(flat, cuts) if len(each)]


def _built(base: Mask, order: list[Ints], tie: Callable[[Mask], Mask]) -> list[Ints]:
    kept, chain = base, []
    for units in order:
        wider = kept.copy()
        wider[units] = True
        wider = tie(wider)
        if (wider & ~kept).any():
            chain.append(np.flatnonzero(wider & ~kept))
        kept = wider
    return chain
