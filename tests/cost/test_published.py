"""Costs and resource factors of the published networks, against the figures to their four decimals."""

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ranp import cost, models
from ranp.graph.build import trace
from ranp.graph.graph import Graph, Mask
from ranp.selection._reweight import resource_factors, taus

FIGURES = Path(__file__).parents[1] / "published" / "ranp"
PUBLISHED = [(name, preset) for name in models.names() for preset in models.presets(name)]
ROWS = [(*each, row) for each in PUBLISHED for row in ("layerwise_np", "random_np") if each[0] != "psm"]
ROWS = [each for each in ROWS if each[1] != "shapenet-23"]  # of which only the full row is published


def figures(name: str, preset: str) -> dict[str, Any]:
    return json.loads((FIGURES / f"{name}.{preset}.json").read_text())


@functools.cache
def graph_of(name: str, preset: str) -> Graph:
    with torch.device("meta"):
        network = models.build(name, preset)
        inputs = tuple(torch.empty(shape) for shape in models.preset(name, preset).batched_shapes)
    return trace(network, inputs)


def keeping(graph: Graph, counts: list[int]) -> Mask:
    """The plan that keeps the first so many neurons of each layer."""
    kept = graph.frozen
    for layer, count in zip(graph.layers, counts, strict=True):
        kept[layer.units[:count][layer.units[:count] >= 0]] = True
    return kept


def figures_of(counted: cost.Costs) -> dict[str, float]:
    return {
        "params": counted.params,
        "param_mb": round(counted.params * 4 / 2**20, 4),
        "gflops": round(counted.flops / 1e9, 4),
        "memory_mb": round(counted.memory_bytes / 2**20, 4),
    }


@pytest.mark.parametrize(("name", "preset"), PUBLISHED)
def test_full_row(name: str, preset: str) -> None:
    graph, expected = graph_of(name, preset), figures(name, preset)
    counted = cost.compile(graph, "paper")
    everything = np.ones(graph.count, dtype=bool)
    assert figures_of(counted(everything)) == expected["full"]
    assert len(counted.layers(everything)) == expected["num_layers"]


@pytest.mark.parametrize(("name", "preset"), PUBLISHED)
def test_operations_of_each_kind_of_module(name: str, preset: str) -> None:
    graph = graph_of(name, preset)
    found: dict[str, list[int]] = {}
    kinds = {call.module: call.kind.__name__ for call in graph.runs["eval"].calls}
    for row in cost.compile(graph, "paper").modules(np.ones(graph.count, dtype=bool)):
        total = found.setdefault(kinds[row.name].replace("SamePool", "MaxPool3d(same)"), [0, 0])
        total[0] += row.flops
        total[1] += row.memory_bytes // 4
    expected = figures(name, preset)["breakdown_by_module"]
    assert found == {kind: [entry["ops"], entry["elems"]] for kind, entry in expected.items()}


@pytest.mark.parametrize(("name", "preset", "row"), ROWS)
def test_pruned_rows(name: str, preset: str, row: str) -> None:
    graph, expected = graph_of(name, preset), figures(name, preset)[row]
    counted = cost.compile(graph, "paper")(keeping(graph, expected["out_channels"]))
    assert figures_of(counted) == {key: expected[key] for key in figures_of(counted)}


@pytest.mark.parametrize(
    ("row", "channels", "result"),
    [
        ("layerwise_np", "out_channels_no_ties", "result_no_ties"),
        ("layerwise_np", "out_channels_with_one_tie_in_64_and_128_groups", "result_with_ties"),
        ("layerwise_np_deconv_out_properly_pruned", "out_channels", "result_true_flops_only"),
        ("random_np", "out_channels", "result"),
    ],
)
@pytest.mark.parametrize("published", [False, True])
def test_pruned_rows_of_psm(row: str, channels: str, result: str, published: bool) -> None:
    """With the switch, transposed convolutions count as the published pruned rows have them."""
    graph, entry = graph_of("psm", "sceneflow"), figures("psm", "sceneflow")[row]
    expected = entry[result]["all"]
    counted = cost.compile(graph, "paper", published_transposed=published)(keeping(graph, entry[channels]))
    assert figures_of(counted) == {
        **{key: expected[key] for key in ("params", "param_mb", "memory_mb")},
        "gflops": expected["gflops_as_published" if published else "gflops_true"],
    }


@pytest.mark.parametrize(("name", "preset"), [each for each in PUBLISHED if each[1] != "shapenet-23"])
def test_resource_factors(name: str, preset: str) -> None:
    graph, expected = graph_of(name, preset), figures(name, preset)
    for resource, key in (("flops", "ranp_f_factor"), ("memory", "ranp_m_factor")):
        found = resource_factors(taus(graph, resource), expected["lambda"])
        assert list(found) == [layer.name for layer in graph.layers]
        assert np.allclose(list(found.values()), [layer[key] for layer in expected["layers"]], rtol=0, atol=6e-7)
