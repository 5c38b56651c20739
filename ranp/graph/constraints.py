"""Plans that can be built: grow a set of kept units until every constraint holds; and what stays in all of them."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ranp.graph.flow import Ints
from ranp.graph.graph import Graph, Group, Mask, staying


def grow(graph: Graph, kept: Mask, priority: NDArray[np.float64], align: int = 1) -> Mask:
    """Return the smallest superset of kept units, by priority, that the network can be built with.

    Frozen units stay. Every group keeps its least width (`Graph.least`), and
    no part of a cut is left empty (`Graph.some`). Rows of a balance constraint (the groups of a
    grouped convolution or of group norm, the halves of a chunk) keep equally many. With `align`, each group with a
    removable unit keeps a multiple of it, or all.

    Args:
        graph: of the network.
        kept: mask (count,) of the units asked for.
        priority: of each unit, shape (count,); the highest are added first, the lowest number on ties.
        align: what widths are rounded up to.
    """
    kept = kept | graph.frozen
    order = np.lexsort((np.arange(graph.count), -priority))
    rank = np.empty(graph.count, dtype=np.int64)
    rank[order] = np.arange(graph.count)
    for group, least in zip(graph.groups, graph.least, strict=True):
        _add(kept, group.units, rank, least - int(kept[group.units].sum()))
    while True:
        before = int(kept.sum())
        for units in graph.some:
            _add(kept, units, rank, 1 - int(kept[units].any()))
        for rows in graph.balance:
            _level(kept, rows, rank)
        if align > 1:
            _align(graph, kept, rank, align)
        if int(kept.sum()) == before:
            return kept


def _level(kept: Mask, rows: Ints, rank: Ints) -> None:
    """Fill every row up to the fullest one."""
    counts = staying(kept, rows).sum(axis=1)
    for row, lack in zip(rows, counts.max() - counts, strict=True):
        _add(kept, row, rank, int(lack))


def _add(kept: Mask, units: Ints, rank: Ints, lack: int) -> None:
    if lack <= 0:
        return
    candidates = units[units >= 0]
    candidates = candidates[~kept[candidates]]
    chosen = candidates[np.argsort(rank[candidates], kind="stable")][:lack]
    kept[chosen] = True


def _align(graph: Graph, kept: Mask, rank: Ints, align: int) -> None:
    frozen = graph.frozen
    for group in graph.groups:
        width = int(kept[group.units].sum())
        if width % align and not frozen[group.units].all():
            _add(kept, group.units, rank, align - width % align)


def random_plan(
    graph: Graph, removed: float | NDArray[np.float64], generator: np.random.Generator, least: int = 1
) -> Mask:
    """Return a plan that removes about a share of the units of each group.

    Args:
        graph: of the network.
        removed: share of each group to remove, in [0, 1]: one for all, or one for each, shape (groups,).
        generator: draws which.
        least: how many of each group stay.
    """
    return plan_without(graph, removed, generator.random(graph.count), least)


def plan_without(
    graph: Graph, removed: float | NDArray[np.float64], priority: NDArray[np.float64], least: int = 1
) -> Mask:
    """Return a plan without about a share of the units of each group, those of least priority; see `random_plan`."""
    kept = np.ones(graph.count, dtype=bool)
    for group, share in zip(graph.groups, np.broadcast_to(removed, len(graph.groups)), strict=True):
        count = min(max(round(len(group.units) * share), 1), len(group.units) - least)
        if count <= 0:
            continue
        worst = group.units[np.argsort(priority[group.units])][:count]
        kept[worst] = False
    return grow(graph, kept, priority)


def held_by_balance(graph: Graph) -> Graph:
    """Return a graph in which rows are frozen that must be as long as another one stays at least."""
    return replace(graph, reasons=_held(graph.reasons, graph.balance, graph.groups, graph.group_of, graph.least))


def _held(
    reasons: tuple[str | None, ...],
    balance: tuple[Ints, ...],
    groups: tuple[Group, ...],
    group_of: Ints,
    least: tuple[int, ...],
) -> tuple[str | None, ...]:
    """Freeze rows that are as long as another one stays at least: what is frozen in it, and what its groups need.

    Rows of one unit each say that these live and die together; where they are a whole group, which keeps one, all stay.
    """
    held = list(reasons)
    for rows in balance:
        if (rows >= 0).all() and (rows == rows[:, :1]).all():
            together = rows[:, 0]
            for number in np.unique(group_of[together]).tolist():
                if np.isin(groups[number].units, together).all():
                    for unit in groups[number].units.tolist():
                        held[unit] = held[unit] or f"{_AS_MANY}all of its group, which live and die together"
    while True:
        before = sum(each is not None for each in held)
        for rows in balance:
            stays, why = max((_stays(row, held, groups, group_of, least) for row in rows), key=lambda each: each[0])
            for row in rows:
                if stays >= len(row):
                    for unit in row[row >= 0].tolist():
                        held[unit] = held[unit] or f"{_AS_MANY}{why.removeprefix(_AS_MANY)}"
        if sum(each is not None for each in held) == before:
            return tuple(held)


_AS_MANY = "keeps as many as what stays: "


def _stays(
    row: Ints, held: list[str | None], groups: tuple[Group, ...], group_of: Ints, least: tuple[int, ...]
) -> tuple[int, str]:
    """Return how much of a row stays in every plan, and why; a unit may stand in it several times."""
    units, weights = np.unique(row[row >= 0], return_counts=True)
    frozen = np.array([held[unit] is not None for unit in units.tolist()], dtype=bool)
    count = int((row < 0).sum() + weights[frozen].sum())
    why = next((str(held[unit]) for unit in units[frozen].tolist()), "channels that are no units")
    for number in np.unique(group_of[units[~frozen]]).tolist():
        mine = ~frozen & (group_of[units] == number)
        needed = least[number] - (len(groups[number].units) - int(mine.sum()))  # though all others of the group stay
        if needed > 0:
            count += int(np.sort(weights[mine])[:needed].sum())
            why = why if frozen.any() else f"{groups[number].name} needs {least[number]}"
    return count, why
