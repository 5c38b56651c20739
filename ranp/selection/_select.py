"""select(): scores + costs + a goal -> which units stay.

Sparsity is the share of neurons dropped from the ranking (Xu, Ajanthan, Vineet and Hartley, "RANP: Resource Aware
Neuron Pruning at Initialization for 3D CNNs", 3DV 2020). The largest feasible sparsity is a rank, read off in one pass
over the scores; the paper's bisection is not needed. Where so much would be a shortfall, it is a largest sparsity that
is none, so that what is named as the largest can be asked for.

A shortfall: less than half of the neurons that the ranking dropped would go, and the others are more than rounding
explains. Outputs of the network and what the user fixed do not count as dropped; `align` rounds what is left and is
looked at after; rounding is one unit of every group that can lose any, and one of each row where rows keep equally
many. Frozen units, coupling and least widths make a shortfall; it is an error unless `allow_less`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranp import cost
from ranp.errors import InfeasibleError, UsageError, check_type, named
from ranp.figures import at_most, share
from ranp.graph.constraints import grow
from ranp.graph.graph import Graph, Group, Mask, staying
from ranp.graph.tape import Layer
from ranp.options import PATTERNS, Selection, percentage
from ranp.plan import Choice, Plan
from ranp.scores import Scores
from ranp.scores.result import summary
from ranp.selection import _reweight as reweighting
from ranp.selection._coupling import Share, keep_units, level, priorities, shares, unit_values
from ranp.selection._limits import Limits
from ranp.selection._patterns import fitting, pattern
from ranp.selection._ranking import Global, Ranking, at_random, by_class, by_elements, by_layer, by_scores, in_order
from ranp.selection._solve import Search, threshold
from ranp.selection._space import Space
from ranp.selection._stages import Stage, by_level, by_ties

Floats = NDArray[np.float64]
FLOOR = 4
"""Least width under limits where none is asked for: good choices like layers of one channel, which learn little."""
STEPS, HALVINGS = 32, 12  # of the search for a sparsity without a shortfall
AS_WANTED = ("network output", "fixed by the user")  # reasons that nobody expects to be overruled


def select(
    graph: Graph,
    scores: Scores | None,
    *,
    seed: int = 0,
    price: cost.CostFunction | None = None,
    ties: Sequence[Mapping[str, Sequence[int]]] = (),
    **options: Any,
) -> Plan:
    """Choose which units stay.

    Args:
        graph: of the network.
        scores: of its neurons; may be None for the random rule.
        seed: of the random rule, and of the draw that ranks equal scores.
        price: what plans cost, with the meters of limits that are no functions of the graph alone (`infer_memory`,
            `train_memory`, `latency`); `ranp.prune` makes it.
        ties: with `tie`: which layers one number of the network's constructor makes, by the name of the weight, and
            their output channels at each of its values, as `Constructor.ties` returns them; () ties resolutions.
        options: the fields of `ranp.options.Selection`, where their defaults stand. One of `sparsity` (the share of
            neurons to drop from the ranking, in [0, 1)) and `max_sparsity` (take the largest feasible) is needed.
            `rule`: "global", "layerwise", "random", or "snip" (over weight elements; needs scores of method "snip");
            "isomorphic" (equal layers among themselves); "uniform" and "profile", which give widths and let scores say
            which units stay inside them, with `growth` for the latter, and "auto", one of these by the network
            (`ranp.selection._patterns`).
            `weighting`: "layer" divides each layer by its mean score (Eq. 5.9); "none" is the paper's vanilla.
            `reweight`: "flops", "memory" or "latency" multiplies by 1 + lambda softmax(-tau / max tau) (Eq. 5.10), for
            the global rule, with lambda = `strength`, by default the number of ranked layers. `coupling`: "paper" ranks
            neurons;
            "sum", "mean" and "max" rank units. `min_width`: units each group must keep, or their share ("10%"); from 2
            on a floor: the best of each group stay and the others are ranked, so that no group ends the sparsity; at 1,
            as published, the group that the ranking would empty first does. `align`: widths are rounded up to a
            multiple of it. `tie`: "stage" for equal widths inside a resolution.
            `allow_less`: take what can go where it is less than was asked for.
            `published_transposed`: rank transposed convolutions by input channel and keep their outputs, as published.

    Returns:
        The plan, which holds the graph it was made for.

    Raises:
        UsageError: a value is out of range or unknown.
        InfeasibleError: the sparsity would leave a group with less than `min_width`, or much less than asked for would
            go (a shortfall, see the module); `closest` is the nearest that can be had.
    """
    asked = Selection.read(options).ruled()
    check_type("graph", graph, isinstance(graph, Graph), "the graph of ranp.trace")
    check_type("scores", scores, scores is None or isinstance(scores, Scores), "the scores of ranp.importance")
    method = scores.method if scores else None
    asked.check(method, seed)
    least: int | str = (FLOOR if asked.limits else 1) if asked.min_width is None else asked.min_width
    rule = fitting(graph) if asked.rule == "auto" else asked.rule
    asked = asked.model_copy(update={"min_width": least, "rule": rule})
    goal = replace(_Goal.of(graph, scores, asked, seed, price), ties=tuple(ties))
    if least != 1 or asked.limits:
        goal = goal.spared()
    nominal, largest = goal.nominal, goal.largest
    sparsity = nominal if asked.max_sparsity else float(asked.sparsity or 0.0)
    if asked.limits:
        kept, found = _within(goal, Limits.of(graph, asked.limits, price))
        sparsity = _achieved(graph, kept)
    else:
        if asked.allow_less:
            sparsity = min(sparsity, nominal)
        elif not asked.max_sparsity:
            goal.check(sparsity)
        kept, found = goal.keep(sparsity, asked.align), {}
    choice = {
        **asked.model_dump(),
        "strength": goal.strength,
        "method": method,
        "reduce": scores.reduce if scores else None,
        "batches": scores.batches if scores else 0,
        "seed": seed,
        "sparsity": sparsity,
        "achieved": _achieved(graph, kept),
        "maximum": largest,
        **found,
    }
    stages = {stage: summary(values) for stage, values in goal.stages.items()}
    return Plan.of(graph, kept, Choice(**choice), scores.summary() if scores else {}, stages)


def _within(goal: "_Goal", limits: Limits) -> tuple[Mask, dict[str, Any]]:
    """Return the units that stay under limits, and what a plan says of them.

    Raises:
        InfeasibleError: the smallest network breaks a limit.
    """
    options = goal.options
    smallest = goal.at(0, options.align)
    limits.check(smallest)
    kept = goal.at(threshold(goal.ranking.steps, lambda step: goal.at(step, options.align), limits), options.align)
    gap = None
    value = goal.values
    if options.solver != "threshold":
        tied = [stage.groups for stage in goal.stages_tied]
        space = Space.of(goal.graph, smallest, value, tied, options.align, goal.buildable)
        search = Search(space, limits)
        choice = search.greedy([space.inside(kept)])
        if options.solver == "exact":
            choice, gap = search.exact(choice)
        kept = max((space.mask(choice), kept), key=lambda each: float(value[each].sum()))
    return kept, {
        "bounds": dict(limits.bounds),
        "costs": limits.costs(kept),
        "importance": float(value[kept].sum() / (value.sum() or 1.0)),
        "gap": gap,
    }


def largest_sparsity(graph: Graph, scores: Scores | None, **options: Any) -> float:
    """Return the largest feasible sparsity; options as those of `select`."""
    return select(graph, scores, max_sparsity=True, **options).choice.maximum


@dataclass
class _Goal:
    """Ranked neurons or units, and what coupling and constraints make of them."""

    graph: Graph
    options: Selection
    ranking: Ranking
    shares: list[list[Share]]
    priority: Floats
    strength: float | None = None
    units: NDArray[np.int64] | None = None
    stages: dict[str, dict[str, Floats]] = field(default_factory=dict)
    floored: bool = False
    ties: tuple[Mapping[str, Sequence[int]], ...] = ()

    def spared(self) -> "_Goal":
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

    @classmethod
    def of(
        cls,
        graph: Graph,
        scores: Scores | None,
        options: Selection,
        seed: int,
        price: cost.CostFunction | None = None,
    ) -> "_Goal":
        """Rank by an option's rule."""
        if options.rule == "random":
            sizes = {layer.name: _ranked(graph, layer, options.published_transposed) for layer in graph.layers}
            ranking = at_random(sizes, seed)
            # Units whose members are dropped last come first.
            last = {name: (ranking.count - places).astype(np.float64) for name, places in ranking.places.items()}
            return cls(graph, options, ranking, shares(graph, options.published_transposed), priorities(graph, last))
        if scores is None:
            raise UsageError(f"{named('rule', options.rule)} needs scores")
        raw = {layer.name: scores.neurons[layer.name] for layer in graph.layers}
        _check_scores(graph, raw, options.published_transposed)
        silent = {name for name, each in raw.items() if not each.any()}
        members = shares(graph, options.published_transposed, silent)
        priority = priorities(graph, raw)
        draw = np.random.default_rng(seed).permutation(graph.count)
        draws = {layer.name: _draws(layer, len(raw[layer.name]), draw) for layer in graph.layers}
        if options.rule == "snip":
            if not scores.elements:
                raise UsageError(f"{named('rule', 'snip')} ranks weight elements, and the scores have none")
            ranking = by_elements(scores.elements, scores.largest_elements(graph), draws)
            return cls(graph, options, ranking, members, priority)
        if options.rule == "layerwise":
            return cls(graph, options, by_layer(raw, draws), members, priority)
        if options.rule == "isomorphic":
            equal = {layer.name: (layer.kind, graph.parameters[layer.name].shape) for layer in graph.layers}
            return cls(graph, options, by_class(raw, draws, equal), members, priority)
        if options.rule in PATTERNS:
            ranking = pattern(graph, priority, options.growth if options.rule == "profile" else None)
            return cls(graph, options, ranking, members, priority, None, np.arange(graph.count))
        stages, strength = _weighted(graph, raw, options, price)
        values = list(stages.values())[-1] if stages else raw
        if options.coupling != "paper":
            units, combined = unit_values(graph, values, options.coupling)
            ranking = Global({"units": in_order(combined, draw[units])}, len(units))
            return cls(graph, options, ranking, members, priority, strength, units, stages)
        ranking = by_scores(_lent(graph, values, silent, members), draws)
        return cls(graph, options, ranking, members, priority, strength, None, stages)

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
        return self._built(self._coupled(self.ranking.at(step)), align)

    @cached_property
    def values(self) -> Floats:
        """What each unit is worth to a solver, shape (count,): the sum of its neurons' scores as they are ranked."""
        last = list(self.stages.values())[-1] if self.stages else None
        if last is None or any(len(last[layer.name]) != len(layer.units) for layer in self.graph.layers):
            return self.priority
        units, summed = unit_values(self.graph, last, "sum")
        values = np.zeros(self.graph.count)
        values[units] = summed
        return values

    def buildable(self, kept: Mask) -> Mask:
        """Return the least that can be built with some units among it."""
        while True:
            wider = grow(self.graph, kept, self.values, self.options.align)
            widths = np.array(self.graph.widths(wider))
            for stage in self.stages_tied:
                for number, width in stage.at(stage.step(widths[stage.groups])):
                    self._fill(wider, number, width)
            if (wider == kept).all():
                return kept
            kept = wider

    def keep(self, sparsity: float, align: int = 1) -> Mask:
        """Return the units that a sparsity keeps in the end."""
        return self._built(self._coupled(self.ranking.keep(sparsity)), align)

    @cached_property
    def smallest(self) -> Mask:
        """The units of the smallest network that can be built, widths not aligned."""
        sizes = {name: len(places) for name, places in self.ranking.places.items()}
        return self._built(self._coupled({name: np.zeros(size, dtype=bool) for name, size in sizes.items()}))

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
        can_go = 1.0 if self.options.rule == "snip" else _achieved(self.graph, self.smallest)
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
        can_go = _achieved(self.graph, self.smallest)
        if sparsity > can_go >= self.largest and (self.options.rule != "snip" or not can_go):
            raise InfeasibleError(
                f"{said}: no more than {share(can_go)} of the neurons can go, "
                f"{self._why()}; the largest feasible value is {at_most(self.largest, 6)}",
                closest=self.largest,
            )
        if sparsity > 0 and self.is_short(sparsity):
            closest = self._without_shortfall(sparsity)
            raise InfeasibleError(
                f"{said}: {share(_achieved(self.graph, self.keep(sparsity)))} of the neurons would go, less than half "
                f"of what the ranking drops, {self._why()}; the closest feasible value is {at_most(closest, 6)}, "
                f"and {named('allow_less')} takes what can go",
                closest=closest,
            )

    def _hindrance(self, sparsity: float) -> str:
        """Name the first group that a sparsity beyond the largest leaves with too little."""
        kept = self._coupled(self.ranking.keep(sparsity))
        floors = zip(self._floors, self.graph.groups, strict=True)
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
            return keep_units(self.graph, self.shares, kept, self.priority)
        stays = self.graph.frozen | ~np.isin(np.arange(self.graph.count), self.units)
        stays[self.units[kept["units"]]] = True
        return stays

    def _built(self, kept: Mask, align: int = 1) -> Mask:
        """Return what the network can be built with: every group with the least it needs, rows levelled."""
        kept = level(self.graph, self._with_floors(kept), self.priority)
        kept = self._with_floors(grow(self.graph, kept, self.priority))  # levelling may have taken of what is needed
        if self.options.tie:
            kept = self._tied(kept, align)
        return grow(self.graph, kept, self.priority, align)

    def _tied(self, kept: Mask, align: int) -> Mask:
        """Return units of which the groups of a stage keep the mean of what they kept, then as many as the widest."""
        before = np.array(self.graph.widths(kept))
        kept = self._with_floors(np.zeros_like(kept))
        for stage in self.stages_tied:
            for number, width in stage.at(stage.mean_step(before[stage.groups])):
                self._fill(kept, number, width)
        while True:
            kept = grow(self.graph, kept, self.priority, align)
            widths = np.array(self.graph.widths(kept))
            total = int(kept.sum())
            for stage in self.stages_tied:
                for number, width in stage.at(stage.step(widths[stage.groups])):
                    self._fill(kept, number, width)
            if int(kept.sum()) == total:
                return kept

    @cached_property
    def stages_tied(self) -> list[Stage]:
        """The groups whose widths are decided together; none where widths are not tied."""
        if self.options.tie is None:
            return []
        return by_ties(self.graph, self.ties) if self.ties else by_level(self.graph)

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
        for number, (floor, _) in enumerate(self._floors):
            self._fill(kept, number, floor)
        return kept

    @cached_property
    def _floors(self) -> list[tuple[int, int]]:
        """How many units each group must keep, and how many of it stay whatever the ranking."""
        frozen = self.graph.frozen
        least = [max(self._width(group), each) for group, each in zip(self.graph.groups, self.graph.least, strict=True)]
        floors = [min(floor, len(group.units)) for floor, group in zip(least, self.graph.groups, strict=True)]
        stays = [int(frozen[group.units].sum()) for group in self.graph.groups]
        return list(zip(floors, stays, strict=True))

    def _width(self, group: Group) -> int:
        """Return the least width that was asked for, in units of a group."""
        least = self.options.min_width
        if isinstance(least, int):
            return least
        portion = percentage(str(least))
        assert portion is not None
        return ceil(portion * len(group.units))

    def _needy(self) -> list[tuple[int, int, int]]:
        """Return (number, floor, what stays anyway) of each group that the ranking may leave too narrow.

        A group that can't lose anything says nothing of how much can go.
        """
        stuck = [bool(self.smallest[group.units].all()) for group in self.graph.groups]
        numbered = enumerate(self._floors)
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


