"""Limits of memory at its peak and of time: all hold, solvers order themselves, the exact one's bound holds."""

from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
import torch
from small_networks import small
from torch import nn

import ranp
from ranp import cost
from ranp.errors import InfeasibleError, UnsupportedError, UsageError
from ranp.graph.graph import Graph
from ranp.inputs import Inputs
from ranp.options import Selection
from ranp.scores import Scores
from ranp.selection._limits import Limits
from ranp.selection._ranked import ranked
from ranp.selection._solve import Search
from ranp.selection._space import Space

NAMES = ("params", "flops", "activations", "infer_memory", "train_memory")
METERED = [(name,) for name in NAMES[3:]] + [pair for pair in combinations(NAMES, 2) if {*pair} & {*NAMES[3:]}]


def by_width(model: nn.Module, inputs: Inputs) -> float:
    """Microseconds that a device would take which does eight channels at once."""
    return 1.0 + sum(-(-each.shape[0] // 8) * each[0].numel() ** 0.5 for each in model.parameters() if each.dim() > 1)


def priced(model: nn.Module, inputs: torch.Tensor) -> tuple[Graph, cost.CostFunction]:
    graph = ranp.trace(model, inputs)
    price = cost.compile(graph)
    price.meters["infer_memory"] = cost.Peak.of(graph, price, model, inputs, None)
    price.meters["train_memory"] = cost.Peak.of(graph, price, model, inputs, cost.Step())
    price.meters["latency"] = cost.LatencyTable.measured(graph, price, model, inputs, by_width)
    return graph, price


class Tiny(nn.Module):
    """A concat and two resolutions, with maps much larger than blocks of memory; few enough plans to try them all."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.inner = nn.Conv2d(4, 5, 3, padding=1, stride=2)
        self.up = nn.ConvTranspose2d(5, 3, 2, stride=2)
        self.head = nn.Conv2d(7, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).relu()
        return self.head(torch.cat([x, self.up(self.inner(x).relu())], dim=1))


NETWORKS = {
    "tiny": priced(Tiny(), torch.zeros(1, 1, 64, 64)),
    **{name: priced(*small(name)) for name in ("residual2d", "dense")},
}


def drawn(graph: Graph, seed: int) -> Scores:
    generator = np.random.default_rng(seed)
    neurons = {layer.name: generator.random(len(layer.units)) ** 3 for layer in graph.layers}
    return Scores("snip", "sum", 1, neurons, {})


def asked(graph: Graph, price: cost.CostFunction, names: tuple[str, ...], part: float) -> dict[str, str]:
    """Limits that lie a part of the way from the smallest network to the full one."""
    goal = ranked(graph, drawn(graph, 0), Selection.read({"flops": "100%", "min_width": 1}), 0).spared()
    whole = Limits.of(graph, dict.fromkeys(names, "100%"), price)
    low, high = whole.costs(goal.at(0)), whole.full
    units = {"params": "", "flops": "", "latency": "us"}
    return {name: f"{int(low[name] + part * (high[name] - low[name]))}{units.get(name, 'B')}" for name in names}


@pytest.mark.parametrize("names", METERED, ids="-".join)
@pytest.mark.parametrize("network", ["tiny", "dense"])
def test_solvers_never_keep_less_than_simpler_ones(network: str, names: tuple[str, ...]) -> None:
    graph, price = NETWORKS[network]
    limits = asked(graph, price, names, 0.5)
    found = {
        solver: ranp.select(graph, drawn(graph, 1), solver=solver, min_width=1, price=price, **limits)
        for solver in ("threshold", "greedy", "exact")
    }
    within = Limits.of(graph, limits, price)
    for plan in found.values():
        assert within.hold(plan.mask(graph))
        assert plan.choice.costs == within.costs(plan.mask(graph))
    kept = [plan.choice.importance for plan in found.values()]
    assert kept == sorted(kept)
    assert 0 <= found["exact"].choice.gap <= 1


@pytest.mark.parametrize("names", METERED, ids="-".join)
@pytest.mark.parametrize("part", [0.25, 0.6])
def test_the_exact_solvers_bound_holds_for_every_plan(names: tuple[str, ...], part: float) -> None:
    graph, price = NETWORKS["tiny"]
    limits = Limits.of(graph, asked(graph, price, names, part), price)
    options = Selection.read({**limits.asked, "min_width": 1})
    goal = ranked(graph, drawn(graph, 2), options, 0).spared()
    space = Space.of(graph, goal.at(0), goal.values, [], 1, goal.buildable)
    search, best = Search(space, limits), 0.0
    for choice in product(*(range(len(chain) + 1) for chain in space.steps)):
        if limits.hold(space.mask(np.array(choice))):
            best = max(best, search.value(np.array(choice)))
    choice, gap = search.exact(search.greedy([]))
    assert limits.hold(space.mask(choice))
    assert search.value(choice) <= best * (1 + 1e-9)
    assert search.value(choice) >= best * (1 - gap - 1e-9)
    assert search.value(choice) >= 0.98 * best


@pytest.mark.parametrize("solver", ["threshold", "greedy"])
def test_a_time_that_goes_in_steps_is_a_limit(solver: str) -> None:
    graph, price = NETWORKS["dense"]
    limits = asked(graph, price, ("latency", "params"), 0.5)
    plan = ranp.select(graph, drawn(graph, 1), solver=solver, min_width=1, price=price, **limits)
    assert Limits.of(graph, limits, price).hold(plan.mask(graph))
    assert 0 < plan.choice.costs["latency"] <= plan.choice.bounds["latency"]


def test_layers_that_take_little_time_are_favoured() -> None:
    graph, price = NETWORKS["residual2d"]
    plan = ranp.select(graph, drawn(graph, 1), sparsity=0.3, reweight="latency", price=price)
    times = price.meters["latency"].layers  # type: ignore[attr-defined]
    factors = {name: plan.stages["reweighted"][name]["max"] / plan.stages["weighted"][name]["max"] for name in times}
    assert sorted(times, key=times.__getitem__) == sorted(times, key=factors.__getitem__, reverse=True)
    with pytest.raises(UsageError, match="reweight='latency': needs measured times of layers"):
        ranp.select(graph, drawn(graph, 1), sparsity=0.3, reweight="latency")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"latency": "1us"}, InfeasibleError, r"latency='1us': the smallest network takes .* ms, of which \S+ takes"),
        ({"train_memory": "1KiB"}, InfeasibleError, r"of which .* takes .* when it is most, in the \S+; the smallest"),
        ({"infer_memory": "50%", "params": "1"}, InfeasibleError, "params='1': the smallest network takes"),
        ({"latency": "90%", "solver": "exact"}, UnsupportedError, "latency='90%' is measured, and no product of"),
        ({"latency": "5"}, UsageError, "latency='5': expected an amount such as 5ms, 1.5s"),
        ({"latency": "-5ms"}, UsageError, "latency='-5ms': expected an amount"),
        ({"train_memory": "5M"}, UsageError, "train_memory='5M': expected an amount such as 200MiB"),
        (
            {"infer_memory": "50%", "sparsity": 0.5},
            UsageError,
            "or limits: .*train_memory= and latency=",
        ),
    ],
)
def test_the_impossible_and_mistakes_are_one_line(options: dict[str, Any], error: type, words: str) -> None:
    graph, price = NETWORKS["residual2d"]
    with pytest.raises(error, match=words) as told:
        ranp.select(graph, drawn(graph, 0), price=price, **options)
    assert "\n" not in str(told.value)


def test_the_least_that_can_be_reached_is_reached() -> None:
    graph, price = NETWORKS["residual2d"]
    with pytest.raises(InfeasibleError) as told:
        ranp.select(graph, drawn(graph, 0), price=price, train_memory="1KiB")
    least = int(told.value.closest or 0)
    plan = ranp.select(graph, drawn(graph, 0), price=price, train_memory=f"{least}B")
    assert plan.choice.costs["train_memory"] == least


def test_a_limit_without_its_meter_is_named() -> None:
    graph, _ = NETWORKS["residual2d"]
    with pytest.raises(UsageError, match="train_memory='50%': is no function of the graph alone"):
        ranp.select(graph, drawn(graph, 0), train_memory="50%")
