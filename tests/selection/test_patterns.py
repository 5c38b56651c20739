"""Rules that give widths: uniform narrowing, profiles over resolutions; equal layers ranked apart; tied stages."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from monai.networks.nets import UNet
from small_networks import small
from torch import Tensor, nn

import ranp
from ranp import models
from ranp.errors import UsageError
from ranp.graph.graph import Graph
from ranp.options import Selection
from ranp.scores import Scores
from ranp.selection._stages import levels


def unet(width: int = 8) -> tuple[nn.Module, Graph]:
    model = models.build("unet3d", base_width=width, depth=3)
    return model, ranp.trace(model, torch.empty(1, 1, 16, 16, 16, device="meta"))


@pytest.fixture(scope="module")
def scored() -> tuple[Graph, Scores]:
    torch.manual_seed(0)
    model, graph = unet()
    return graph, ranp.importance(model, graph, method="l1")


def widths(plan: ranp.Plan) -> dict[str, tuple[int, int]]:
    """Return the width before and after of each group that can lose any."""
    return {group.name: (group.width, len(group.kept)) for group in plan.groups if not group.frozen}


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"flops": "10%"}, "auto"),
        ({"params": "1M", "align": 8}, "auto"),
        ({"params": "1M", "growth": 1.5, "align": 8}, "profile"),
        ({"params": "1M", "tie": "stage"}, "global"),
        ({"sparsity": 0.5}, "global"),
        ({"max_sparsity": True}, "global"),
        ({"flops": "10%", "reweight": "flops"}, "global"),
        ({"flops": "10%", "weighting": "none"}, "global"),
        ({"flops": "10%", "coupling": "sum"}, "global"),
        ({"flops": "10%", "solver": "greedy"}, "global"),
        ({"flops": "10%", "published_transposed": True}, "global"),
        ({"flops": "10%", "rule": "uniform"}, "uniform"),
    ],
)
def test_a_limit_takes_widths_unless_a_ranking_is_asked_for(options: dict[str, Any], rule: str) -> None:
    asked = Selection.read(options)
    asked.check()
    assert asked.ruled().rule == rule
    assert asked.ruled(trained=True).rule == ("global" if rule == "auto" or "growth" in options else rule)


class Classes(nn.Module):
    """Reads classes off its coarsest maps, or lets their resolution rise by interpolation."""

    def __init__(self, dense: bool) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 16, 3, 2, 1), nn.Conv2d(16, 32, 3, 2, 1)
        self.head = nn.Conv2d(32, 3, 1)
        self.dense = dense

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(self.c(self.b(self.a(x).relu()).relu()).relu())
        return F.interpolate(x, scale_factor=4.0) if self.dense else x.mean((2, 3))


class HalfBack(nn.Module):
    """A decoder that comes back to half of the finest resolution."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 16, 3, 2, 1), nn.Conv2d(16, 32, 3, 2, 1))
        self.up = nn.Sequential(nn.ConvTranspose2d(32, 16, 2, 2), nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 3, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.up(self.down(x))  # type: ignore[no-any-return]


@pytest.mark.parametrize("model", [Classes(dense=False), Classes(dense=True), HalfBack()])
def test_widths_are_uniform_where_no_decoder_comes_back_to_the_finest_resolution(model: nn.Module) -> None:
    graph = ranp.trace(model, torch.empty(1, 1, 16, 16, device="meta"))
    scores = ranp.importance(model, graph, method="l1")
    plan = ranp.select(graph, scores, params="50%", min_width=1)
    assert plan.choice.rule == "uniform"
    assert widths(plan) == widths(ranp.select(graph, scores, params="50%", min_width=1, rule="uniform"))


@pytest.mark.parametrize("strided", [False, True])
def test_widths_are_flat_where_a_decoder_comes_back(scored: tuple[Graph, Scores], strided: bool) -> None:
    graph, scores = scored
    if strided:  # what makes the outputs alone works at full resolution, and has their width
        model = UNet(2, 1, 3, (8, 16, 32), (2, 2), num_res_units=1)
        graph = ranp.trace(model, torch.empty(1, 1, 16, 16, device="meta"))
        scores = ranp.importance(model, graph, method="l1")
    plan = ranp.select(graph, scores, flops="30%", rule="auto")
    assert plan.choice.rule == "profile"
    assert widths(plan) == widths(ranp.select(graph, scores, flops="30%", rule="profile"))


@pytest.mark.parametrize("sparsity", [0.2, 0.5, 0.8])
def test_uniform_narrows_every_group_by_one_factor(scored: tuple[Graph, Scores], sparsity: float) -> None:
    graph, scores = scored
    found = widths(ranp.select(graph, scores, sparsity=sparsity, rule="uniform"))
    # One factor rounds to every width: the ranges of factors that each group allows share a point.
    lowest = max((kept - 0.5) / width for width, kept in found.values())
    highest = min((kept + 0.5) / width for width, kept in found.values())
    assert lowest <= highest
    assert all(kept < width for width, kept in found.values())


@pytest.mark.parametrize("growth", [1.0, 1.5, 2.0])
def test_a_profile_has_one_width_for_each_resolution(scored: tuple[Graph, Scores], growth: float) -> None:
    graph, scores = scored
    plan = ranp.select(graph, scores, sparsity=0.7, rule="profile", growth=growth)
    level = dict(zip([group.name for group in graph.groups], levels(graph), strict=True))
    base = {kept / growth ** level[name] for name, (width, kept) in widths(plan).items() if kept < width}
    lowest = max((kept - 0.5) / growth ** level[name] for name, (_, kept) in widths(plan).items())
    highest = min((kept + 0.5) / growth ** level[name] for name, (w, kept) in widths(plan).items() if kept < w)
    assert lowest <= highest
    assert base
    if growth == 1:
        assert len(base) == 1
    for group, planned in zip(graph.groups, plan.groups, strict=True):  # the best of each group stay
        if not planned.frozen and len(group.layers) == 1 and graph.layers:
            values = scores.neurons[group.layers[0]]
            best = np.argsort(-values, kind="stable")[: len(planned.kept)]
            assert set(planned.kept) == set(best.tolist())


def test_levels_count_how_often_sides_were_halved(scored: tuple[Graph, Scores]) -> None:
    graph, _ = scored
    level = dict(zip([group.name for group in graph.groups], levels(graph), strict=True))
    assert {round(each, 3) for each in level.values()} == {0.0, 1.0, 2.0}
    strided = nn.Sequential(
        nn.Conv3d(1, 4, 3, padding=1), nn.Conv3d(4, 4, 3, stride=(1, 2, 2), padding=1),
        nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 3),
    )  # fmt: skip
    found = levels(ranp.trace(strided, torch.zeros(1, 1, 8, 8, 8)))
    assert found.tolist() == pytest.approx([0, 2 / 3, 2 / 3])


