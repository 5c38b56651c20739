"""select(): scores + costs + a goal -> which units stay.

Sparsity is the share of neurons dropped from the ranking (Xu, Ajanthan, Vineet and Hartley, "RANP: Resource Aware
Neuron Pruning at Initialization for 3D CNNs", 3DV 2020). The largest feasible sparsity is a rank, read off in one pass
over the scores; the paper's bisection is not needed. Where so much would be a shortfall, it is a largest sparsity that
is none, so that what is named as the largest can be asked for. A shortfall, which `_goal` defines, is an error unless
`allow_less`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ranp import cost
from ranp.errors import check_type
from ranp.graph.graph import Graph, Mask
from ranp.options import Selection
from ranp.plan import Choice, Plan
from ranp.scores import Scores
from ranp.scores.result import summary
from ranp.selection._goal import Goal, achieved
from ranp.selection._limits import Limits
from ranp.selection._patterns import fitting
from ranp.selection._ranked import ranked
from ranp.selection._solve import Search, threshold
from ranp.selection._space import Space

FLOOR = 4
"""Least width under limits where none is asked for: good choices like layers of one channel, which learn little."""


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
    goal = ranked(graph, scores, asked, seed, price, ties)
    if least != 1 or asked.limits:
        goal = goal.spared()
    nominal, largest = goal.nominal, goal.largest
    sparsity = nominal if asked.max_sparsity else float(asked.sparsity or 0.0)
    if asked.limits:
        kept, found = _within(goal, Limits.of(graph, asked.limits, price))
        sparsity = achieved(graph, kept)
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
        "achieved": achieved(graph, kept),
        "maximum": largest,
        **found,
    }
    stages = {stage: summary(values) for stage, values in goal.stages.items()}
    return Plan.of(graph, kept, Choice(**choice), scores.summary() if scores else {}, stages)


def _within(goal: Goal, limits: Limits) -> tuple[Mask, dict[str, Any]]:
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
        tied = [stage.groups for stage in goal.building.stages]
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
