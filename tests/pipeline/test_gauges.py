"""Limits of memory and time through prune() and suggest(): found on the built network, put right, said."""

import numpy as np
import pytest
import torch
from small_networks import small
from torch import nn

import ranp
from ranp import cost
from ranp.data import losses
from ranp.errors import InfeasibleError
from ranp.inputs import Inputs
from ranp.options import Amp
from ranp.pipeline import Gauges, suggest
from ranp.pipeline._warnings import warnings_of


@pytest.mark.parametrize("amp", ["off", "bf16"])
@pytest.mark.parametrize("solver", ["threshold", "exact"])
def test_the_emitted_network_takes_the_memory_that_its_plan_says(solver: str, amp: Amp) -> None:
    model, inputs = small("dense")
    step = cost.Step(losses.get("ce"), torch.zeros(1, 8, 8, 8, dtype=torch.int64), amp=amp)
    result = ranp.prune(
        model, inputs, method="l1", train_memory="70%", infer_memory="80%", solver=solver, min_width=1, step=step
    )  # fmt: skip
    chosen = result.report.chosen
    assert chosen is not None
    built = {limit.name: limit for limit in chosen.limits}
    assert built["train_memory"].built == cost.training_peak(result.slim, inputs, step) == built["train_memory"].slim
    assert built["infer_memory"].built == cost.inference_peak(result.slim, inputs) == built["infer_memory"].slim
    assert all(limit.built <= limit.most < limit.full for limit in chosen.limits)
    assert built["train_memory"].full == cost.training_peak(model, inputs, step)
    assert "limit that binds: " in result.report.table()
    assert chosen.rounds == 1


def off_by(factor: float) -> cost.Timer:
    """A clock by which slim networks take another time than their layers say: all but layers and the full network."""

    def time(model: nn.Module, inputs: Inputs) -> float:
        work = float(sum(each.numel() for each in model.parameters()))
        whole = type(model).__name__ == "Residual"
        return work * (factor if whole and work < WORK else 1.0)

    return time


WORK = float(sum(each.numel() for each in small("residual2d")[0].parameters()))


@pytest.mark.parametrize("factor", [0.6, 1.0, 1.4])
def test_a_network_is_measured_and_chosen_again_until_the_time_holds(factor: float) -> None:
    model, inputs = small("residual2d")
    result = ranp.prune(
        model, inputs, method="l1", latency="60%", min_width=1, solver="greedy", timer=off_by(factor)
    )  # fmt: skip
    chosen = result.report.chosen
    assert chosen is not None
    (limit,) = chosen.limits
    assert limit.built == round(off_by(factor)(result.slim, inputs)) <= limit.most == int(0.6 * limit.full)
    assert limit.full == WORK
    assert chosen.rounds <= 3
    if factor == 1.4:
        assert chosen.rounds > 1
        assert f"the best of {chosen.rounds} networks that were built and measured" in result.report.table()
    if factor == 0.6:  # there was room, and it was used
        assert limit.built > 0.6 * limit.most


def test_a_time_that_no_network_holds_is_said_with_what_was_measured() -> None:
    model, inputs = small("residual2d")
    with pytest.raises(
        InfeasibleError, match=r"latency='60%': of the networks .* for it \(\d\), the least .* predicted"
    ):
        ranp.prune(model, inputs, method="l1", latency="60%", min_width=1, timer=off_by(50.0))


def test_compare_prices_every_method_and_suggest_the_choice_under_limits() -> None:
    model, inputs = small("residual3d")
    batches = [(torch.randn(inputs.shape), torch.zeros(1, 8, 8, 8, dtype=torch.int64))]
    table = ranp.compare(model, inputs, batches, losses.get("ce"), train_memory="80%", min_width=1)
    full, *others = table.rows
    for row in others:
        assert row.status == "ok"
        assert 0 < row.meters["train_memory"] <= 0.8 * full.meters["train_memory"]
    gauges, options = Gauges(inputs), {"train_memory": "80%", "min_width": 1}
    graph = ranp.trace(model, inputs)
    price = gauges.price(graph, model, ranp.options.Selection.read(options))
    found = suggest(graph, ranp.importance(model, graph, method="l1"), price=price, **options)
    assert found.within is not None
    assert found.chosen is not None
    assert found.within.holds
    assert found.within.meters["train_memory"] == found.chosen.limits[0].slim
    assert {point.holds for point in found.points} == {True, False}
    assert all(p.holds == (p.meters["train_memory"] <= found.chosen.limits[0].most) for p in found.points)


class Hourglass(nn.Module):
    """Down and up again."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1, stride=2))
        self.up = nn.Sequential(nn.ConvTranspose2d(16, 16, 2, stride=2), nn.Conv2d(16, 2, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.up(self.down(x).relu())


def test_a_dying_encoder_is_said_and_one_that_lives_is_not() -> None:
    graph = ranp.trace(Hourglass(), torch.zeros(1, 1, 8, 8))
    scores = ranp.importance(Hourglass(), graph, method="l1")
    plan = ranp.select(graph, scores, sparsity=0.0)

    def keeping(first: int, second: int, third: int, rule: str = "global") -> str:
        kept = np.ones(graph.count, dtype=bool)
        widths = iter((first, second, third))
        for group in graph.groups:
            if not graph.frozen[group.units].all():
                kept[group.units] = np.arange(16) < next(widths)
        other = ranp.Plan.of(graph, kept, plan.choice.model_copy(update={"rule": rule}), {})
        return "\n".join(warnings_of(graph, other, scores))

    assert "dying encoder: 25.0 % of the channels on the way down" in keeping(4, 4, 16)
    assert "dying encoder" not in keeping(4, 4, 16, "profile")  # whose widths are meant
    assert "dying encoder" not in keeping(8, 8, 16)
    assert "dying encoder" not in keeping(16, 16, 4)
    ladder = nn.Sequential(nn.Conv2d(1, 16, 3), nn.Conv2d(16, 16, 3, stride=2), nn.Conv2d(16, 2, 1))
    down = ranp.trace(ladder, torch.zeros(1, 1, 12, 12))
    assert warnings_of(down, ranp.select(down, None, rule="random", sparsity=0.0), None) == []
