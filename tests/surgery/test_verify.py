"""slim == masked in float64, for random weights, plans and inputs; and what verify() says when it isn't."""

import numpy as np
import pytest
import torch
from small_networks import NAMES, small
from torch import nn

import ranp
from ranp.graph.constraints import random_plan
from ranp.plan import Choice


def randomised(model: nn.Module, seed: int) -> nn.Module:
    """Give a model random weights and statistics."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_floating_point():
            values = torch.rand(tensor.shape, generator=generator) + 0.2
            tensor.data = values if "var" in name else values - 0.7
    return model


def random(graph: ranp.Graph, removed: float, seed: int) -> ranp.Plan:
    """Return a random plan."""
    kept = random_plan(graph, removed, np.random.default_rng(seed))
    return ranp.Plan.of(graph, kept, Choice(rule="random"), {})


@pytest.mark.parametrize("removed", [0.3, 0.7])
@pytest.mark.parametrize("name", NAMES)
def test_slim_equals_masked(name: str, removed: float) -> None:
    model, example = small(name)
    randomised(model, 1)
    plan = random(ranp.trace(model, example), removed, 2)
    slim = ranp.slim(model, plan)
    report = ranp.verify(model, slim, plan, example)
    assert report.passed
    assert report.max_rel_diff < 1e-9
    assert report.inputs >= 2
    assert sum(p.numel() for p in slim.parameters()) < sum(p.numel() for p in model.parameters())
    assert type(slim) is type(model)


@pytest.mark.parametrize("name", NAMES)
def test_slim_trains_and_leaves_the_full_model_alone(name: str) -> None:
    model, example = small(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    slim = ranp.slim(model, random(ranp.trace(model, example), 0.5, 0))
    optimizer = torch.optim.SGD(slim.parameters(), 0.1)
    slim.train()(torch.randn_like(example)).square().mean().backward()
    optimizer.step()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_wrong_slim_network_is_found() -> None:
    model, example = small("residual2d")
    randomised(model, 1)
    plan = random(ranp.trace(model, example), 0.5, 0)
    slim = ranp.slim(model, plan)
    slim.__class__ = type("Wrong", (type(slim),), {"forward": lambda self, x: type(model).forward(self, x) + 1e-6})
    report = ranp.verify(model, slim, plan, example)
    assert not report.passed
    assert report.max_abs_diff == pytest.approx(1e-6, rel=1e-3)


def test_a_network_of_another_plan_is_refused() -> None:
    model, example = small("residual2d")
    graph = ranp.trace(model, example)
    slim = ranp.slim(model, random(graph, 0.5, 0))
    with pytest.raises(ranp.UsageError, match="does not fit the plan"):
        ranp.verify(model, slim, random(graph, 0.2, 0), example)


def test_frozen_units_are_reported_with_reasons() -> None:
    model, example = small("depthwise")
    plan = random(ranp.trace(model, example), 0.5, 0)
    report = ranp.verify(model, ranp.slim(model, plan), plan, example)
    assert report.frozen["network output"] == 5
    assert report.to_dict()["passed"] is True


class Elsewhere(nn.Module):
    """Weighs positions, by a way that meta tensors are spared, as kernels for some devices are."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.is_meta else x * (1 + x.softmax(-1))


def test_statistics_of_a_module_are_its_own() -> None:
    net = nn.Sequential(nn.Conv2d(1, 8, 3), Elsewhere(), nn.Softmax(1), nn.Conv2d(8, 2, 1))
    model, example = randomised(net, 0), torch.randn(2, 1, 6, 6)
    plan = random(ranp.trace(model, example), 0.5, 0)
    report = ranp.verify(model, ranp.slim(model, plan), plan, example)
    assert report.passed
    assert report.uncompared == ()
    assert plan.units().kept < plan.units().total
