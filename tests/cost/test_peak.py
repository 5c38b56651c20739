"""Peak memory as a function of the plan: to the byte what the built network's step takes, by the same tracker."""

from collections.abc import Iterable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_networks import small
from torch import nn

import ranp
from ranp import cost, models
from ranp.data import losses
from ranp.errors import UnsupportedError
from ranp.graph.constraints import grow, random_plan
from ranp.graph.graph import Graph, Mask
from ranp.graph.resize import resized
from ranp.options import Amp


def momentum(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


def network(name: str) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """A network, an input and labels of its output."""
    if name == "unet3d":
        return models.build(name, base_width=8, depth=2), torch.zeros(1, 1, 8, 8, 8), torch.zeros(1, 8, 8, 8).long()
    model, inputs = small(name)
    with torch.no_grad():
        given = model(inputs)
    return model, inputs, torch.zeros((given.shape[0], *given.shape[2:]), dtype=torch.int64)


def plans(graph: Graph, count: int) -> list[Mask]:
    """Plans of random widths, the last of least widths."""
    generator = np.random.default_rng(3)
    shares = [*(generator.uniform(0, 0.9, len(graph.groups)) for _ in range(count - 1)), 1.0]
    return [grow(graph, random_plan(graph, each, generator), np.zeros(graph.count)) for each in shares]


@pytest.mark.parametrize("amp", ["off", "bf16"])
@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, momentum])
@pytest.mark.parametrize("name", ["residual2d", "residual3d", "depthwise", "dense", "unet3d"])
def test_the_built_networks_peak_is_the_predicted_one_to_the_byte(name: str, optimizer: type, amp: Amp) -> None:
    model, inputs, labels = network(name)
    graph = ranp.trace(model, inputs)
    price, step = cost.compile(graph), cost.Step(losses.get("ce"), labels, optimizer, amp)
    peak = cost.Peak.of(graph, price, model, inputs, step)
    for kept in plans(graph, 3):
        assert int(peak(price.widths(kept))) == cost.training_peak(resized(graph, model, kept), inputs, step)


@pytest.mark.parametrize("name", ["residual3d", "depthwise", "dense"])
def test_a_forwards_peak_is_predicted_too_and_takes_no_gradients(name: str) -> None:
    model, inputs, _ = network(name)
    graph = ranp.trace(model, inputs)
    price = cost.compile(graph)
    peak = cost.Peak.of(graph, price, model, inputs, None)
    for kept in plans(graph, 3):
        slim = resized(graph, model, kept)
        assert int(peak(price.widths(kept))) == cost.inference_peak(slim, inputs) < cost.training_peak(slim, inputs)


def test_a_forwards_peak_is_what_a_person_adds_up() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 1, bias=False), nn.ReLU(), nn.Conv2d(4, 2, 1, bias=False))
    channel = 32 * 32 * 4  # bytes, whole blocks of 512
    # Two weights, a block each; the image; and at the most the first result beside what the ReLU makes of it.
    assert cost.inference_peak(net, torch.zeros(1, 1, 32, 32)) == 2 * 512 + channel + 2 * 4 * channel


@settings(max_examples=20)
@given(st.integers(0, 2**16))
def test_many_plans_at_once_are_priced_as_each_by_itself(seed: int) -> None:
    generator = np.random.default_rng(seed)
    shares = [generator.uniform(0, 0.9, len(DENSE.groups)) for _ in range(4)]
    widths = [PRICE.widths(grow(DENSE, random_plan(DENSE, each, generator), np.zeros(DENSE.count))) for each in shares]
    assert PEAK(np.stack(widths, axis=1)).tolist() == [int(PEAK(each)) for each in widths]
    for each in widths:
        moment = PEAK.at(each)
        value = sum(factor * np.prod(each[list(numbers)]) for numbers, factor in PEAK.terms(moment).items())
        assert value <= int(PEAK(each)) <= value + 512 * PEAK.moments[moment].sum()  # storages round up to blocks
        assert int(PEAK.scaled(2.0)(each)) == 2 * int(PEAK(each))


DENSE = ranp.trace(*small("dense"))
PRICE = cost.compile(DENSE)
PEAK = cost.Peak.of(DENSE, PRICE, *small("dense"), cost.Step())


class Moody(nn.Module):
    """Does more where it is narrow: what its step takes follows from no widths."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        return self.last(x if self.first.weight.shape[0] == 8 else x + x)


def test_a_network_that_does_something_else_when_narrow_is_refused_by_name() -> None:
    model, inputs = Moody(), torch.zeros(1, 1, 8, 8)
    plain = nn.Sequential()
    plain.first, plain.last = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 2, 3)
    graph = ranp.trace(plain, inputs)
    with pytest.raises(UnsupportedError, match="at other widths it makes other tensors than in the full network"):
        cost.Peak.of(graph, cost.compile(graph), model, inputs, None)
