"""Pruning in rounds: how much goes in each, and that training in between stays."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_networks import small
from torch import Tensor, nn

import ranp
from ranp.errors import InfeasibleError, UsageError
from ranp.modules import tensors_of
from ranp.pipeline import Result, Standing, prune_in_rounds
from ranp.pipeline._gradual import round_goal
from ranp.plan import Plan

FULL = {"params": 10**6, "flops": 10**9, "activations": 2**20}


@given(st.integers(1, 6), st.sampled_from(["linear", "cubic"]), st.floats(0.0, 0.5), st.floats(0.5, 0.95))
def test_the_shares_of_all_rounds_together_are_the_sparsity(
    rounds: int, schedule: str, first: float, last: float
) -> None:
    begun, gone, taken = Standing(first, {}), first, []
    for number in range(1, rounds + 1):
        goal = round_goal(number, rounds, schedule, begun, Standing(gone, {}), {}, sparsity=last)
        before, gone = gone, gone + (1 - gone) * goal["sparsity"]
        taken.append(gone - before)
        done = number / rounds if schedule == "linear" else 1 - (1 - number / rounds) ** 3
        assert gone == pytest.approx(first + (last - first) * done)
    assert gone == pytest.approx(last)
    assert all(one >= other - 1e-12 for one, other in pairwise(taken)), "none takes more than one before"


def test_limits_fall_to_what_is_asked_by_hand() -> None:
    begun = Standing(0.0, FULL)
    asked = [round_goal(n, 4, "linear", begun, begun, FULL, params="200k", activations="25%") for n in range(1, 5)]
    assert [each["params"] for each in asked] == ["800000", "600000", "400000", "200000"]
    assert [each["activations"] for each in asked] == ["851968B", "655360B", "458752B", "262144B"]
    cubic = [round_goal(n, 2, "cubic", begun, begun, FULL, flops="200M")["flops"] for n in (1, 2)]
    assert cubic == ["300000000", "200000000"]
    smaller = Standing(0.5, {**FULL, "params": 100})
    assert round_goal(1, 2, "linear", smaller, smaller, FULL, params="200k") == {"params": "200000"}, "it is met"


def shifted(slim: nn.Module) -> None:
    """Stand for a training: every weight changes, each by another amount."""
    with torch.no_grad():
        for number, parameter in enumerate(slim.parameters()):
            parameter.mul_(1.5).add_(0.01 * (number + 1))


@pytest.mark.parametrize("goal", [{"sparsity": 0.6}, {"params": "35%"}, {"flops": "40%", "activations": "80%"}])
@pytest.mark.parametrize("schedule", ["linear", "cubic"])
def test_rounds_make_one_plan_and_keep_what_was_trained(goal: dict[str, object], schedule: str) -> None:
    net, inputs = small("residual2d")
    before = {name: tensor.clone() for name, tensor in tensors_of(net).items()}
    sizes: list[int] = []

    def train(slim: nn.Module) -> None:
        sizes.append(sum(p.numel() for p in slim.parameters()))
        shifted(slim)

    result = prune_in_rounds(
        net, inputs, train, rounds=3, sparsity_schedule=schedule, method="l1", min_width=1, **goal  # type: ignore[arg-type]
    )  # fmt: skip
    assert len(sizes) == 3
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > sizes[-1] == result.report.slim.params
    assert shapes(ranp.slim(net, Plan.from_json(result.plan.to_json()))) == shapes(result.slim)
    assert all(torch.equal(tensor, before[name]) for name, tensor in tensors_of(net).items()), "it is untouched"
    assert within(result, goal)
    norms = [name for name, tensor in tensors_of(result.slim).items() if name.endswith("weight") and tensor.dim() == 1]
    for number, (name, parameter) in enumerate(result.slim.named_parameters()):
        if name in norms:  # of ones: 1.5 (1.5 (1.5 + d) + d) + d, by hand
            d = 0.01 * (number + 1)
            assert parameter.detach().tolist() == pytest.approx([1.5**3 + d * (1.5**2 + 1.5 + 1)] * len(parameter))
    assert norms


def shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors_of(model).items()}


def within(result: Result, goal: dict[str, object]) -> bool:
    """Whether a result meets a goal of the full network."""
    if "sparsity" in goal:
        return 0.4 < result.plan.choice.achieved <= 0.61
    assert result.report.chosen is not None
    full = {"params": result.report.full.params, "flops": result.report.full.flops,
            "activations": result.report.full.memory_bytes}  # fmt: skip
    limits = {limit.name: limit for limit in result.report.chosen.limits}
    assert limits.keys() == goal.keys()
    return all(
        limits[name].built <= limits[name].most <= int(str(amount).rstrip("%")) / 100 * full[name] + 1
        and limits[name].full == full[name]
        for name, amount in goal.items()
    )


def test_one_round_is_one_pruning() -> None:
    net, inputs = small("residual2d")
    once = ranp.prune(net, inputs, sparsity=0.5, method="l1")
    again = prune_in_rounds(net, inputs, lambda slim: None, rounds=1, sparsity=0.5, method="l1")
    assert [group.kept for group in again.plan.groups] == [group.kept for group in once.plan.groups]
    same: list[tuple[Tensor, Tensor]] = list(
        zip(tensors_of(once.slim).values(), tensors_of(again.slim).values(), strict=True)
    )
    assert all(torch.equal(one, other) for one, other in same)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rounds": 0, "sparsity": 0.5}, r"rounds=0: expected a whole number of at least 1"),
        (
            {"rounds": 2},
            r"rounds=2: needs what is reached in the end: sparsity=, or limits: params=, flops= and activations=",
        ),
        ({"rounds": 2, "max_sparsity": True}, r"rounds=2: needs what is reached in the end"),
        ({"rounds": 2, "sparsity": 0.5, "flops": "10%"}, r"rounds=2: needs what is reached in the end"),
        ({"rounds": 2, "sparsity": 0.5, "sparsity_schedule": "cubik"}, r"did you mean 'cubic'\?"),
    ],
)
def test_mistakes(options: dict[str, object], message: str) -> None:
    net, inputs = small("residual2d")
    with pytest.raises(UsageError, match=message):
        prune_in_rounds(net, inputs, lambda slim: None, **options)  # type: ignore[arg-type]


def test_a_round_that_cannot_be_reached_is_refused() -> None:
    net, inputs = small("residual2d")
    with pytest.raises(InfeasibleError):
        prune_in_rounds(net, inputs, lambda slim: None, rounds=2, params="1", method="l1")
