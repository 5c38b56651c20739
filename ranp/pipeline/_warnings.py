"""What to know of a plan before training it: bottlenecks, scores that say nothing, and what narrowing by hand costs."""

import numpy as np

from ranp import cost
from ranp.errors import InfeasibleError, named, some
from ranp.figures import share
from ranp.graph.graph import Graph
from ranp.options import PATTERNS
from ranp.plan import Plan
from ranp.scores import Scores
from ranp.selection import encoding, select

NARROW = 4
"""Layers of fewer channels learned little, wherever else capacity was (docs/budgets.md)."""
DYING = 0.5
"""An encoder that keeps less than this part of the share that the decoder keeps is said to die."""
SHOWN = 4


def warnings_of(graph: Graph, plan: Plan, scores: Scores | None) -> list[str]:
    """Return notes of what may make a plan a poor network, in words."""
    notes = []
    narrow = [
        f"{group.name} ({len(group.kept)} of {group.width})"
        for group in plan.groups
        if group.layers and len(group.kept) < min(NARROW, group.width)
    ]
    if narrow:
        notes.append(
            f"bottleneck: {some(narrow, SHOWN)} keep fewer than {NARROW} channels, which learn little; "
            f"{named('min_width', NARROW)} is a floor"
        )
    encoder = encoding(graph) if plan.choice.rule not in PATTERNS else None  # whose widths are meant
    if encoder is not None:
        kept = plan.mask(graph)
        inside, behind = (float(kept[np.isin(graph.group_of, groups)].mean()) for groups in encoder)
        if inside < DYING * behind:
            notes.append(
                f"dying encoder: {share(inside)} of the channels on the way down to the coarsest resolution stay, and "
                f"{share(behind)} of those behind it: little of the image is read; {named('rule', 'profile')} and "
                f"{named('rule', 'uniform')} do not do that"
            )
    if scores is not None:
        equal = [name.rpartition(".")[0] for name, values in scores.neurons.items() if _equal(values)]
        if equal:
            notes.append(
                f"equal scores: {some(equal, SHOWN)} have one score for all channels, which are drawn by the seed"
            )
    return notes


def _equal(values: np.ndarray) -> bool:
    return len(values) > 1 and bool((values == values[0]).all())


def uniform_words(graph: Graph, plan: Plan) -> str:
    """Say what uniform narrowing to no more than a plan's FLOPs leaves of the widest and the first layer.

    "" where nothing was removed, where the plan is that network, or where none costs so little.
    """
    if plan.choice.rule == "uniform" or plan.units().kept == plan.units().total:
        return ""
    price = cost.compile(graph)
    slim = price(plan.mask(graph))
    try:
        widths = select(graph, _flat(graph), rule="uniform", flops=slim.flops, min_width=1)
    except InfeasibleError:
        return ""
    first = next((group for group in widths.groups if group.layers and not group.frozen), None)
    if first is None:
        return ""
    costs = price(widths.mask(graph))
    params = f"{costs.params:,} parameters beside {slim.params:,}"
    kept = share(len(first.kept) / first.width)
    return f"uniform network of equal FLOPs: {first.name} {len(first.kept)} of {first.width} wide ({kept}), {params}"


def _flat(graph: Graph) -> Scores:
    """Equal scores: which units stay does not change what widths cost."""
    return Scores("l1", "sum", 0, {layer.name: np.ones(len(layer.units)) for layer in graph.layers})
