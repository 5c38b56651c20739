"""Widths as patterns: a rule says how wide every layer is, and scores only which of its units stay.

`uniform`: every group keeps the same share of its units. `profile`: every group of one resolution keeps equally many,
and each coarser resolution `growth` times as many as the one before it, so far as the full network is as wide. At
growth 1 all are equal: the flat profile, which learned best in U-Nets, and badly in networks that read a class or a
disparity off coarse maps (docs/evidence.md). `auto` takes it where a decoder comes back to the finest resolution, and
narrows uniformly elsewhere.

Both are rankings of units: a unit that is p-th of its group stays once the factor is large enough for p + 1/2 units, so
that widths are rounded as by hand and all groups step at once.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ranp.graph.graph import Graph
from ranp.selection._ranking import Global
from ranp.selection._stages import encoding, levels

Floats = NDArray[np.float64]


def fitting(graph: Graph) -> Literal["profile", "uniform"]:
    """Return the pattern of `auto`: a flat profile where layers behind the coarsest work at the finest resolution.

    That of the finest layer that can lose any: what makes the outputs has their width, whatever the plan.
    """
    parts = encoding(graph)
    if parts is None:
        return "uniform"
    inside, behind = (levels(graph)[groups] for groups in parts)
    return "profile" if behind.min() <= inside.min() else "uniform"


def pattern(graph: Graph, priority: Floats, growth: float | None) -> Global:
    """Return the ranking of all units by the factor at which they stay; the least first.

    Args:
        graph: of the network.
        priority: of each unit: which go first inside their group.
        growth: from one resolution to the next; None for uniform narrowing.
    """
    factor = np.zeros(graph.count)
    level = np.nan_to_num(levels(graph))
    frozen = graph.frozen
    for number, group in enumerate(graph.groups):
        order = np.lexsort((group.units, -priority[group.units], ~frozen[group.units]))
        whole = len(group.units) if growth is None else growth ** level[number]
        factor[group.units[order]] = (np.arange(len(group.units)) + 0.5) / whole
    factor = factor.round(9)
    return Global({"units": np.searchsorted(np.sort(factor), factor, side="right")}, graph.count)
