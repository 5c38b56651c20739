"""What a network can be built with: groups of a least width, rows that keep equally many, stages of one width."""

from dataclasses import dataclass
from functools import cached_property
from math import ceil

import numpy as np
from numpy.typing import NDArray

from ranp.figures import percentage
from ranp.graph.constraints import grow
from ranp.graph.graph import Graph, Group, Mask
from ranp.selection._coupling import level
from ranp.selection._stages import Stage

Floats = NDArray[np.float64]


@dataclass
class Building:
    """What is made of units that are to stay, so that a network can be built with them.

    Args:
        graph: of the network.
        priority: of each unit, shape (count,): who is added first.
        min_width: units that every group keeps, or their share ("10%").
        stages: the groups whose widths are decided together.
    """

    graph: Graph
    priority: Floats
    min_width: int | str
    stages: list[Stage]

    def built(self, kept: Mask, align: int = 1) -> Mask:
        """Return what the network can be built with: every group with the least it needs, rows levelled."""
        kept = level(self.graph, self._with_floors(kept), self.priority)
        kept = self._with_floors(grow(self.graph, kept, self.priority))  # levelling may have taken of what is needed
        if self.stages:
            kept = self._tied(kept, align)
        return grow(self.graph, kept, self.priority, align)

    def _tied(self, kept: Mask, align: int) -> Mask:
        """Return units of which the groups of a stage keep the mean of what they kept, then as many as the widest."""
        before = np.array(self.graph.widths(kept))
        kept = self._with_floors(np.zeros_like(kept))
        for stage in self.stages:
            for number, width in stage.at(stage.mean_step(before[stage.groups])):
                self._fill(kept, number, width)
        while True:
            kept = grow(self.graph, kept, self.priority, align)
            widths = np.array(self.graph.widths(kept))
            total = int(kept.sum())
            for stage in self.stages:
                for number, width in stage.at(stage.step(widths[stage.groups])):
                    self._fill(kept, number, width)
            if int(kept.sum()) == total:
                return kept

    def _fill(self, kept: Mask, number: int, width: int) -> None:
        """Add the best units of a group up to a width, of rows that keep equally many those of the emptiest."""
        units = self.graph.groups[number].units
        best = units[np.lexsort((units, -self.priority[units], ~kept[units]))]
        rows = self._rows[best]
        if (rows >= 0).any():
            place = np.array([int((rows[:at] == row).sum()) if row >= 0 else 0 for at, row in enumerate(rows.tolist())])
            best = best[np.lexsort((np.arange(len(best)), place, ~kept[best]))]
        kept[best[:width]] = True

    @cached_property
    def _rows(self) -> NDArray[np.int64]:
        """The row of each unit that lies in one of those which keep equally many, shape (count,); -1 for the others."""
        found = np.full(self.graph.count, -1)
        total = 0
        for rows in self.graph.balance:
            for row in rows:
                found[row[row >= 0]] = total
                total += 1
        return found

    def _with_floors(self, kept: Mask) -> Mask:
        kept = kept.copy()
        for number, (floor, _) in enumerate(self.floors):
            self._fill(kept, number, floor)
        return kept

    @cached_property
    def floors(self) -> list[tuple[int, int]]:
        """How many units each group must keep, and how many of it stay whatever the ranking."""
        frozen = self.graph.frozen
        least = [max(self._width(group), each) for group, each in zip(self.graph.groups, self.graph.least, strict=True)]
        floors = [min(floor, len(group.units)) for floor, group in zip(least, self.graph.groups, strict=True)]
        stays = [int(frozen[group.units].sum()) for group in self.graph.groups]
        return list(zip(floors, stays, strict=True))

    def _width(self, group: Group) -> int:
        """Return the least width that was asked for, in units of a group."""
        least = self.min_width
        if isinstance(least, int):
            return least
        portion = percentage(str(least))
        assert portion is not None
        return ceil(portion * len(group.units))

    def buildable(self, kept: Mask, values: Floats, align: int) -> Mask:
        """Return the least that can be built with some units among it; the others are those worth most."""
        while True:
            wider = grow(self.graph, kept, values, align)
            widths = np.array(self.graph.widths(wider))
            for stage in self.stages:
                for number, width in stage.at(stage.step(widths[stage.groups])):
                    self._fill(wider, number, width)
            if (wider == kept).all():
                return kept
            kept = wider
