"""Limits through prune(): checked on the built network, reported, warned of; scores of several draws."""

import numpy as np
import pytest
import torch
from small_networks import small
from torch import nn

import ranp
from ranp import cost
from ranp.errors import CheckFailed
from ranp.pipeline._draws import mean_of
from ranp.pipeline._gauges import Gauges
from ranp.pipeline._limits import within_limits
from ranp.scores import Scores


@pytest.mark.parametrize("name", ["residual2d", "depthwise", "dense"])
@pytest.mark.parametrize("options", [{"solver": "exact"}, {"solver": "greedy"}, {"rule": "profile"}, {"tie": "stage"}])
def test_the_built_network_costs_what_the_plan_says(name: str, options: dict[str, str]) -> None:
    model, inputs = small(name)
    result = ranp.prune(model, inputs, method="l1", params="60%", flops="70%", min_width=2, **options)
    graph = ranp.trace(result.slim, inputs)
    own = cost.compile(graph)(np.ones(graph.count, dtype=bool))
    chosen = result.report.chosen
    assert chosen is not None
    by_name = {limit.name: limit for limit in chosen.limits}
    assert by_name["params"].built == own.params == sum(each.numel() for each in result.slim.parameters())
    assert by_name["flops"].built == own.flops
    assert all(limit.built == limit.slim <= limit.most <= limit.full for limit in chosen.limits)
    assert chosen.limits[0].used == max(limit.used for limit in chosen.limits)
    assert f"limit that binds: {chosen.limits[0].name} " in result.report.table()
    assert result.report.verify.passed


def test_a_network_that_costs_more_than_its_plan_is_refused() -> None:
    model, inputs = small("residual2d")
    result = ranp.prune(model, inputs, method="l1", params="60%", min_width=2)
    with pytest.raises(CheckFailed, match="the slim network costs"):
        within_limits(result.plan, model, Gauges(inputs), {"params": 1})


def test_bottlenecks_equal_scores_and_the_uniform_network_are_said() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Conv2d(16, 2, 1))
    nn.init.ones_(net[2].weight)  # type: ignore[arg-type]
    nn.init.zeros_(net[2].bias)  # type: ignore[arg-type]
    result = ranp.prune(net, torch.randn(1, 1, 12, 12), method="l1", sparsity=0.85, min_width=2, rule="layerwise")
    words = "\n".join(result.report.notes)
    assert "bottleneck: 0 (" in words
    assert "min_width=4 is a floor" in words
    assert "equal scores: 2 have one score" in words
    assert "uniform network of equal FLOPs: 0 " in result.report.table()
    wide = ranp.prune(net, torch.randn(1, 1, 12, 12), method="l1", sparsity=0.3, min_width=8)
    assert not any("bottleneck" in note for note in wide.report.notes)
    uniform = ranp.prune(net, torch.randn(1, 1, 12, 12), method="l1", sparsity=0.3, rule="uniform")
    assert "uniform network of equal FLOPs" not in uniform.report.table()


def test_the_mean_of_draws_gives_each_the_same_say() -> None:
    small_one = Scores("mpmg", "sum", 1, {"a": np.array([1.0, 3.0]), "b": np.array([2.0])})
    large = Scores("mpmg", "sum", 1, {"a": np.array([300.0, 100.0]), "b": np.array([200.0])})
    assert mean_of([small_one]) is small_one
    assert {name: each.tolist() for name, each in mean_of([small_one, large]).neurons.items()} == {
        "a": [1.0, 1.0], "b": [1.0],
    }  # fmt: skip


def test_prune_chooses_by_the_mean_of_draws_and_says_the_spread() -> None:
    draws = [small("residual2d", seed)[0] for seed in range(3)]
    _, inputs = small("residual2d")
    result = ranp.prune(draws[0], inputs, method="l1", sparsity=0.4, min_width=2, redrawn=draws[1:])
    graph = result.graph
    scores = mean_of([ranp.importance(each, graph, method="l1") for each in draws])
    assert ranp.select(graph, scores, sparsity=0.4, min_width=2).groups == result.plan.groups
    assert any(note.startswith("3 draws: widths spread by") for note in result.report.notes)
