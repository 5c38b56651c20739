"""Limits: all hold, thresholds are tight, solvers order themselves, and the exact one equals trying every plan."""

from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_networks import small

import ranp
from ranp import cost, models
from ranp.errors import InfeasibleError, UsageError
from ranp.graph.graph import Graph
from ranp.options import Selection
from ranp.scores import Scores
from ranp.selection._limits import Limits
from ranp.selection._ranked import ranked
from ranp.selection._solve import GAP, Search
from ranp.selection._space import Space

FIGURES = {"params": "params", "flops": "flops", "activations": "memory_bytes"}
NETWORKS = {name: ranp.trace(*small(name)) for name in ("residual2d", "depthwise", "dense")}
PAIRS = [*((name,) for name in FIGURES), *combinations(FIGURES, 2)]


def drawn(graph: Graph, seed: int) -> Scores:
    generator = np.random.default_rng(seed)
    neurons = {layer.name: generator.random(len(layer.units)) ** 3 for layer in graph.layers}
    elements = {layer.name: generator.random(graph.shapes[layer.name]).astype(np.float32) for layer in graph.layers}
    return Scores("snip", "sum", 1, neurons, elements)


def costs(graph: Graph, kept: np.ndarray) -> dict[str, int]:
    figures = cost.compile(graph)(kept).to_dict()
    return {name: figures[figure] for name, figure in FIGURES.items()}


def bounds(graph: Graph, names: tuple[str, ...], part: float, least: Any = 1) -> dict[str, str]:
    """Limits that lie a part of the way from the smallest network to the full one; bytes with their unit."""
    smallest = ranp.select(graph, drawn(graph, 0), rule="random", max_sparsity=True, min_width=max(least, 2))
    low, high = costs(graph, smallest.mask(graph)), costs(graph, np.ones(graph.count, dtype=bool))
    units = {"params": "", "flops": "", "activations": "B"}
    return {name: f"{int(low[name] + part * (high[name] - low[name]))}{units[name]}" for name in names}


RULES: list[dict[str, Any]] = [
    {},
    {"rule": "global"},
    {"weighting": "none"},
    {"reweight": "flops"},
    {"coupling": "sum"},
    {"rule": "layerwise"},
    {"rule": "isomorphic"},
    {"rule": "random"},
    {"rule": "snip"},
    {"rule": "uniform"},
    {"rule": "profile", "growth": 1.5},
    {"tie": "stage"},
    {"rule": "profile", "tie": "stage"},
    {"rule": "global", "align": 2},
]


@pytest.mark.parametrize("options", RULES, ids=lambda each: "-".join(map(str, each.values())) or "default")
@pytest.mark.parametrize("name", NETWORKS)
def test_limits_hold_for_every_rule_and_one_step_up_breaks_one(name: str, options: dict) -> None:
    graph = NETWORKS[name]
    for names in PAIRS:
        asked = bounds(graph, names, 0.4, 2)
        plan = ranp.select(graph, drawn(graph, 1), min_width=2, **asked, **options)
        own = costs(graph, plan.mask(graph))
        for limit in names:
            assert own[limit] <= plan.choice.bounds[limit]
            assert plan.choice.costs[limit] == own[limit]
        made = Selection.read({**options, **asked, "min_width": 2, "rule": plan.choice.rule})
        goal = ranked(graph, drawn(graph, 1), made, 0).spared()
        align = options.get("align", 1)
        sizes = [goal.at(step, align) for step in range(goal.ranking.steps + 1)]
        at = [step for step, kept in enumerate(sizes) if np.array_equal(kept, plan.mask(graph))]
        assert at
        above = costs(graph, sizes[min(max(at) + 1, goal.ranking.steps)])
        assert max(at) == goal.ranking.steps or any(above[limit] > plan.choice.bounds[limit] for limit in names)


SOLVED: list[dict[str, Any]] = [
    {"rule": "global"},
    {"reweight": "flops"},
    {"tie": "stage"},
    {"rule": "global", "align": 2},
    {"rule": "layerwise"},
]


@pytest.mark.parametrize("names", PAIRS, ids="-".join)
@pytest.mark.parametrize("name", NETWORKS)
def test_solvers_never_keep_less_than_simpler_ones(name: str, names: tuple[str, ...]) -> None:
    graph = NETWORKS[name]
    for seed, options in enumerate(SOLVED):
        asked = bounds(graph, names, 0.5, 2)
        found = {
            solver: ranp.select(graph, drawn(graph, seed), solver=solver, min_width=2, **asked, **options)
            for solver in ("threshold", "greedy", "exact")
        }
        for plan in found.values():
            own = costs(graph, plan.mask(graph))
            assert all(own[limit] <= plan.choice.bounds[limit] for limit in names)
            assert all(len(group.kept) >= min(2, group.width) for group in plan.groups)
        kept = [plan.choice.importance for plan in found.values()]
        assert kept == sorted(kept)
        assert found["exact"].choice.gap is not None
        assert found["threshold"].choice.gap is None


