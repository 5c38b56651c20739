"""transfer(): the widths that were found for one network, in the same architecture for other data.

The paper prunes on one data set and trains on another (thesis, Table 5.5): the first layer is rebuilt where the images
have other channels, the last where there are other classes, everything between keeps its slim shape and is initialised
anew. Here nothing is edited by hand: the full network is built with the new settings and traced, the plan is fitted to
it group by group, and the slim network is cut and verified like any other.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from ranp.errors import UsageError, check_type
from ranp.graph.build import trace
from ranp.graph.graph import Graph, Group
from ranp.inputs import Inputs, generator_of
from ranp.models.init import initialise_
from ranp.modules import copy_with, tensors_of, unwrapped
from ranp.pipeline._prune import Result, Steps, report_of
from ranp.plan import Plan, PlanGroup
from ranp.surgery import Size, slim, stale_widths, verify


@dataclass(frozen=True, repr=False)
class Transferred(Result):
    """What `transfer` returns: the result of a prune, and the names of the tensors whose values were inherited."""

    inherited: tuple[str, ...] = ()


def transfer(
    plan: Plan,
    model: nn.Module,
    example_inputs: Inputs,
    *,
    weights: nn.Module | Mapping[str, Tensor] | None = None,
    seed: int = 0,
    verify_input: Size | None = None,
) -> Transferred:
    """Slim a network of the same architecture, built for other channels, classes or sizes, by a plan.

    Groups are matched by name. Only groups of the network's inputs and outputs, which are frozen, may differ in width.
    Convolutions and linear layers are drawn anew (Glorot, `ranp.models.init`); other tensors are the model's.

    Args:
        plan: made for the architecture.
        model: the full network for the new data; it is untouched.
        example_inputs: of the new shapes.
        weights: a slim network of the plan, or its tensors by name, to inherit from wherever name and shape agree.
        seed: of the drawn weights.
        verify_input: the spatial size the proof is made at: see `verify`.

    Raises:
        UsageError: the plan does not fit; the group that differs is named.
        UnsupportedError: the network can't be traced.
        CheckFailed: the slim network differs from the masked one.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> def net(channels, classes):
        ...     return nn.Sequential(nn.Conv2d(channels, 8, 3), nn.ReLU(), nn.Conv2d(8, classes, 3))
        >>> from ranp.pipeline._prune import prune
        >>> found = prune(net(2, 3), torch.zeros(1, 2, 8, 8), method="l1", sparsity=0.5)
        >>> other = transfer(found.plan, net(4, 5), torch.zeros(1, 4, 16, 16))
        >>> other.slim[0].in_channels, other.slim[2].out_channels
        (4, 5)
        >>> other.slim[2].in_channels == found.slim[2].in_channels
        True
    """
    check_type("plan", plan, isinstance(plan, Plan), "a ranp.Plan")
    fits = weights is None or isinstance(weights, nn.Module | Mapping)
    check_type("weights", weights, fits, "a slim network, or its tensors by name")
    steps = Steps()
    with steps("trace"):
        graph = trace(model, example_inputs, freeze=plan.freeze, outputs=plan.outputs)
    fitting = fitted(plan, graph)
    with steps("slim"):
        small, inherited = _initialised(slim(model, fitting), weights, seed)
    with steps("verify"):
        checked = verify(model, small, fitting, example_inputs, seed=seed, verify_input=verify_input)
    report = report_of(graph, fitting, checked, steps.seconds, notes=stale_widths(small, unwrapped(model), graph))
    checked.require()
    return Transferred(small, fitting, report, graph, None, inherited)


def fitted(plan: Plan, graph: Graph) -> Plan:
    """Return the plan with the same widths for another graph of the architecture.

    Raises:
        UsageError: a group that is not frozen is missing or has another width, or a removed unit must stay here.
    """
    planned = {group.name: group for group in plan.groups}
    kept = np.zeros(graph.count, dtype=bool)
    for group in graph.groups:
        kept[group.units[_kept(graph, group, planned.pop(group.name, None))]] = True
    for left in planned.values():
        if sum(left.frozen.values()) < left.width:
            raise UsageError(f"the plan does not fit: the network has no group {left.name!r} of width {left.width}")
    return Plan.of(graph, kept, plan.choice, plan.scores, plan.stages)


def _kept(graph: Graph, group: Group, planned: PlanGroup | None) -> list[int]:
    """Return the places of a group's units that stay."""
    width, reason = len(group.units), graph.reason_of(group)
    if planned is not None and planned.width == width:
        for place in sorted(set(range(width)) - set(planned.kept)):
            if graph.reasons[group.units[place]] is not None:
                raise UsageError(
                    f"the plan does not fit: group {group.name!r}: it removes unit {place}, which has to stay here "
                    f"({graph.reasons[group.units[place]]})"
                )
        return list(planned.kept)
    if reason is not None and (planned is None or sum(planned.frozen.values()) == planned.width):
        return list(range(width))
    there = f"has width {planned.width} in the plan" if planned else "is not in the plan"
    raise UsageError(f"the plan does not fit: group {group.name!r} {there} and has width {width} in the network")


def _initialised(
    model: nn.Module, weights: nn.Module | Mapping[str, Tensor] | None, seed: int
) -> tuple[nn.Module, tuple[str, ...]]:
    initialise_(model, "glorot", generator_of(seed))
    trained = tensors_of(unwrapped(weights)) if isinstance(weights, nn.Module) else weights or {}
    inherited: list[str] = []

    def chosen(name: str, own: Tensor) -> Tensor:
        if name not in trained or trained[name].shape != own.shape:
            return own
        inherited.append(name)
        return trained[name].detach().to(own).clone()

    return copy_with(model, chosen, private=False), tuple(inherited)
