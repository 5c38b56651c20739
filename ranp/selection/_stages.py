"""Stages: which groups work at the same resolution, and how far below the finest it lies.

A network halves its maps by strides and pooling; all layers of one resolution are a stage, whatever the network is
called. The level of a stage is how often its sides were halved, 0 for the finest: log2 of the ratio of the sides, the
mean over them, so that a stride of 1x2x2 counts two thirds. A constructor may say more exactly which layers one of its
numbers makes, and how wide.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranp.graph.flow import Ints
from ranp.graph.graph import Graph
from ranp.graph.tape import Record

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Stage:
    """Groups whose widths are decided together.

    Args:
        groups: their numbers.
        widths: of each group at every step, shape (groups, steps); they never fall.
    """

    groups: Ints
    widths: Ints

    def step(self, widths: Ints) -> int:
        """Return the least step at which no group is narrower than these widths, one for each group."""
        return int((self.widths < widths[:, None]).sum(axis=1).max(initial=0))

    def mean_step(self, widths: Ints) -> int:
        """Return the mean of the steps at which each group by itself is as wide, rounded up."""
        return int(np.ceil((self.widths < widths[:, None]).sum(axis=1).mean()))

    def at(self, step: int) -> list[tuple[int, int]]:
        """Return each group with its width at a step."""
        return list(
            zip(self.groups.tolist(), self.widths[:, min(step, self.widths.shape[1] - 1)].tolist(), strict=True)
        )


def by_level(graph: Graph) -> list[Stage]:
    """Return the groups of each resolution that can lose any: equally wide, but for those that are narrower whole."""
    level, free = levels(graph), _free(graph)
    numbers = [np.flatnonzero(free & (level == each)) for each in np.unique(level[free & ~np.isnan(level)])]
    stages = []
    for groups in numbers:
        whole = np.array([len(graph.groups[number].units) for number in groups.tolist()])
        stages.append(Stage(groups, np.minimum(np.arange(whole.max() + 1), whole[:, None])))
    return stages


def by_ties(graph: Graph, ties: Sequence[Mapping[str, Sequence[int]]]) -> list[Stage]:
    """Return the groups that each number of a constructor makes.

    Args:
        graph: of the network.
        ties: of each number the output channels of its layers at every step, by the name of the weight.
    """
    whole = {layer.name: {*layer.units.tolist()} for layer in graph.layers}
    found: list[dict[int, Sequence[int]]] = [{} for _ in ties]
    free, moving = _free(graph), set[str]()
    for number, group in enumerate(graph.groups):
        if not free[number]:
            continue
        units = {*group.units.tolist()}
        for name in group.layers:
            place = next((place for place, tie in enumerate(ties) if name in tie), None)
            if place is not None and whole[name] == units:  # all of the layer, and nothing else
                found[place][number] = ties[place][name]
                moving.add(name)
    # A layer that is no group of its own, or can lose nothing, stays whole, and so does all that its number makes.
    held = [bool((tie.keys() & whole.keys()) - moving) for tie in ties]
    found = [
        {number: widths[-1:] if stays else widths for number, widths in tied.items()}
        for tied, stays in zip(found, held, strict=True)
    ]
    stages = []
    for tied in found:
        steps = max(map(len, tied.values()), default=1)
        if tied:
            table = [[0] * (steps - len(widths)) + list(widths) for widths in tied.values()]
            stages.append(Stage(np.array(list(tied), dtype=np.int64), np.array(table, dtype=np.int64)))
    known = {number for tied in found for number in tied}
    loose = [number for number in np.flatnonzero(free).tolist() if number not in known]
    if loose:  # no number says how wide they are
        widths = [[len(graph.groups[number].units)] for number in loose]
        stages.append(Stage(np.array(loose, dtype=np.int64), np.array(widths, dtype=np.int64)))
    return stages


def _free(graph: Graph) -> NDArray[np.bool_]:
    return np.array([not graph.frozen[group.units].all() for group in graph.groups], dtype=bool)


def levels(graph: Graph) -> Floats:
    """Return the level of each group, shape (groups,); NaN for a group that no layer makes.

    The last sides that all maps have are compared: in a network of images and volumes the two of an image. Layers
    without sides, or behind a pooling to one voxel, count with the deepest level that has any.
    """
    sides = _sides(graph)
    spatial = [each for each in sides.values() if each]
    if not spatial:
        return np.array([0.0 if group.layers else np.nan for group in graph.groups])
    shared = min(map(len, spatial))
    finest = np.max([each[-shared:] for each in spatial], axis=0)
    by_layer = {
        name: float(np.log2(finest / np.array(each[-shared:])).mean())
        for name, each in sides.items()
        if each and max(each) > 1
    }
    deepest = max(by_layer.values(), default=0.0)
    found = np.full(len(graph.groups), np.nan)
    for number, group in enumerate(graph.groups):
        own = Counter(round(by_layer.get(name, deepest), 6) for name in group.layers)
        if own:
            found[number] = min(level for level, count in own.items() if count == max(own.values()))
    return found


def encoding(graph: Graph) -> tuple[Ints, Ints] | None:
    """Return the groups made on the way down to the coarsest resolution, that one included, and those made behind it.

    Groups that can't lose anything are left out; None where nothing comes behind.
    """
    level, frozen = levels(graph), graph.frozen
    order = {name: place for place, name in enumerate(dict.fromkeys(name for name, _ in _calls(graph)))}
    first = np.array([min((order.get(n, -1) for n in group.layers), default=-1) for group in graph.groups])
    free = np.array([not frozen[group.units].all() for group in graph.groups]) & ~np.isnan(level)
    if not free.any():
        return None
    deepest = np.flatnonzero(level == np.nanmax(level))
    turn = first[deepest].max()
    inside, behind = np.flatnonzero(free & (first <= turn)), np.flatnonzero(free & (first > turn))
    return (inside, behind) if len(inside) and len(behind) else None


def _sides(graph: Graph) -> dict[str, tuple[int, ...]]:
    """Return the spatial shape of each layer's output, of its largest call; empty for a vector."""
    found: dict[str, tuple[int, ...]] = {}
    for name, record in _calls(graph):
        sides = record.outputs[0].shape[2:]
        if name not in found or np.prod(sides) > np.prod(found[name]):
            found[name] = sides
    return found


def _calls(graph: Graph) -> list[tuple[str, Record]]:
    runs = [record for run in graph.runs.values() for record in run.records]
    return [(name, record) for record in runs if record.outputs and (name := record.outputs[0].layer) is not None]
