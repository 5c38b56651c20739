"""Pruning in rounds: a part goes, what is left is trained, and so on until the goal is reached.

How much is gone after each round follows Zhu and Gupta, "To prune, or not to prune" (2017), Eq. 1:
s_i + (s_f - s_i) (1 - (1 - t/n)^3) after t of n rounds, from what is gone at first to what shall be. "linear" has an
exponent of 1. Theirs is of weights that are masked every few hundred steps; here neurons go, each round is a training
of its own, and limits of costs fall along the same curve.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from torch import nn

from ranp.errors import UsageError, listed, named, nearest
from ranp.figures import amount_of
from ranp.graph.build import trace
from ranp.inputs import Inputs
from ranp.options import Budget, SparsitySchedule
from ranp.pipeline._prune import Result, costs_of, prune
from ranp.pipeline._rounds import prune_again
from ranp.plan import Plan
from ranp.selection import FIGURES

_EXPONENTS: Mapping[str, int] = {"linear": 1, "cubic": 3}


@dataclass(frozen=True)
class Standing:
    """How much of a network is gone, and what is left costs.

    Args:
        gone: share of the full network's neurons.
        costs: by the name of the limit.
    """

    gone: float
    costs: Mapping[str, int]


def standing_of(model: nn.Module, plan: Plan, example_inputs: Inputs) -> tuple[Standing, dict[str, int]]:
    """Return where a plan of a network stands, and what the full network costs."""
    graph = trace(model, example_inputs, freeze=plan.freeze, outputs=plan.outputs)
    costs = costs_of(graph, plan)["standard"]
    slim, full = ({name: int(each[key]) for name, key in FIGURES.items()} for each in (costs.slim, costs.full))
    return Standing(plan.choice.achieved, slim), full


def round_goal(
    number: int,
    rounds: int,
    schedule: str,
    begun: Standing,
    now: Standing,
    full: Mapping[str, int],
    *,
    sparsity: float | None = None,
    **limits: str | int | None,
) -> dict[str, Any]:
    """Return what a round is asked for, as options of `prune_again`.

    Args:
        number: of the round, from 1.
        rounds: in all.
        schedule: "linear" or "cubic".
        begun: where the first round began.
        now: where this one begins.
        full: costs of the full network, of which limits may be shares.
        sparsity: share of the full network's neurons that is gone after the last round.
        limits: in its place: `params`, `flops`, `activations`.

    >>> begun = Standing(0.0, {"params": 1000})
    >>> round_goal(1, 2, "cubic", begun, begun, {"params": 1000}, params="20%")
    {'params': '300'}
    >>> round_goal(2, 2, "linear", begun, Standing(0.5, {}), {}, sparsity=0.75)
    {'sparsity': 0.5}
    """
    done = 1 - (1 - number / rounds) ** _EXPONENTS[schedule]
    if sparsity is not None:
        gone = begun.gone + (sparsity - begun.gone) * done
        return {"sparsity": max(0.0, (gone - now.gone) / (1 - now.gone))}
    goals = {}
    for name, amount in limits.items():
        if amount is not None:
            last = amount_of(name, str(amount), full[name])
            most = last + round(max(0, begun.costs[name] - last) * (1 - done))
            goals[name] = f"{most}B" if name == "activations" else str(most)
    return goals


def prune_round(
    model: nn.Module,
    plan: Plan,
    slim: nn.Module,
    example_inputs: Inputs,
    *,
    number: int,
    rounds: int,
    schedule: str,
    begun: Standing,
    **options: Any,
) -> Result:
    """Prune a slim network by the amount of a round; it is `prune_again` with a goal that follows from the whole one.

    Args:
        model: as of `prune_again`.
        plan: as of `prune_again`.
        slim: as of `prune_again`.
        example_inputs: as of `prune_again`.
        number: of the round, from 1.
        rounds: in all.
        schedule: "linear" or "cubic".
        begun: where the first round began.
        options: of `prune_again`; sparsity, or limits, of the full network and after the last round.

    Raises:
        UsageError: as `prune_again`.
        InfeasibleError: as `prune_again`.
    """
    now, full = standing_of(model, plan, example_inputs)
    goal = {name: options.pop(name, None) for name in ("sparsity", *FIGURES)}
    asked = round_goal(number, rounds, schedule, begun, now, full, **goal)
    return prune_again(model, plan, slim, example_inputs, **asked, **options)


def prune_in_rounds(
    model: nn.Module,
    example_inputs: Inputs,
    train: Callable[[nn.Module], object],
    *,
    rounds: int,
    sparsity_schedule: str = "linear",
    freeze: tuple[str, ...] = (),
    outputs: tuple[int, ...] = (),
    **options: Any,
) -> Result:
    """Prune and train in turn, until a sparsity or a limit is reached.

    Args:
        model: the full network, trained or not; it is untouched.
        example_inputs: as of `prune`.
        train: trains the network that it is given in place; called after each pruning.
        rounds: how often.
        sparsity_schedule: "linear": every round takes the same share, or "cubic": the first ones take most.
        freeze: as of `prune`.
        outputs: as of `prune`.
        options: of `prune`: `sparsity`, or limits, is what is reached in the end, of the full network.

    Returns:
        The result of the last round: its plan makes of the full network what all rounds made, and `slim` is trained.

    Raises:
        UsageError: as `prune`, or no such schedule or number.
        InfeasibleError: as `prune`.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 3))
        >>> widths = []
        >>> example = torch.zeros(1, 1, 8, 8)
        >>> result = prune_in_rounds(
        ...     net, example, lambda slim: widths.append(len(slim[0].weight)), rounds=3, sparsity=0.6, method="l1"
        ... )
        >>> 8 > widths[0] > widths[1] > widths[2]
        True
    """
    check_rounds(rounds, sparsity_schedule, options)
    kept = {name: options[name] for name in ("seed", "verify_input") if name in options}
    result = prune(model, example_inputs, rule="random", sparsity=0.0, freeze=freeze, outputs=outputs, **kept)
    begun, _ = standing_of(model, result.plan, example_inputs)
    for number in range(1, rounds + 1):
        result = prune_round(
            model, result.plan, result.slim, example_inputs, number=number, rounds=rounds,
            schedule=sparsity_schedule, begun=begun, **options,
        )  # fmt: skip
        train(result.slim)
    return result


def check_rounds(rounds: int, schedule: str, options: Mapping[str, Any]) -> None:
    """Refuse rounds that have no goal, or no way to it.

    Raises:
        UsageError: the first of them.
    """
    if rounds < 1:
        raise UsageError(f"{named('rounds', rounds)}: expected a whole number of at least 1")
    known = get_args(SparsitySchedule)
    if schedule not in known:
        raise UsageError(f"{named('sparsity_schedule', schedule)}: expected {listed(known)}{nearest(schedule, known)}")
    for name in Budget.model_fields.keys() - FIGURES.keys():
        if options.get(name) is not None:
            raise UsageError(
                f"{named(name, options[name])}: with {named('rounds')} expected {listed(map(named, FIGURES))}"
            )
    goals = [options.get("sparsity") is not None, any(options.get(name) is not None for name in Budget.model_fields)]
    if options.get("max_sparsity") or sum(goals) != 1:
        either = f"{named('sparsity')}, or limits: {listed(map(named, FIGURES), 'and')}"
        raise UsageError(f"{named('rounds', rounds)}: needs what is reached in the end: {either}")
