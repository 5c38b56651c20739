"""The largest feasible sparsity, compared with trying every rank: rank, couple by hand, count what each group keeps."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from small_networks import small
from torch import Tensor, nn

import ranp
from ranp.errors import InfeasibleError
from ranp.graph.graph import Graph
from ranp.scores import Scores

Kept = dict[str, np.ndarray]


class Grouped(nn.Module):
    """A residual branch through a grouped convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 8, 3, padding=1)
        self.grouped = nn.Conv2d(8, 12, 3, padding=1, groups=4)
        self.last = nn.Conv2d(12, 8, 1)
        self.head = nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu()
        return self.head((x + self.last(self.grouped(x).relu())).relu())


class PartlyAnOutput(nn.Module):
    """Two of six channels of one layer leave the network, so that its group is frozen in part."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 6, 3, padding=1)
        self.second = nn.Conv2d(6, 5, 1)
        self.head = nn.Conv2d(5, 3, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.first(x).relu()
        return self.head(self.second(x).relu()), x[:, :2]


class Shuffled(nn.Module):
    """Units of four neurons each (pixel shuffle), and a linear layer on flattened maps."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 12, 3, padding=1)
        self.second = nn.Conv2d(3, 4, 1)
        self.head = nn.Linear(4 * 64, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.pixel_shuffle(self.first(x), 2).relu()
        return self.head(self.second(x).relu().flatten(1))


def network(name: str) -> tuple[nn.Module, Tensor]:
    own = {"grouped": Grouped, "partly": PartlyAnOutput, "shuffled": Shuffled}
    return (own[name](), torch.zeros(1, 2, 4, 4)) if name in own else small(name)


def widths(graph: Graph, kept: Kept) -> list[int]:
    """Couple as the paper does: a group keeps the largest count among its layers, or what is frozen."""
    found = []
    for group in graph.groups:
        members = set(group.units.tolist())
        counts: dict[bool, list[int]] = {True: [], False: []}
        for layer in graph.layers:
            places = [i for i, unit in enumerate(layer.units.tolist()) if unit in members]
            if places:
                each = math.ceil(len(places) / len({int(layer.units[i]) for i in places}))
                counts[layer.kind == "depthwise"].append(math.ceil(sum(kept[layer.name][i] for i in places) / each))
        frozen = int(graph.frozen[group.units].sum())
        found.append(max([frozen, *(counts[False] or counts[True] or [len(members)])]))
    return found


def unit_widths(graph: Graph, values: Kept, combine: str) -> Iterator[tuple[int, list[int]]]:
    """Rank units by the sum, mean or maximum of their neurons, and yield each rank with what groups keep."""
    members: dict[int, list[float]] = {}
    for layer in graph.layers:
        for unit, value in zip(layer.units.tolist(), values[layer.name], strict=True):
            if unit >= 0:
                members.setdefault(unit, []).append(value)
    join = {"sum": sum, "mean": lambda each: sum(each) / len(each), "max": max}[combine]
    ranked = {unit: join(each) for unit, each in members.items()}  # type: ignore[operator]
    order = sorted(ranked.values(), reverse=True)
    for rank, threshold in enumerate(order, start=1):
        kept = {unit for unit in range(graph.count) if ranked.get(unit, math.inf) >= threshold or graph.frozen[unit]}
        yield rank, [len(kept & set(group.units.tolist())) for group in graph.groups]


def neuron_widths(graph: Graph, values: Kept, pool: np.ndarray) -> Iterator[tuple[int, list[int]]]:
    for rank, threshold in enumerate(np.sort(pool)[::-1], start=1):
        yield rank, widths(graph, {name: each >= threshold for name, each in values.items()})


def random_widths(graph: Graph, seed: int) -> Iterator[tuple[int, list[int]]]:
    sizes = [len(layer.units) for layer in graph.layers]
    count = sum(sizes)
    for rank in range(1, count + 1):
        stays = np.ones(count, dtype=bool)
        stays[np.random.RandomState(seed).choice(np.arange(count), count - rank, replace=False)] = False
        parts = np.split(stays, np.cumsum(sizes)[:-1])
        yield rank, widths(graph, {layer.name: part for layer, part in zip(graph.layers, parts, strict=True)})


def lowest_rank(graph: Graph, tried: Iterator[tuple[int, list[int]]], least: int) -> int:
    """Return the lowest rank at which no group that can lose any is too narrow, having tried every one."""
    needed = [max(least, own) for own in graph.least]
    needed = [need if need < len(group.units) else 0 for need, group in zip(needed, graph.groups, strict=True)]
    lives = {rank: all(w >= n for w, n in zip(each, needed, strict=True)) for rank, each in tried}
    lowest = min(rank for rank, alive in lives.items() if alive)
    assert all(alive for rank, alive in lives.items() if rank >= lowest)
    return lowest


RULES = ["global", "sum", "mean", "max", "snip", "random"]


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", ["residual2d", "depthwise", "dense", "grouped", "partly", "shuffled"])
def test_maximum_equals_brute_force_with_coupling(name: str, rule: str, seed: int) -> None:
    model, inputs = network(name)
    graph = ranp.trace(model, inputs)
    generator, least = np.random.default_rng(seed), 1  # from 2 on least widths are floors: test_floors
    for draw in (lambda n: generator.random(n) ** 4, lambda n: generator.random(n)):  # equal ones: test_ties
        neurons = {layer.name: draw(len(layer.units)) for layer in graph.layers}
        elements = {layer.name: draw(graph.shapes[layer.name]).astype(np.float32) for layer in graph.layers}
        scores = Scores("snip", "sum", 1, neurons, elements)
        options: dict = {"min_width": least, "weighting": "none"}
        if rule in ("snip", "random"):
            options["rule"] = rule
        elif rule != "global":
            options["coupling"] = rule
        pool = np.concatenate([each.ravel() for each in (elements if rule == "snip" else neurons).values()])
        if rule == "random":
            tried = random_widths(graph, 0)
        elif rule in ("global", "snip"):
            tried = neuron_widths(graph, scores.largest_elements(graph) if rule == "snip" else neurons, pool)
        else:
            tried = unit_widths(graph, neurons, rule)
        count = len(pool) if rule in ("global", "snip", "random") else len(made(graph))
        lowest = lowest_rank(graph, tried, least)
        plan = ranp.select(graph, scores, max_sparsity=True, **options)
        nominal, largest = plan.choice.sparsity, plan.choice.maximum
        assert (count - int(count * nominal) if rule == "random" else int(count * (1 - nominal))) == lowest
        assert all(len(group.kept) >= min(least, group.width) for group in plan.groups)
        assert largest <= nominal
        assert ranp.select(graph, scores, sparsity=largest, **options).choice.maximum == largest
        if lowest > 1:
            with pytest.raises(InfeasibleError) as error:
                ranp.select(graph, scores, sparsity=min(1 - (lowest - 1) / count + 1e-9, 1 - 1e-9), **options)
            assert error.value.closest == largest


def made(graph: Graph) -> set[int]:
    return {unit for layer in graph.layers for unit in layer.units.tolist() if unit >= 0}
