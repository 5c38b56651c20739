"""Pruning what was pruned: the plans of both rounds as one, in terms of the original network."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from torch import nn

from ranp import cost
from ranp.errors import UnsupportedError
from ranp.graph.build import trace
from ranp.graph.graph import Graph, staying
from ranp.inputs import Inputs
from ranp.modules import tensors_of, unwrapped
from ranp.options import Selection
from ranp.pipeline._gauges import Gauges
from ranp.pipeline._prune import Result, Steps, prune, report_of
from ranp.plan import Plan
from ranp.surgery import Size, stale_widths, verify


def prune_again(
    model: nn.Module,
    plan: Plan,
    slim: nn.Module,
    example_inputs: Inputs,
    *,
    freeze: Iterable[str] = (),
    seed: int = 0,
    verify_input: Size | None = None,
    **options: Any,
) -> Result:
    """Prune a slim network, and return its plan in terms of the full one.

    The result loads from the full network alone, and is proved against it; its weights are what this round left of the
    slim network's. Sparsity, as asked for and at most, is that of this round: a share of what the slim network has.

    Args:
        model: the full network, for its architecture.
        plan: that made the slim one.
        slim: with its weights, trained or not; it is untouched.
        example_inputs: as of `prune`.
        freeze: globs of module paths whose channels must stay, beside those of the plan.
        seed: as of `prune`.
        verify_input: as of `prune`.
        options: of `prune`.

    Raises:
        UsageError: as `prune`, or a plan that does not fit the network.
        UnsupportedError: as `prune`, or both plans can't be said as one.
        CheckFailed: the slim network differs from the masked one.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 3))
        >>> one = prune(net, torch.zeros(1, 1, 8, 8), sparsity=0.4, method="l1")
        >>> two = prune_again(net, one.plan, one.slim, torch.zeros(1, 1, 8, 8), sparsity=0.4, method="l1")
        >>> set(two.plan.groups[0].kept) < set(one.plan.groups[0].kept)
        True
    """
    choice = {name: value for name, value in options.items() if name in Selection.model_fields}
    options["rule"] = Selection.read(choice).ruled(trained=True).rule
    result = prune(
        slim, example_inputs, freeze=(*plan.freeze, *freeze), outputs=plan.outputs, seed=seed,
        verify_input=verify_input, **options,
    )  # fmt: skip
    steps = Steps(options.get("watch"))
    with steps("join"):
        graph = trace(model, example_inputs, freeze=plan.freeze, outputs=plan.outputs)
        whole = joined(graph, plan, result)
    with steps("verify"):
        checked = verify(model, result.slim, whole, example_inputs, seed=seed, verify_input=verify_input)
    before, after = plan.units().kept, whole.units().kept
    notes = [
        f"pruned again: of {plan.units().total} units the round before kept {before} and this one {after}; sparsity, "
        "as asked for and at most, is of what was kept before",
        *stale_widths(result.slim, unwrapped(model), graph),
    ]
    seconds = {**result.report.seconds, **{f"{name} with the full network": s for name, s in steps.seconds.items()}}
    report = report_of(graph, whole, checked, seconds, result.scores, notes)
    if (chosen := result.report.chosen) is not None:  # whose limits stand beside the network of the round before
        timer = options.get("timer") or cost.stopwatch(options.get("device", "cpu"))
        gauges = Gauges(example_inputs, options.get("step") or cost.Step(), timer)
        full = gauges.built(model, [limit.name for limit in chosen.limits])
        limits = [limit.model_copy(update={"full": full[limit.name]}) for limit in chosen.limits]
        report = report.model_copy(update={"chosen": chosen.model_copy(update={"limits": limits})})
    checked.require()
    return replace(result, plan=whole, report=report, graph=graph)


def joined(graph: Graph, first: Plan, second: Result) -> Plan:
    """Return the plan that does at once what two do one after the other.

    A channel of the slim network is one of the full network's: the place of each in a parameter says which.

    Args:
        graph: of the full network.
        first: its plan.
        second: of pruning the slim network.

    Raises:
        UsageError: the first plan does not fit.
        UnsupportedError: channels of the full network that live and die together don't in the slim one.
    """
    kept, small = first.mask(graph), second.graph
    keeps = second.plan.mask(small)
    goes, left = np.zeros_like(kept), np.zeros_like(kept)
    for name, members in graph.parameters.items():
        dims = small.parameters[name].dims if name in small.parameters else {}
        for dim in members.dims.keys() & dims.keys():
            units = members.dims[dim][
                staying(kept, members.dims[dim])
            ]  # of the channels that the slim network has, in order
            keep = staying(keeps, dims[dim])
            if len(units) != len(keep):
                raise _not_one(name)
            goes[units[(units >= 0) & ~keep]] = True
            left[units[(units >= 0) & keep]] = True
    torn = np.flatnonzero(goes & left)
    if len(torn):
        raise _not_one(graph.groups[graph.group_of[torn[0]]].name)
    kept = kept & ~goes
    for rows in graph.balance:  # a grouped convolution may have become a depthwise one, which loses whole groups
        if len(set(staying(kept, rows).sum(axis=1).tolist())) > 1:
            raise _not_one(graph.groups[graph.group_of[rows.flat[0]]].name)
    for group in graph.groups:
        if not kept[group.units].any():
            raise _not_one(group.name)
    for name, tensor in tensors_of(second.slim).items():
        if graph.kept_shape(name, kept) not in (None, tuple(tensor.shape)):
            raise _not_one(name)
    neurons = sum(len(layer.units) for layer in graph.layers)
    gone = sum(int((~staying(kept, layer.units)).sum()) for layer in graph.layers)
    choice = second.plan.choice.model_copy(update={"achieved": gone / neurons})
    return Plan.of(graph, kept, choice, second.plan.scores, second.plan.stages)


def _not_one(name: str) -> UnsupportedError:
    return UnsupportedError(
        f"{name}: what lives and dies together in the full network does not in the slim one, so that no plan of the "
        "full network makes what this round leaves"
    )
