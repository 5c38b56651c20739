"""Limits, checked on the network that was built: it is traced, counted, followed and measured anew.

What is counted is what the plan said, to the integer. Memory at its peak is, too, unless a network does something else
at some widths; a measured time never is. Where such a cost is above its limit, or a time leaves room below it, what
plans are said to cost is scaled by what was found, and the choice is made again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import nn

from ranp import cost
from ranp.errors import CheckFailed, InfeasibleError, named
from ranp.figures import amount
from ranp.pipeline._gauges import Gauges
from ranp.plan import Plan
from ranp.reports import Chosen, Limit
from ranp.selection import FIGURES
from ranp.surgery import slim

ROUNDS = 3
ROOM = 0.95  # of a limit of time that is used, from which on another choice is not worth it


@dataclass(frozen=True)
class Built:
    """A plan, its network, and what that costs beside its limits."""

    plan: Plan
    slim: nn.Module
    chosen: Chosen

    @property
    def over(self) -> Limit | None:
        """The limit that is broken, or None."""
        return next((limit for limit in self.chosen.limits if limit.built > limit.most), None)

    @property
    def idle(self) -> bool:
        """Whether a time was expected to bind, and leaves room."""
        first = max(self.chosen.limits, key=lambda limit: limit.slim / max(limit.most, 1))
        return first.name == "latency" and first.used < ROOM and first.slim > ROOM * first.most


def within_limits(plan: Plan, small: nn.Module, gauges: Gauges, full: Mapping[str, int]) -> Chosen:
    """Return what a slim network costs beside its limits, the one that binds first.

    Args:
        plan: made under limits.
        small: the network it makes.
        gauges: find what it costs.
        full: what the full network costs, by the name of each limit.

    Raises:
        CheckFailed: something that is counted is not what the plan said, or more than its limit.
    """
    built = gauges.built(small, plan.choice.bounds)
    for name, most in plan.choice.bounds.items():
        said = plan.choice.costs[name]
        if name in FIGURES and (built[name] != said or built[name] > most):
            raise CheckFailed(
                f"the slim network costs {built[name]} {name}, its plan {said} and at most {most}: "
                "a defect in ranp, please report it"
            )
    return chosen_of(plan, full, built)


def chosen_of(plan: Plan, full: Mapping[str, int], built: Mapping[str, int] | None = None) -> Chosen:
    """Return how a plan was found under limits, the limit that binds first.

    Args:
        plan: made under limits.
        full: what the full network costs, by the name of each limit.
        built: the same of the slim network, where there is one; else what the plan was said to cost.
    """
    choice = plan.choice
    built = built or choice.costs
    limits = [
        Limit(
            name=name, asked=choice.limits[name], most=most, slim=choice.costs[name], built=built[name],
            full=full[name],
        )
        for name, most in choice.bounds.items()
    ]  # fmt: skip
    limits.sort(key=lambda limit: -limit.used)
    floor = choice.min_width or 1
    return Chosen(
        rule=choice.rule, solver=choice.solver, importance=choice.importance, gap=choice.gap, floor=floor,
        limits=limits,
    )  # fmt: skip


def settled(
    model: nn.Module,
    plan: Plan,
    small: nn.Module,
    price: cost.CostFunction,
    gauges: Gauges,
    full: Mapping[str, int],
    again: Callable[[], Plan],
) -> Built:
    """Return a plan whose network holds all limits when it is built; the one that keeps most of the scores.

    Args:
        model: the full network.
        plan: the first.
        small: the network it makes.
        price: that the choice is made by; its meters are scaled.
        gauges: find what a network costs.
        full: what the full network costs, by the name of each limit.
        again: chooses by `price`.

    Raises:
        InfeasibleError: all that was built in so many rounds breaks a limit; the closest is the least that was found.
        CheckFailed: as `within_limits`.
    """
    tries = [Built(plan, small, within_limits(plan, small, gauges, full))]
    while len(tries) < ROUNDS and (tries[-1].over or tries[-1].idle):
        for limit in tries[-1].chosen.limits:
            if limit.name in price.meters and limit.slim:
                price.meters[limit.name] = price.meters[limit.name].scaled(limit.built / limit.slim)
        try:
            plan = again()
        except InfeasibleError:
            break
        if plan.groups == tries[-1].plan.groups:
            break
        small = slim(model, plan)
        tries.append(Built(plan, small, within_limits(plan, small, gauges, full)))
    held = [each for each in tries if not each.over]
    if not held:
        limit = min((each.over for each in tries if each.over), key=lambda each: each.built)
        raise InfeasibleError(
            f"{named(limit.name, limit.asked)}: of the networks that were built for it ({len(tries)}), the least takes "
            f"{amount(limit.name, limit.built)} where {amount(limit.name, limit.slim)} were predicted",
            closest=limit.built,
        )
    best = max(held, key=lambda each: each.chosen.importance or 0.0)
    rounds = best.chosen.model_copy(update={"rounds": len(tries)})
    return Built(best.plan, best.slim, rounds)