def best_of_all(search: Search) -> float:
    """The most that any choice keeps, having priced every one of them by its mask."""
    space, most = search.space, 0.0
    for choice in product(*(range(len(chain) + 1) for chain in space.steps)):
        kept = space.mask(np.array(choice))
        if search.limits.hold(kept):
            most = max(most, sum(float(v[taken]) for v, taken in zip(space.values, choice, strict=True)))
    return most


@settings(max_examples=25)
@given(st.integers(0, 2**16), st.sampled_from(PAIRS), st.floats(0.05, 0.95))
def test_exact_equals_trying_every_plan(seed: int, names: tuple[str, ...], part: float) -> None:
    graph = TINY
    asked = bounds(graph, names, part)
    goal = ranked(graph, drawn(graph, seed), Selection.read({**asked, "solver": "exact", "min_width": 1}), 0).spared()
    limits, smallest = Limits.of(graph, asked), goal.at(0)
    if not limits.hold(smallest):  # bounds() goes from widths of two
        return
    space = Space.of(graph, smallest, goal.values, [], 1, goal.buildable)
    search = Search(space, limits)
    best = best_of_all(search)
    greedy = search.greedy([])
    choice, gap = search.exact(greedy)
    assert limits.hold(space.mask(choice))
    assert search.value(choice) <= best * (1 + 1e-9)
    assert search.value(choice) >= best * (1 - GAP - 1e-9)
    assert gap <= GAP + 1e-9
    assert search.value(choice) >= search.value(greedy) >= 0


class Tiny(torch.nn.Module):
    """A residual branch, a concat, two resolutions: few enough plans to try them all."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(1, 4, 3, padding=1)
        self.inner = torch.nn.Conv2d(4, 5, 3, padding=1, stride=2)
        self.deep = torch.nn.Conv2d(5, 4, 3, padding=1)
        self.up = torch.nn.ConvTranspose2d(4, 3, 2, stride=2)
        self.head = torch.nn.Conv2d(7, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).relu()
        return self.head(torch.cat([x, self.up(self.deep(self.inner(x).relu()).relu())], dim=1))


TINY = ranp.trace(Tiny(), torch.zeros(1, 1, 8, 8))


def test_widths_add_up_to_what_masks_cost() -> None:
    for graph in [*NETWORKS.values(), TINY]:
        goal = ranked(graph, drawn(graph, 0), Selection.read({"flops": "100%", "min_width": 1}), 0).spared()
        limits = Limits.of(graph, {"params": "100%", "flops": "100%", "activations": "100%"})
        space = Space.of(graph, goal.at(0), goal.values, [], 1, goal.buildable)
        search, generator = Search(space, limits), np.random.default_rng(0)
        for _ in range(20):
            choice = generator.integers(0, search.top + 1)
            mask = space.mask(choice)
            assert limits.evaluator()(search.widths(choice)).tolist() == list(limits.costs(mask).values())
            assert np.array_equal(goal.buildable(mask), mask)
            assert space.inside(mask).tolist() == choice.tolist()


def test_the_default_floor_is_four_and_is_kept_in_the_plan() -> None:
    graph = ranp.trace(models.build("unet3d", base_width=8, depth=3), torch.empty(1, 1, 16, 16, 16, device="meta"))
    plan = ranp.select(graph, drawn(graph, 0), flops="30%", solver="exact")
    assert plan.choice.min_width == 4
    assert min(len(group.kept) for group in plan.groups if not group.frozen) == 4
    bare = ranp.select(graph, drawn(graph, 0), flops="30%", solver="exact", min_width=1)
    assert bare.choice.importance > plan.choice.importance
    assert ranp.Plan.from_json(plan.to_json()).choice == plan.choice


def test_the_impossible_names_the_least_and_what_stops_it() -> None:
    graph = NETWORKS["residual2d"]
    with pytest.raises(
        InfeasibleError, match=r"params='2%': the smallest network takes .* of which \S+ takes"
    ) as error:
        ranp.select(graph, drawn(graph, 0), params="2%", flops="50%")
    least = int(error.value.closest or 0)
    assert ranp.select(graph, drawn(graph, 0), params=least, flops="90%").choice.costs["params"] == least
    with pytest.raises(InfeasibleError):
        ranp.select(graph, drawn(graph, 0), params=least - 1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"flops": "-3G"}, r"flops='-3G': expected an amount such as 12M, 3\.5G"),
        ({"flops": "0"}, "flops='0': expected an amount"),
        ({"flops": "10MiB"}, "flops='10MiB': expected an amount"),
        ({"activations": "10M"}, r"activations='10M': expected an amount such as 200MiB"),
        ({"params": "120%"}, "params='120%': expected"),
        ({"params": 2.5}, r"params=2\.5: expected"),
        ({"flops": "10%", "sparsity": 0.5}, "give either sparsity= or max_sparsity=, or limits: params=, flops="),
        ({"sparsity": 0.5, "solver": "exact"}, "solver='exact': needs a limit"),
        ({"flops": "10%", "solver": "exact", "rule": "uniform"}, "finds widths, which rule='uniform' gives"),
        ({"flops": "10%", "solver": "best"}, "solver='best': expected threshold, greedy or exact"),
    ],
)
def test_mistakes_are_one_line(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        ranp.select(TINY, drawn(TINY, 0), **options)