def test_isomorphic_ranks_equal_layers_together_and_no_others() -> None:
    layers = [nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 2, 1)]
    graph = ranp.trace(nn.Sequential(*layers), torch.zeros(1, 1, 12, 12))
    neurons = {layer.name: np.arange(1.0, len(layer.units) + 1) for layer in graph.layers}
    neurons["0.weight"] = neurons["0.weight"] * 1e6  # alone in its class
    neurons["2.weight"] = neurons["2.weight"] + 4  # against those of layer 1
    plan = ranp.select(graph, Scores("l1", "sum", 0, neurons), sparsity=0.5, rule="isomorphic")
    # Layers 1 and 2 keep the best eight of sixteen: 5 to 8 of the one, 9 to 12 and two of 5 to 8 of the other.
    assert widths(plan)["0"] == (8, 4)
    assert sum(kept for _, kept in (widths(plan)["1"], widths(plan)["2"])) == 8
    assert widths(plan)["2"][1] > widths(plan)["1"][1]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"rule": "layerwise"},
        {"rule": "random"},
        {"align": 4},
        {"min_width": 3},
        {"reweight": "flops", "min_width": 2},
    ],
)
def test_tied_stages_are_equally_wide(scored: tuple[Graph, Scores], options: dict[str, Any]) -> None:
    graph, scores = scored
    plan = ranp.select(graph, scores, sparsity=0.5, tie="stage", allow_less=True, **options)
    level = dict(zip([group.name for group in graph.groups], levels(graph), strict=True))
    by_level: dict[float, list[tuple[int, int]]] = {}
    for name, each in widths(plan).items():
        by_level.setdefault(level[name], []).append(each)
    for stage in by_level.values():
        target = max(kept for _, kept in stage)
        assert all(kept == min(width, target) for width, kept in stage)
    assert plan.choice.achieved > 0.3


@pytest.mark.parametrize("name", ["residual2d", "depthwise", "dense"])
@pytest.mark.parametrize(
    "options", [{"rule": "uniform"}, {"rule": "profile"}, {"rule": "isomorphic"}, {"tie": "stage"}]
)
def test_slim_networks_of_patterns_are_proved(name: str, options: dict[str, Any]) -> None:
    model, inputs = small(name)
    result = ranp.prune(model, inputs, method="l1", sparsity=0.4, allow_less=True, **options)
    assert result.report.verify.passed
    assert result.plan.choice.achieved > 0.1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"growth": 1.5}, "growth=1.5 is of rule='profile', not of rule='global'"),
        ({"rule": "profile", "growth": 2.5}, "growth=2.5: expected a number of at least 1 and up to 2"),
        ({"rule": "uniform", "reweight": "flops"}, "ranks all layers together; rule='uniform' does not"),
        ({"rule": "uniform", "published_transposed": True}, "rule='uniform' gives widths"),
        ({"tie": "level"}, "tie='level': expected stage"),
    ],
)
def test_mistakes_are_one_line(scored: tuple[Graph, Scores], options: dict[str, Any], words: str) -> None:
    graph, scores = scored
    with pytest.raises(UsageError, match=words):
        ranp.select(graph, scores, sparsity=0.3, **options)
