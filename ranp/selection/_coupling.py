"""From neurons each layer would keep to units the network keeps.

`paper`: a group keeps as many units as the largest count among its layers; depthwise layers do not decide, nor do
layers whose scores are all zero, as they say nothing; where a group has no other layer, they do. Which ones is decided
by the sum of the members' scores, each divided by its layer's mean. `sum`, `mean` and `max` rank units instead, by that
combination of their members' values.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranp.graph.flow import Ints
from ranp.graph.graph import Graph, staying
from ranp.graph.tape import Layer

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Share:
    """What one layer has in one group.

    Args:
        layer: the layer.
        neurons: indices of its output channels in the group.
        each: how many of them one unit holds.
        full: whether its count is always the group's full width (the published rule for transposed convolutions).
    """

    layer: Layer
    neurons: Ints
    each: int
    full: bool = False

    def needs(self, width: int) -> int:
        """Return how many of these neurons must stay for the group to keep a width."""
        return (width - 1) * self.each + 1


def shares(graph: Graph, published_transposed: bool = False, silent: Collection[str] = ()) -> list[list[Share]]:
    """Return, for each group, what each layer that decides its width has in it.

    Args:
        graph: of the network.
        published_transposed: whether transposed convolutions keep all their outputs.
        silent: layers whose scores say nothing. Where a group has only such and depthwise layers, they decide.
    """
    members: list[list[Share]] = [[] for _ in graph.groups]
    for layer in graph.layers:
        real = np.flatnonzero(layer.units >= 0)
        groups = graph.group_of[layer.units[real]]
        for group in np.unique(groups).tolist():
            neurons = real[groups == group]
            each = -(-len(neurons) // len(np.unique(layer.units[neurons])))
            full = published_transposed and layer.kind == "transposed"
            members[group].append(Share(layer, neurons, each, full))
    return [_deciding(each, silent) for each in members]


def _deciding(members: list[Share], silent: Collection[str]) -> list[Share]:
    dense = [share for share in members if share.layer.kind != "depthwise"]
    heard = [share for share in dense if share.layer.name not in silent]
    return heard or dense or members


def priorities(graph: Graph, scores: Mapping[str, Floats]) -> Floats:
    """Return the sum of each unit's members' scores, each divided by its layer's mean, shape (count,).

    A layer whose mean is zero counts 1 for each neuron.
    """
    total = np.zeros(graph.count)
    for layer in graph.layers:
        values = scores[layer.name]
        if len(values) != len(layer.units):
            continue  # scored by input channel: the published rule never prunes these outputs
        mean = values.mean()
        real = layer.units >= 0
        np.add.at(total, layer.units[real], (values / mean if mean > 0 else np.ones_like(values))[real])
    return total


def unit_values(graph: Graph, values: Mapping[str, Floats], combine: str) -> tuple[Ints, Floats]:
    """Return the units layers make, and the sum, mean or maximum of their members' values."""
    units = np.concatenate([layer.units for layer in graph.layers])
    flat = np.concatenate([values[layer.name] for layer in graph.layers])
    real = units >= 0
    units, flat = units[real], flat[real]
    total = np.full(graph.count, -np.inf) if combine == "max" else np.zeros(graph.count)
    (np.maximum if combine == "max" else np.add).at(total, units, flat)
    made = np.unique(units)
    if combine == "mean":
        total = total / np.maximum(np.bincount(units, minlength=graph.count), 1)
    return made, total[made]


def keep_units(graph: Graph, found: list[list[Share]], kept: Mapping[str, Mask], priority: Floats) -> Mask:
    """Return the units a choice of neurons keeps, shape (count,).

    Args:
        graph: of the network.
        found: what each layer has in each group.
        kept: neurons each layer keeps.
        priority: of each unit.
    """
    units = graph.frozen
    for group, members in zip(graph.groups, found, strict=True):
        count = max((_count(share, kept, len(group.units)) for share in members), default=len(group.units))
        units[_best(group.units, priority, units, count)] = True
    return units


def _count(share: Share, kept: Mapping[str, Mask], width: int) -> int:
    if share.full:
        return width
    return -(-int(kept[share.layer.name][share.neurons].sum()) // share.each)


def _best(units: Ints, priority: Floats, stays: Mask, count: int) -> Ints:
    """Return the units of highest priority up to a count, those that stay anyway first, the lowest number on ties."""
    order = np.lexsort((units, -priority[units], ~stays[units]))
    return units[order[:count]]


def level(graph: Graph, kept: Mask, priority: Floats) -> Mask:
    """Return kept units of which rows that keep equally many keep about the mean of what they kept, their best.

    `grow` fills rows up to the fullest of them, which is nearly full where rows are many and short (32 groups of 4
    channels), so that next to nothing would go.

    Args:
        graph: of the network.
        kept: mask (count,) of units.
        priority: of each unit.
    """
    kept, frozen = kept.copy(), graph.frozen
    for rows in graph.balance:  # (rows, n)
        counts = staying(kept, rows).sum(axis=1)
        target = max(-(-int(counts.sum()) // len(rows)), int(staying(frozen, rows).sum(axis=1).max()), 1)
        for row in rows[counts > target]:
            units, weights = np.unique(row[row >= 0], return_counts=True)
            left = int(staying(kept, row).sum())
            for place in np.lexsort((-units, priority[units])).tolist():  # the worst first, the highest number on ties
                unit, weight = units[place], int(weights[place])
                if kept[unit] and not frozen[unit] and left - weight >= target:
                    kept[unit], left = False, left - weight
    return kept
