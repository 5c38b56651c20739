"""A goal: ranked neurons or units, what becomes of a choice among them, and which sparsity of it can be had.

A shortfall: less than half of the neurons that the ranking dropped would go, and the others are more than rounding
explains. Outputs of the network and what the user fixed do not count as dropped; `align` rounds what is left and is
looked at after; rounding is one unit of every group that can lose any, and one of each row where rows keep equally
many. Frozen units, coupling and least widths make a shortfall.
"""

from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ranp.errors import InfeasibleError, named
from ranp.figures import at_most, share
from ranp.graph.graph import Graph, Mask, staying
from ranp.options import Selection
from ranp.selection._building import Building
from ranp.selection._coupling import Share, keep_units, unit_values
from ranp.selection._ranking import Ranking

Floats = NDArray[np.float64]
STEPS, HALVINGS = 32, 12  # of the search for a sparsity without a shortfall
AS_WANTED = ("network output", "fixed by the user")  # reasons that nobody expects to be overruled


@dataclass
class Goal:
    """Ranked neurons or units, and what coupling and constraints make of them."""

    graph: Graph
    options: Selection
    ranking: Ranking
    shares: list[list[Share]]
    building: Building
    strength: float | None = None
    units: NDArray[np.int64] | None = None
    stages: dict[str, dict[str, Floats]] = field(default_factory=dict)
    floored: bool = False

    def spared(self) -> "Goal":
        """Return the same goal, for which what stays in the smallest network is ranked above all else."""
        by_name: dict[str, Mask] = {}
        if self.units is not None:
            by_name["units"] = self.smallest[self.units]
        else:
            for layer in self.graph.layers:
                size = len(self.ranking.places[layer.name])  # the published rule ranks some by their inputs
                by_name[layer.name] = (
                    staying(self.smallest, layer.units) if size == len(layer.units) else np.zeros(size, dtype=bool)
                )
        return replace(self, ranking=self.ranking.spared(by_name), floored=True)

    def dropped(self, sparsity: float) -> int:
        """Return how many neurons the ranking drops that may well go."""
        kept = self.ranking.keep(sparsity)
        wanted = [reason is None or not reason.startswith(AS_WANTED) for reason in self.graph.reasons]
        if self.units is not None:
            units = self.units[~kept["units"]]
            return int(self._neurons[units][np.array(wanted, dtype=bool)[units]].sum())
        counts = np.array(wanted, dtype=bool)
        total = 0
        for layer in self.graph.layers:
            gone = ~kept[layer.name]
            counted = staying(counts, layer.units) if len(gone) == len(layer.units) else np.ones_like(gone)
            total += int((gone & counted).sum())
        return total

    def at(self, step: int, align: int = 1) -> Mask:
        """Return the units that a step of the ranking keeps in the end."""
        return self.building.built(self._coupled(self.ranking.at(step)), align)

    @cached_property
    def values(self) -> Floats:
        """What each unit is worth to a solver, shape (count,): the sum of its neurons' scores as they are ranked."""
        last = list(self.stages.values())[-1] if self.stages else None
        if last is None or any(len(last[layer.name]) != len(layer.units) for layer in self.graph.layers):
            return self.building.priority
        units, summed = unit_values(self.graph, last, "sum")
        values = np.zeros(self.graph.count)
        values[units] = summed
        return values

    def buildable(self, kept: Mask) -> Mask:
        """Return the least that can be built with some units among it."""
        return self.building.buildable(kept, self.values, self.options.align)

    def keep(self, sparsity: float, align: int = 1) -> Mask:
        """Return the units that a sparsity keeps in the end."""
        return self.building.built(self._coupled(self.ranking.keep(sparsity)), align)

    @cached_property
    def smallest(self) -> Mask:
        """The units of the smallest network that can be built, widths not aligned."""
        sizes = {name: len(places) for name, places in self.ranking.places.items()}
        return self.building.built(self._coupled({name: np.zeros(size, dtype=bool) for name, size in sizes.items()}))

    @cached_property
    def nominal(self) -> float:
        """The largest sparsity at which every group that can lose any keeps what it needs; 0 where none can."""
        if self.smallest.all():
            return 0.0
        if self.floored:
            return self.ranking.emptied
        return self.ranking.largest(self._unit_needs() if self.units is not None else self._needs())

    @cached_property
    def largest(self) -> float:
        """The same where that is no shortfall; else a largest that is none, and no more than the share that can go.

        SNIP's sparsity is a share of weight elements, so that the share of neurons is no bound of it.
        """
        if self.floored or not self.is_short(self.nominal):
            return self.nominal
        can_go = 1.0 if self.options.rule == "snip" else achieved(self.graph, self.smallest)
        return self._without_shortfall(min(self.nominal, can_go))

    def _without_shortfall(self, most: float) -> float:
        """Return a largest sparsity up to some value that has no shortfall: of 32 steps, and halved between two."""
        high = low = most
        for part in range(STEPS, -1, -1):
            low = most * part / STEPS
            if not self.is_short(low):
                break
            high = low
        for _ in range(HALVINGS if low < high else 0):
            middle = (low + high) / 2
            low, high = (low, middle) if self.is_short(middle) else (middle, high)
        return low

    def check(self, sparsity: float) -> None:
        """Refuse what can't be had.

        Raises:
            InfeasibleError: it is above the largest, or there is a shortfall.
        """
        said = named("sparsity", sparsity)
        if sparsity > self.nominal > 0 and not self.floored:
            raise InfeasibleError(
                f"{said} would leave {self._hindrance(sparsity)} with fewer than {self.options.min_width} unit(s); "
                f"the largest feasible value is {at_most(self.largest, 6)}",
                closest=self.largest,
            )
        can_go = achieved(self.graph, self.smallest)
        if sparsity > can_go >= self.largest and (self.options.rule != "snip" or not can_go):
            raise InfeasibleError(
                f"{said}: no more than {share(can_go)} of the neurons can go, "
                f"{self._why()}; the largest feasible value is {at_most(self.largest, 6)}",
                closest=self.largest,
            )
        if sparsity > 0 and self.is_short(sparsity):
            closest = self._without_shortfall(sparsity)
            raise InfeasibleError(
                f"{said}: {share(achieved(self.graph, self.keep(sparsity)))} of the neurons would go, less than half "
                f"of what the ranking drops, {self._why()}; the closest feasible value is {at_most(closest, 6)}, "
                f"and {named('allow_less')} takes what can go",
                closest=closest,
            )

    def _hindrance(self, sparsity: float) -> str:
        """Name the first group that a sparsity beyond the largest leaves with too little."""
        kept = self._coupled(self.ranking.keep(sparsity))
        floors = zip(self.building.floors, self.graph.groups, strict=True)
        short = (group.name for (floor, _), group in floors if kept[group.units].sum() < floor)
        name = next(short, None)
        return "a group" if name is None else f"group {name!r}"

    def is_short(self, sparsity: float) -> bool:
        """Whether a sparsity has a shortfall, as the module defines it."""
        gone, dropped = int(self._neurons[~self.keep(sparsity)].sum()), self.dropped(sparsity)
        return 2 * gone < dropped and dropped - gone > self._rounding

    @cached_property
    def _neurons(self) -> NDArray[np.int64]:
        """How many neurons go with each unit, shape (count,)."""
        units = np.concatenate([layer.units for layer in self.graph.layers])
        return np.bincount(units[units >= 0], minlength=self.graph.count)

    @cached_property
    def _rounding(self) -> int:
        """How many neurons may stay because widths are whole."""
        total = 0
        for group in self.graph.groups:
            if not self.smallest[group.units].all():
                rows = [len(each) for each in self.graph.balance if np.isin(each, group.units).any()]
                total += int(self._neurons[group.units].max()) * max([1, *rows])
        return total

    def _why(self) -> str:
        """Say what keeps most neurons."""
        reasons = Counter[str]()
        for unit in np.flatnonzero(self.smallest).tolist():
            reasons[self.graph.reasons[unit] or "widths have a least"] += int(self._neurons[unit])
        (reason, count), *_ = reasons.most_common(1) or [("nothing ranked", 0)]
        total = sum(len(layer.units) for layer in self.graph.layers)
        return f"{count} of {total} must stay ({reason})"

    def _coupled(self, kept: dict[str, Mask]) -> Mask:
        """Return the units a choice of neurons or units keeps."""
        if self.units is None:
            return keep_units(self.graph, self.shares, kept, self.building.priority)
        stays = self.graph.frozen | ~np.isin(np.arange(self.graph.count), self.units)
        stays[self.units[kept["units"]]] = True
        return stays

    def _needy(self) -> list[tuple[int, int, int]]:
        """Return (number, floor, what stays anyway) of each group that the ranking may leave too narrow.

        A group that can't lose anything says nothing of how much can go.
        """
        stuck = [bool(self.smallest[group.units].all()) for group in self.graph.groups]
        numbered = enumerate(self.building.floors)
        return [(at, floor, stays) for at, (floor, stays) in numbered if floor > stays and not stuck[at]]

    def _needs(self) -> list[list[tuple[str, NDArray[np.int64], int]]]:
        needs = []
        for number, floor, _ in self._needy():
            members = self.shares[number]
            if members and not any(share.full for share in members):
                needs.append([(s.layer.name, s.neurons, min(s.needs(floor), len(s.neurons))) for s in members])
        return needs

    def _unit_needs(self) -> list[list[tuple[str, NDArray[np.int64], int]]]:
        assert self.units is not None
        position = np.full(self.graph.count, -1)
        position[self.units] = np.arange(len(self.units))
        needs = []
        for number, floor, stays in self._needy():
            units = self.graph.groups[number].units
            # Units that stay anyway are not the ranking's to keep.
            needs.append([("units", position[units[~self.graph.frozen[units]]], floor - stays)])
        return needs


def achieved(graph: Graph, kept: Mask) -> float:
    """Return the share of neurons that are gone."""
    units = np.concatenate([layer.units for layer in graph.layers])
    return float((~kept[units[units >= 0]]).sum() / len(units))
