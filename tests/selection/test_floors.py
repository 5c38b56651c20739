"""Least widths as floors: the best of each group stay, and the ranking goes on without them."""

from math import ceil
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_networks import small
from torch import nn

import ranp
from ranp.errors import UsageError
from ranp.graph.graph import Graph
from ranp.scores import Scores

RULES: list[dict[str, Any]] = [
    {"weighting": "none"},
    {"reweight": "flops"},
    {"rule": "layerwise"},
    {"rule": "isomorphic"},
    {"rule": "random"},
    {"rule": "snip"},
    {"rule": "uniform"},
    {"rule": "profile", "growth": 1.5},
    {"coupling": "sum"},
    {"coupling": "max"},
]


def drawn(graph: Graph, seed: int) -> Scores:
    generator = np.random.default_rng(seed)
    neurons = {layer.name: generator.random(len(layer.units)) ** 4 for layer in graph.layers}
    elements = {layer.name: generator.random(graph.shapes[layer.name]).astype(np.float32) for layer in graph.layers}
    return Scores("snip", "sum", 1, neurons, elements)


def chain(*widths: int) -> Graph:
    """A network of convolutions in a row; the last one's outputs stay."""
    layers = [nn.Conv2d(a, b, 3, padding=1) for a, b in zip((1, *widths), widths, strict=False)]
    return ranp.trace(nn.Sequential(*layers), torch.zeros(1, 1, 6, 6))


@pytest.mark.parametrize("least", [2, 3, "25%", "60%"])
@pytest.mark.parametrize("options", RULES, ids=lambda each: "-".join(map(str, each.values())))
@pytest.mark.parametrize("name", ["residual2d", "depthwise", "dense"])
def test_the_largest_sparsity_leaves_every_group_its_floor(name: str, options: dict, least: int | str) -> None:
    model, inputs = small(name)
    graph = ranp.trace(model, inputs)
    plan = ranp.select(graph, drawn(graph, 0), max_sparsity=True, min_width=least, **options)
    tied = {int(unit) for rows in graph.balance for unit in rows[rows >= 0].ravel()}
    for group, own, planned in zip(graph.groups, graph.least, plan.groups, strict=True):
        asked = least if isinstance(least, int) else ceil(int(least[:-1]) * len(group.units) / 100)
        floor = min(max(asked, own, int(graph.frozen[group.units].sum())), len(group.units))
        if tied.isdisjoint(group.units.tolist()):
            assert len(planned.kept) == floor
        else:
            assert len(planned.kept) >= floor
    assert plan.choice.min_width == least


@pytest.mark.parametrize("options", RULES, ids=lambda each: "-".join(map(str, each.values())))
def test_plans_at_all_sparsities_hold_the_floor_and_shrink(options: dict) -> None:
    model, inputs = small("residual2d")
    graph = ranp.trace(model, inputs)
    scores = drawn(graph, 1)
    largest = ranp.largest_sparsity(graph, scores, min_width=3, **options)
    kept = []
    for part in (0.0, 0.3, 0.6, 0.9, 1.0):
        plan = ranp.select(graph, scores, sparsity=largest * part, min_width=3, allow_less=True, **options)
        assert all(len(group.kept) >= min(3, group.width) for group in plan.groups)
        kept.append(plan.units().kept)
    assert kept == sorted(kept, reverse=True)
    assert kept[-1] < kept[0]


def test_a_weak_layer_does_not_end_the_sparsity_and_keeps_its_best() -> None:
    graph = chain(8, 8, 8, 2)
    neurons = {layer.name: np.arange(1.0, len(layer.units) + 1) for layer in graph.layers}
    weak = graph.layers[1].name
    neurons[weak] = neurons[weak] / 1000
    scores = Scores("l1", "sum", 0, neurons)
    published = ranp.largest_sparsity(graph, scores, weighting="none")
    assert int(26 * published) == 7  # all but one of the weak layer's, and nothing else
    plan = ranp.select(graph, scores, sparsity=0.6, min_width=2, weighting="none")
    by_name = {group.name: group.kept for group in plan.groups}
    assert by_name["1"] == (6, 7)
    assert plan.choice.achieved == (26 - int(26 * (1 - 0.6))) / 26
    # Two of each layer and both outputs stay; of the twelve others in equal layers the worst ten went.
    assert by_name["0"] == by_name["2"]


@given(st.integers(0, 2**16), st.integers(2, 5), st.floats(0.0, 0.6))
def test_exactly_what_is_asked_for_goes_where_layers_are_free(seed: int, least: int, sparsity: float) -> None:
    graph = CHAIN
    plan = ranp.select(graph, drawn(graph, seed), sparsity=sparsity, min_width=least, weighting="none")
    total = sum(len(layer.units) for layer in graph.layers)
    assert round(plan.choice.achieved * total) == total - int(total * (1 - sparsity))


CHAIN = chain(16, 24, 16, 3)


def test_one_is_the_published_meaning_and_the_default() -> None:
    scores = drawn(CHAIN, 3)
    plans = [ranp.select(CHAIN, scores, sparsity=0.4, **more) for more in ({}, {"min_width": 1}, {"min_width": "1"})]
    assert len({plan.to_json() for plan in plans}) == 1
    assert plans[0].choice.min_width == 1


@pytest.mark.parametrize("width", [0, -3, "0%", "101%", "ten", 2.5, "4 units", True])
def test_wrong_least_widths_are_one_line(width: Any) -> None:
    with pytest.raises(UsageError, match=r"min_width=.*expected a whole number of at least 1, or a share of every"):
        ranp.select(CHAIN, drawn(CHAIN, 0), sparsity=0.3, min_width=width)
