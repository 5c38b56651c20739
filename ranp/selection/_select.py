"""select(): scores + costs + a goal -> which units stay.

Sparsity is the share of neurons dropped from the ranking (Xu, Ajanthan, Vineet and Hartley, "RANP: Resource Aware
Neuron Pruning at Initialization for 3D CNNs", 3DV 2020). The largest feasible sparsity is a rank, read off in one pass
over the scores; the paper's bisection is not needed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranp.errors import InfeasibleError, UsageError, check_type, named
from ranp.figures import at_most
from ranp.graph.constraints import grow
from ranp.graph.graph import Graph, Layer, Mask
from ranp.options import Selection
from ranp.plan import Choice, Plan
from ranp.scores import Scores
from ranp.scores.result import summary
from ranp.selection import _reweight as reweighting
from ranp.selection._coupling import Share, keep_units, priorities, shares, unit_values
from ranp.selection._ranking import Global, Layerwise, Ranking, at_random, by_elements, by_scores

Floats = NDArray[np.float64]


def select(graph: Graph, scores: Scores | None, *, seed: int = 0, **options: Any) -> Plan:
    """Choose which units stay.

    Args:
        graph: of the network.
        scores: of its neurons; may be None for the random rule.
        seed: of the random rule.
        options: the fields of `ranp.options.Selection`, where their defaults stand. One of `sparsity` (the share of
            neurons to drop from the ranking, in [0, 1)) and `max_sparsity` (take the largest feasible) is needed.
            `rule`: "global", "layerwise", "random", or "snip" (over weight elements; needs scores of method "snip").
            `weighting`: "layer" divides each layer by its mean score (Eq. 5.9); "none" is the paper's vanilla.
            `reweight`: "flops" or "memory" multiplies by 1 + lambda softmax(-tau / max tau) (Eq. 5.10), for the global
            rule, with lambda = `strength`, by default the number of ranked layers. `coupling`: "paper" ranks neurons;
            "sum", "mean" and "max" rank units. `min_width`: units each group must keep. `align`: widths are rounded up
            to a multiple of it. `published_transposed`: rank transposed convolutions by input channel and keep their
            outputs, as published.

    Returns:
        The plan, which holds the graph it was made for.

    Raises:
        UsageError: a value is out of range or unknown.
        InfeasibleError: the sparsity would leave a group with less than `min_width`; `closest` is the largest one.
    """
    asked = Selection.read(options)
    check_type("graph", graph, isinstance(graph, Graph), "the graph of ranp.trace")
    check_type("scores", scores, scores is None or isinstance(scores, Scores), "the scores of ranp.importance")
    method = scores.method if scores else None
    asked.check(method, seed)
    goal = _Goal.of(graph, scores, asked, seed)
    largest = goal.largest()
    sparsity = largest if asked.max_sparsity else float(asked.sparsity or 0.0)
    if sparsity > largest:
        short = f"would leave {goal.hindrance(sparsity)} with fewer than {asked.min_width} unit(s)"
        raise InfeasibleError(
            f"{named('sparsity', sparsity)} {short}; the largest feasible value is {at_most(largest, 6)}",
            closest=largest,
        )
    kept = grow(graph, goal.keep(sparsity), goal.priority, asked.align)
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
    }
    stages = {stage: summary(values) for stage, values in goal.stages.items()}
    return Plan.of(graph, kept, Choice(**choice), scores.summary() if scores else {}, stages)


def largest_sparsity(graph: Graph, scores: Scores | None, **options: Any) -> float:
    """Return the largest feasible sparsity; options as those of `select`."""
    return select(graph, scores, max_sparsity=True, **options).choice.maximum


@dataclass
class _Goal:
    """Ranked neurons or units, and what coupling makes of them."""

    graph: Graph
    ranking: Ranking
    shares: list[list[Share]]
    priority: Floats
    min_width: int
    strength: float | None
    units: NDArray[np.int64] | None = None
    stages: dict[str, dict[str, Floats]] = field(default_factory=dict)

    @classmethod
    def of(cls, graph: Graph, scores: Scores | None, options: Selection, seed: int) -> "_Goal":
        """Rank by an option's rule."""
        found = shares(graph, options.published_transposed)
        if options.rule == "random":
            sizes = {layer.name: _ranked(graph, layer, options.published_transposed) for layer in graph.layers}
            ranking = at_random(sizes, seed)
            priority = priorities(graph, ranking.values)  # units whose members are dropped last come first
            return cls(graph, ranking, found, priority, options.min_width, None)
        if scores is None:
            raise UsageError(f"{named('rule', options.rule)} needs scores")
        raw = {layer.name: scores.neurons[layer.name] for layer in graph.layers}
        _check_scores(graph, raw, options.published_transposed)
        priority = priorities(graph, raw)
        if options.rule == "snip":
            return cls(graph, _snip(graph, scores), found, priority, options.min_width, None)
        if options.rule == "layerwise":
            return cls(graph, Layerwise(raw), found, priority, options.min_width, None)
        stages, strength = _weighted(graph, raw, options)
        values = list(stages.values())[-1] if stages else raw
        if options.coupling != "paper":
            units, combined = unit_values(graph, values, options.coupling)
            ranking = Global({"units": combined}, combined)
            return cls(graph, ranking, found, priority, options.min_width, strength, units, stages)
        return cls(graph, by_scores(values), found, priority, options.min_width, strength, None, stages)

    def keep(self, sparsity: float) -> Mask:
        """Return the units a feasible sparsity keeps."""
        kept = self.ranking.keep(sparsity)
        if self.units is not None:
            stays = self.graph.frozen | ~np.isin(np.arange(self.graph.count), self.units)
            stays[self.units[kept["units"]]] = True
            return stays
        return keep_units(self.graph, self.shares, kept, self.priority)

    def largest(self) -> float:
        """Return the largest feasible sparsity."""
        return self.ranking.largest(self._unit_needs() if self.units is not None else self._needs())

    def hindrance(self, sparsity: float) -> str:
        """Name the first group that a sparsity beyond the largest leaves with too little."""
        kept = self.keep(sparsity)
        floors = zip(self._floors(), self.graph.groups, strict=True)
        short = (group.name for (floor, _), group in floors if kept[group.units].sum() < floor)
        name = next(short, None)
        return "a group" if name is None else f"group {name!r}"

    def _floors(self) -> list[tuple[int, int]]:
        """Return how many units each group must keep, and how many of it stay whatever the ranking."""
        frozen = self.graph.frozen
        least = [max(self.min_width, each) for each in self.graph.least]
        floors = [min(floor, len(group.units)) for floor, group in zip(least, self.graph.groups, strict=True)]
        stays = [int(frozen[group.units].sum()) for group in self.graph.groups]
        return list(zip(floors, stays, strict=True))

    def _needs(self) -> list[list[tuple[str, NDArray[np.int64], int]]]:
        needs = []
        for (floor, stays), members in zip(self._floors(), self.shares, strict=True):
            if floor > stays and members and not any(share.full for share in members):
                needs.append([(s.layer.name, s.neurons, min(s.needs(floor), len(s.neurons))) for s in members])
        return needs

    def _unit_needs(self) -> list[list[tuple[str, NDArray[np.int64], int]]]:
        assert self.units is not None
        position = np.full(self.graph.count, -1)
        position[self.units] = np.arange(len(self.units))
        frozen, needs = self.graph.frozen, []
        for (floor, stays), group in zip(self._floors(), self.graph.groups, strict=True):
            if floor > stays:  # units that stay anyway are not the ranking's to keep
                needs.append([("units", position[group.units[~frozen[group.units]]], floor - stays)])
        return needs


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
    graph: Graph, raw: Mapping[str, Floats], options: Selection
) -> tuple[dict[str, dict[str, Floats]], float | None]:
    """Return what weighting and then reweighting make of the scores, each where it is asked for, and lambda."""
    stages: dict[str, dict[str, Floats]] = {}
    values = raw
    if options.weighting == "layer":
        values = stages["weighted"] = reweighting.weigh(raw)
    if options.reweight is None:
        return stages, None
    strength = float(len(graph.layers)) if options.strength is None else options.strength
    stages["reweighted"] = reweighting.reweigh(values, reweighting.taus(graph, options.reweight), strength)
    return stages, strength


def _snip(graph: Graph, scores: Scores) -> Global:
    if not scores.elements:
        raise UsageError(f"{named('rule', 'snip')} ranks weight elements, and the scores have none")
    return by_elements(scores.elements, scores.largest_elements(graph))


def _achieved(graph: Graph, kept: Mask) -> float:
    """Return the share of neurons that are gone."""
    units = np.concatenate([layer.units for layer in graph.layers])
    return float((~kept[units[units >= 0]]).sum() / len(units))
