"""Limits, checked on the network that was built: it is traced and counted anew."""

import numpy as np
from torch import nn

from ranp import cost
from ranp.errors import CheckFailed
from ranp.graph.build import trace
from ranp.graph.graph import Graph
from ranp.inputs import Inputs
from ranp.plan import Plan
from ranp.reports import Chosen, Limit


def within_limits(graph: Graph, plan: Plan, slim: nn.Module, inputs: Inputs) -> Chosen:
    """Return what a slim network costs beside its limits, the one that binds first.

    Args:
        graph: of the full network.
        plan: made under limits.
        slim: the network it makes.
        inputs: that the full one was traced with.

    Raises:
        CheckFailed: it costs something else than the plan said, or more than a limit.
    """
    own = trace(slim, inputs)
    built = _figures(own, np.ones(own.count, dtype=bool))
    full = _figures(graph, np.ones(graph.count, dtype=bool))
    choice, limits = plan.choice, []
    for name, most in choice.bounds.items():
        if built[name] != choice.costs[name] or built[name] > most:
            raise CheckFailed(
                f"the slim network costs {built[name]} {name}, its plan {choice.costs[name]} and at most {most}: "
                "a defect in ranp, please report it"
            )
        asked = choice.limits[name]
        limits.append(
            Limit(name=name, asked=asked, most=most, slim=choice.costs[name], built=built[name], full=full[name])
        )
    limits.sort(key=lambda limit: -limit.used)
    floor = choice.min_width or 1
    return Chosen(solver=choice.solver, importance=choice.importance, gap=choice.gap, floor=floor, limits=limits)


def _figures(graph: Graph, kept: np.ndarray) -> dict[str, int]:
    costs = cost.compile(graph)(kept)
    return {"params": costs.params, "flops": costs.flops, "activations": costs.memory_bytes}