def _lent(
    graph: Graph, values: Mapping[str, Floats], silent: set[str], members: list[list[Share]]
) -> Mapping[str, Floats]:
    """Return values in which silent layers have the mean of those that decide for them, so that they go along."""
    if not silent:
        return values
    total, count = np.zeros(graph.count), np.zeros(graph.count)
    for part in (each for group in members for each in group if each.layer.name not in silent):
        if len(values[part.layer.name]) == len(part.layer.units):
            units = part.layer.units[part.neurons]
            np.add.at(total, units, values[part.layer.name][part.neurons])
            np.add.at(count, units, 1)
    lent = dict(values)
    for layer in graph.layers:
        if layer.name in silent and len(values[layer.name]) == len(layer.units):
            known = (layer.units >= 0) & (count[layer.units] > 0)
            mean = total[layer.units] / np.maximum(count[layer.units], 1)
            lent[layer.name] = np.where(known, mean, values[layer.name])
    return lent


def _draws(layer: Layer, count: int, draw: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return what orders each neuron of a layer among equal ones: its unit's draw, so that tied layers agree."""
    if count != len(layer.units):  # ranked by its inputs, as published
        return np.arange(count)
    return np.where(layer.units >= 0, draw[layer.units], -1) if len(draw) else np.full(count, -1)


def _check_scores(graph: Graph, raw: Mapping[str, Floats], published_transposed: bool) -> None:
    """Refuse scores of something else than what is ranked."""
    for layer in graph.layers:
        if len(raw[layer.name]) != _ranked(graph, layer, published_transposed):
            way = "by its inputs: score with" if published_transposed else "by its outputs: score without"
            raise UsageError(
                f"published_transposed={published_transposed} ranks {layer.name} {way} importance(transposed='inputs')"
            )


def _ranked(graph: Graph, layer: Layer, published_transposed: bool) -> int:
    """Return how many neurons of a layer are ranked: outputs, or by the published rule the weight's first dimension."""
    if published_transposed and layer.kind == "transposed":
        return graph.parameters[layer.name].shape[0]
    return len(layer.units)


def _weighted(
    graph: Graph, raw: Mapping[str, Floats], options: Selection, price: cost.CostFunction | None
) -> tuple[dict[str, dict[str, Floats]], float | None]:
    """Return what weighting and then reweighting make of the scores, each where it is asked for, and lambda."""
    stages: dict[str, dict[str, Floats]] = {}
    values = raw
    if options.weighting == "layer":
        values = stages["weighted"] = reweighting.weigh(raw)
    if options.reweight is None:
        return stages, None
    strength = float(len(graph.layers)) if options.strength is None else options.strength
    stages["reweighted"] = reweighting.reweigh(values, reweighting.taus(graph, options.reweight, price), strength)
    return stages, strength


def _achieved(graph: Graph, kept: Mask) -> float:
    """Return the share of neurons that are gone."""
    units = np.concatenate([layer.units for layer in graph.layers])
    return float((~kept[units[units >= 0]]).sum() / len(units))
