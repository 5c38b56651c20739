"""What must hold of a network under any plan: it slims, it runs, it equals the masked one, it trains."""

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._pytree import tree_map_only

from ranp.graph.constraints import random_plan
from ranp.graph.graph import Graph, Mask
from ranp.graph.resize import resized
from ranp.inputs import flatten
from ranp.modules import tensors_of
from ranp.surgery._draws import Draws, drawn_alike
from ranp.surgery._float64 import Doubles
from ranp.surgery._masked import KeptStatistics, masked

BOUND = 1e-9


def randomise(net: nn.Module, seed: int = 0) -> nn.Module:
    """Draw every floating-point tensor anew, running variances positive; statistics do not cancel by chance."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in tensors_of(net).items():
            if not tensor.is_floating_point():
                continue
            if "running_var" in name:
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
            elif tensor.ndim > 1:
                fan = max(tensor[0].numel(), 1)
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * fan**-0.5)
            else:  # means near zero: shifted ones would leave nothing of a ReLU's features
                shift = 1 if "weight" in name else 0
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.3 + shift)
    return net


def call(net: nn.Module, inputs: Any) -> list[torch.Tensor]:
    """Run a network, the same random draws in every run, and return the tensors among its outputs."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        out = net(**inputs) if isinstance(inputs, dict) else net(*inputs)
    return flatten(out, spend=True)


def compared(graph: Graph, net: nn.Module, inputs: Any, kept: Mask) -> tuple[nn.Module, float, list[str]]:
    """Return the slim network, its largest difference from the masked one, and what could not be compared.

    The difference is relative to the largest output, infinite where one is no number; the network is in float64 and in
    evaluation mode.
    """
    slim, zeroed = resized(graph, net, kept), masked(graph, net, kept)
    mode = KeptStatistics(graph, kept, zeroed)

    def of_zeroed(draws: Draws) -> list[torch.Tensor]:
        with KeptStatistics(graph, kept, zeroed), Doubles(), draws:
            return call(zeroed, inputs)

    def of_slim(draws: Draws) -> list[torch.Tensor]:
        with Doubles(), draws:
            return call(slim, inputs)

    with torch.no_grad():
        expected, got = drawn_alike(of_zeroed, of_slim)
    assert len(expected) == len(got)
    worst = 0.0
    for left, right in zip(expected, got, strict=True):
        assert left.shape == right.shape
        worst = max(worst, distance(left, right))
    return slim, worst, mode.uncompared


def tells(full: list[torch.Tensor], slim: nn.Module, inputs: Any) -> bool:
    """Whether what a plan removes can be seen in the outputs, so that comparing them says something."""
    with torch.no_grad(), Doubles():
        return any(distance(*pair) > 1e-6 for pair in zip(full, call(slim, inputs), strict=True))


def distance(left: torch.Tensor, right: torch.Tensor) -> float:
    """Return the largest difference over the largest value, infinite where one is no number or their shapes differ."""
    if left.shape != right.shape:  # boxes that were found
        return float("inf")
    if not left.is_floating_point() or not left.numel():
        return 0.0
    found = float((left - right).abs().max() / left.abs().max().clamp_min(1e-30))
    return found if found == found else float("inf")


def train_one_step(slim: nn.Module, inputs: Any) -> None:
    """Take one step of SGD in training mode; every parameter keeps its shape and stays finite."""
    slim.train()
    optimiser = torch.optim.SGD([p for p in slim.parameters() if p.requires_grad], lr=1e-3)
    loss = sum(out.square().mean() for out in call(slim, inputs) if out.requires_grad)
    assert isinstance(loss, torch.Tensor)
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    assert all(p.isfinite().all() for p in slim.parameters())


def check(graph: Graph, net: nn.Module, inputs: Any, removed: float, seed: int, *, trains: bool = True) -> None:
    """Hold a network in float64 and evaluation mode to everything under one random plan."""
    check_plans(graph, net, inputs, [(removed, seed)], trains=trains)


def check_plans(
    graph: Graph,
    net: nn.Module,
    inputs: Any,
    plans: list[tuple[float, int]],
    *,
    compares: bool = True,
    trains: bool = True,
) -> None:
    """Hold a network in float64 and evaluation mode to everything under random plans: (share removed, seed) of each.

    The slim network of the last plan is trained.
    """
    with torch.no_grad(), Doubles():
        full = call(net, inputs)
    slim = net
    for removed, seed in plans:
        kept = random_plan(graph, removed, np.random.default_rng(seed))
        slim, worst, uncompared = compared(graph, net, inputs, kept)
        assert not uncompared or not compares, uncompared
        assert worst < BOUND or uncompared, worst
        assert kept.all() or tells(full, slim, inputs), "nothing is seen of what was removed"
    if trains:
        train_one_step(slim, inputs)


def over_frozen(graph: Graph) -> tuple[float, set[str]]:
    """Return the share of the layers' units that are frozen though no network output, and the reasons."""
    made = {unit for layer in graph.layers for unit in layer.units[layer.units >= 0].tolist()}
    reasons = [graph.reasons[unit] for unit in made]
    over = [reason for reason in reasons if reason is not None and reason != "network output"]
    return len(over) / max(len(made), 1), set(over)


def double(inputs: Any) -> Any:
    """Return inputs in float64."""
    return tree_map_only(torch.Tensor, lambda t: t.double() if t.is_floating_point() else t, inputs)
