"""What an option's rule ranks: neurons or units, in the order of weighted scores, of a draw, or of given widths."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranp import cost
from ranp.errors import UsageError, named
from ranp.graph.graph import Graph
from ranp.graph.tape import Layer
from ranp.options import PATTERNS, Selection
from ranp.scores import Scores
from ranp.selection import _reweight as reweighting
from ranp.selection._building import Building
from ranp.selection._coupling import Share, priorities, shares, unit_values
from ranp.selection._goal import Goal
from ranp.selection._patterns import pattern
from ranp.selection._ranking import Global, Ranking, at_random, by_class, by_elements, by_layer, by_scores, in_order
from ranp.selection._stages import by_level, by_ties

Floats = NDArray[np.float64]


def ranked(
    graph: Graph,
    scores: Scores | None,
    options: Selection,
    seed: int,
    price: cost.CostFunction | None = None,
    ties: Sequence[Mapping[str, Sequence[int]]] = (),
) -> Goal:
    """Rank by an option's rule; arguments as of `select`, with a rule and a least width.

    Raises:
        UsageError: the rule needs scores, or others.
    """

    def goal(ranking: Ranking, members: list[list[Share]], priority: Floats, *rest: Any) -> Goal:
        least, stages = options.min_width, []
        assert least is not None
        if options.tie is not None:
            stages = by_ties(graph, ties) if ties else by_level(graph)
        return Goal(graph, options, ranking, members, Building(graph, priority, least, stages), *rest)

    if options.rule == "random":
        sizes = {layer.name: _ranked(graph, layer, options.published_transposed) for layer in graph.layers}
        ranking = at_random(sizes, seed)
        # Units whose members are dropped last come first.
        last = {name: (ranking.count - places).astype(np.float64) for name, places in ranking.places.items()}
        return goal(ranking, shares(graph, options.published_transposed), priorities(graph, last))
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
        return goal(ranking, members, priority)
    if options.rule == "layerwise":
        return goal(by_layer(raw, draws), members, priority)
    if options.rule == "isomorphic":
        equal = {layer.name: (layer.kind, graph.parameters[layer.name].shape) for layer in graph.layers}
        return goal(by_class(raw, draws, equal), members, priority)
    if options.rule in PATTERNS:
        ranking = pattern(graph, priority, options.growth if options.rule == "profile" else None)
        return goal(ranking, members, priority, None, np.arange(graph.count))
    stages, strength = _weighted(graph, raw, options, price)
    values = list(stages.values())[-1] if stages else raw
    if options.coupling != "paper":
        units, combined = unit_values(graph, values, options.coupling)
        ranking = Global({"units": in_order(combined, draw[units])}, len(units))
        return goal(ranking, members, priority, strength, units, stages)
    ranking = by_scores(_lent(graph, values, silent, members), draws)
    return goal(ranking, members, priority, strength, None, stages)


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
