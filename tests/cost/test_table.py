"""Tables of layers' times, with a clock of our own: no test depends on how fast a machine is."""

import numpy as np
import pytest
import torch
from small_networks import small
from torch import nn

import ranp
from ranp import cost
from ranp.graph.constraints import grow, random_plan
from ranp.graph.graph import Graph
from ranp.graph.resize import resized
from ranp.inputs import Inputs


def steps_of_four(model: nn.Module, inputs: Inputs) -> float:
    """Microseconds of a device that does four channels of a weight's first dimension at once."""
    return float(sum(10 * -(-each.shape[0] // 4) * each.shape[1] for each in model.parameters() if each.dim() > 1))


def table(name: str, timer: cost.Timer) -> tuple[nn.Module, Graph, cost.CostFunction, cost.LatencyTable]:
    model, inputs = small(name)
    graph = ranp.trace(model, inputs)
    price = cost.compile(graph)
    return model, graph, price, cost.LatencyTable.measured(graph, price, model, inputs, timer)


@pytest.mark.parametrize("name", ["residual2d", "residual3d", "depthwise", "dense"])
def test_the_full_network_takes_what_was_measured_and_no_plan_takes_more(name: str) -> None:
    model, graph, price, times = table(name, steps_of_four)
    full = price.widths(np.ones(graph.count, dtype=bool))
    assert int(times(full)) == round(steps_of_four(model, torch.zeros(0)))
    generator = np.random.default_rng(0)
    plans = [grow(graph, random_plan(graph, share, generator), np.zeros(graph.count)) for share in (0.2, 0.5, 0.8)]
    widths = np.stack([price.widths(kept) for kept in plans], axis=1)
    assert times(widths).tolist() == [int(times(each)) for each in widths.T]
    assert (times(widths) <= int(times(full))).all()


def test_measured_widths_are_met_and_steps_are_seen() -> None:
    net = nn.Sequential(nn.Conv2d(1, 64, 3), nn.Conv2d(64, 2, 1))
    graph = ranp.trace(net, torch.zeros(1, 1, 8, 8))
    price = cost.compile(graph)
    times = cost.LatencyTable.measured(graph, price, net, torch.zeros(1, 1, 8, 8), steps_of_four)
    kept = np.ones(graph.count, dtype=bool)
    group = next(each for each in graph.groups if len(each.units) == 64)
    for width in (8, 16, 24, 32, 48, 64):  # that are measured
        kept[group.units] = np.arange(64) < width
        assert int(times(price.widths(kept))) == steps_of_four(resized(graph, net, kept), torch.zeros(0))


def test_what_is_no_layer_goes_with_the_activations_and_scaling_is_kept() -> None:
    def with_rest(model: nn.Module, inputs: Inputs) -> float:
        return steps_of_four(model, inputs) + (0 if type(model) in (nn.Conv2d, nn.Linear) else 500)

    _, graph, price, times = table("residual2d", with_rest)
    _, _, _, bare = table("residual2d", steps_of_four)
    kept = grow(graph, random_plan(graph, 0.5, np.random.default_rng(0)), np.zeros(graph.count))
    share = price(kept).memory_bytes / price(np.ones(graph.count, dtype=bool)).memory_bytes
    widths = price.widths(kept)
    assert int(times(widths)) == pytest.approx(int(bare(widths)) + 500 * share, abs=1)
    assert int(times.scaled(1.5).scaled(2)(widths)) == pytest.approx(3 * int(times(widths)), abs=2)
    assert times.scaled(1.5).scaled(2).scale == 3


def test_equal_layers_are_measured_once() -> None:
    seen: list[str] = []

    def counting(model: nn.Module, inputs: Inputs) -> float:
        seen.append(f"{model} {getattr(inputs, 'shape', '')}")
        return 1.0

    net = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), *(nn.Conv2d(8, 8, 3, padding=1) for _ in range(4)))
    inputs = torch.zeros(1, 1, 8, 8)
    graph = ranp.trace(net, inputs)
    cost.LatencyTable.measured(graph, cost.compile(graph), net, inputs, counting)
    assert len(seen) == len({*seen})
