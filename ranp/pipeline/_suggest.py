"""suggest(): what each sparsity would cost and keep, without training: where the curve bends, and what to beware of.

The knee is the sparsity at which the share of scores that stays lies furthest above the share of FLOPs that stays. It
says where cutting starts to take what scores value; it does not say that the network learns there.
"""

from typing import Any

import numpy as np

from ranp import cost
from ranp.figures import AMOUNTS
from ranp.graph.graph import Graph
from ranp.options import Selection
from ranp.pipeline._limits import chosen_of
from ranp.pipeline._warnings import warnings_of
from ranp.plan import Plan
from ranp.reports import Figures, Point, Suggestion
from ranp.scores import Scores
from ranp.selection import Limits, select

POINTS = 10


def suggest(
    graph: Graph, scores: Scores, *, seed: int = 0, price: cost.CostFunction | None = None, **selection: Any
) -> Suggestion:
    """Price a choice at sparsities from nothing to the largest, and the one under limits.

    Args:
        graph: of the network.
        scores: of its neurons.
        seed: of the draw that ranks equal scores.
        price: see `select`.
        selection: options of `select` beside the goal, and limits.

    Raises:
        UsageError: as `select`.
        InfeasibleError: a limit can't be met.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from ranp.graph.build import trace
        >>> from ranp.scores import importance
        >>> net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 1))
        >>> graph = trace(net, torch.zeros(1, 1, 8, 8))
        >>> found = suggest(graph, importance(net, graph, method="l1"), min_width=2)
        >>> [point.sparsity for point in found.points][0], found.points[0].importance
        (0.0, 1.0)
    """
    price = price or cost.compile(graph)
    worth, limits = _worth(graph, scores), Limits.of(graph, Selection.read(selection).limits, price)

    def point(plan: Plan, sparsity: float) -> Point:
        kept = plan.mask(graph)
        widths = price.widths(kept)
        return Point(
            sparsity=sparsity, achieved=plan.choice.achieved, costs=Figures(**price(kept).to_dict()),
            importance=float(worth[kept].sum() / worth.sum()),
            meters={name: int(meter(widths)) for name, meter in price.meters.items()},
            holds=limits.hold(kept) if limits.bounds else None,
        )  # fmt: skip

    found: dict[str, Any] = {}
    open_goal = {name: value for name, value in selection.items() if name not in (*AMOUNTS, "solver")}
    if limits.bounds:
        plan = select(graph, scores, seed=seed, price=price, **selection)
        open_goal["min_width"] = plan.choice.min_width  # that of limits
        found = {"within": point(plan, plan.choice.achieved), "chosen": chosen_of(plan, limits.full)}
    largest = select(graph, scores, seed=seed, price=price, max_sparsity=True, **open_goal).choice.maximum
    parts = [largest * part for part in np.linspace(0, 1, POINTS + 1).tolist()]
    plans = [
        select(graph, scores, seed=seed, price=price, sparsity=part, allow_less=True, **open_goal) for part in parts
    ]
    points = [point(each, part) for each, part in zip(plans, parts, strict=True)]
    full = max(points[0].costs.flops, 1)
    knee = int(np.argmax([point.importance - point.costs.flops / full for point in points]))
    notes = [*graph.notes, *scores.notes, *warnings_of(graph, plan if found else plans[knee], scores)]
    return Suggestion(points=points, knee=knee, notes=notes, **found)


def _worth(graph: Graph, scores: Scores) -> np.ndarray:
    """Return the sum of each unit's scores, each by its layer's mean, shape (count,); 1 where all are zero."""
    worth = np.zeros(graph.count)
    for layer in graph.layers:
        values, real = scores.neurons[layer.name], layer.units >= 0
        if values.any() and len(values) == len(layer.units):
            np.add.at(worth, layer.units[real], values[real] / values.mean())
    return worth if worth.any() else np.ones(graph.count)
