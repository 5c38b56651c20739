"""Pruned networks with these pools equal the masked ones, train, and export: parameters per channel follow theirs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from graph_zoo.checking import check, check_plans, over_frozen, randomise
from torch import Tensor, nn

import ranp
from ranp import cost, export, runs
from ranp.adapters.pooling import DPP, GatedPool, LpPool, PPool, swap_pooling
from ranp.graph.constraints import random_plan
from ranp.graph.resize import resized
from ranp.models.init import initialise_

CONVOLUTIONS: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
UNPOOL: dict[int, Any] = {1: nn.MaxUnpool1d, 2: nn.MaxUnpool2d, 3: nn.MaxUnpool3d}
SIZES = {1: (16,), 2: (8, 12), 3: (4, 8, 8)}
Build = Callable[..., nn.Module]

POOLS: dict[str, Build] = {
    "p fixed": lambda channels, *a, **k: PPool(*a, alpha=3, **k),
    "p layer": lambda channels, *a, **k: PPool(*a, mode="layer", **k),
    "p channel": lambda channels, *a, **k: PPool(*a, mode="channel", channels=channels, **k),
    "p predicted": lambda channels, *a, **k: PPool(*a, mode="predicted", channels=channels, **k),
    "lp channel": lambda channels, *a, **k: LpPool(*a, mode="channel", channels=channels, mean=True, **k),
    "dpp lite": lambda channels, *a, **k: DPP(*a, channels=channels, **k),
    "dpp full": lambda channels, *a, **k: DPP(*a, channels=channels, form="full", symmetric=True, **k),
    "gated channel": lambda channels, *a, **k: GatedPool(*a, channels=channels, **k),
    "gated layer": lambda channels, *a, **k: GatedPool(*a, **k),
}


def block(dims: int, inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(CONVOLUTIONS[dims](inputs, outputs, 3, padding=1), nn.ReLU())


class Joined(nn.Module):
    """A pool in a chain, then two pools of one map that meet in a sum and a concatenation."""

    def __init__(self, pool: Build, dims: int) -> None:
        super().__init__()
        self.a, self.b, self.c = block(dims, 3, 10), block(dims, 10, 8), block(dims, 8, 8)
        self.first = pool(10, 3, 2, 1, dims=dims)
        self.left, self.right = pool(8, 2, dims=dims), pool(8, 2, dims=dims, ceil_mode=True)
        self.head = CONVOLUTIONS[dims](16, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.b(self.first(self.a(x)))
        left, right = self.left(x), self.right(self.c(x))
        return self.head(torch.cat([left + right, left], 1))


class Unpooled(nn.Module):
    """A SegNet of one stage: what is pooled goes back to the places of the maxima."""

    def __init__(self, pool: Build, dims: int) -> None:
        super().__init__()
        self.a, self.b, self.c = block(dims, 3, 10), block(dims, 10, 10), block(dims, 10, 6)
        self.pool, self.unpool = pool(10, 2, dims=dims, return_indices=True), UNPOOL[dims](2)
        self.head = CONVOLUTIONS[dims](6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        full = self.a(x)
        x, places = self.pool(full)
        return self.head(self.c(self.unpool(self.b(x), places, output_size=full.shape[2:])))


def spread_exponents(net: nn.Module) -> nn.Module:
    """Give every channel an exponent of its own, so that a wrong pairing is seen."""
    for name, parameter in net.named_parameters():
        if name.endswith((".exponent", "alpha.bias", "alpha.factors")):
            with torch.no_grad():
                parameter.copy_(torch.linspace(1, 9, parameter.numel()).reshape(parameter.shape))
    return net


def drawn(dims: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn((2, 3, *SIZES[dims]), generator=generator, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("network", [Joined, Unpooled])
@pytest.mark.parametrize("kind", POOLS)
def test_slim_equals_masked_under_random_plans(kind: str, network: Build, dims: int) -> None:
    net = network(POOLS[kind], dims).eval()
    graph = ranp.trace(net, drawn(dims, torch.float32))
    assert over_frozen(graph) == (0, set())
    assert {group.name for group in graph.groups} <= {"read by a.0", "a.0", "b.0", "c.0", "head"}
    assert {layer.kind for layer in graph.layers} == {"conv"}  # filters of a pool are not ranked beside neurons
    net = spread_exponents(randomise(net.double()))
    check_plans(graph, net, (drawn(dims),), [(0.3, 1), (0.99, 3), (0.7, 2)])


@pytest.mark.parametrize("kind", [kind for kind in POOLS if kind not in ("p fixed", "p layer", "gated layer")])
def test_every_parameter_of_a_channel_goes_with_it(kind: str) -> None:
    net = spread_exponents(randomise(Joined(POOLS[kind], 2)))
    graph = ranp.trace(net, drawn(2, torch.float32))
    kept = random_plan(graph, 0.6, np.random.default_rng(0))
    slim = resized(graph, net, kept)
    pool, slim_pool = net.first, slim.first
    stays = [i for i, weight in enumerate(net.a[0].weight) if any(torch.equal(weight, w) for w in slim.a[0].weight)]
    assert 0 < len(stays) < 10
    assert slim_pool.channels == len(stays)
    before = dict(pool.named_parameters())
    assert before
    for name, parameter in slim_pool.named_parameters():
        assert torch.equal(parameter, before[name][stays]), name
    assert f"channels={len(stays)}" in repr(slim_pool)


def test_a_pool_and_its_operator_are_one_op_of_the_record_with_the_cost_of_a_pool() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 1), PPool(2, negative="trust"), nn.Conv2d(4, 2, 1))
    graph = ranp.trace(net, torch.zeros(1, 1, 8, 8))
    names = [record.op for record in graph.runs["eval"].records]
    assert names.count("ranp::p_pool2d") == 1
    maximum = nn.Sequential(nn.Conv2d(1, 4, 1), nn.MaxPool2d(2), nn.Conv2d(4, 2, 1))
    graphs = [ranp.trace(each, torch.zeros(1, 1, 8, 8)) for each in (net, maximum)]
    ours, theirs = (cost.compile(each)(np.ones(each.count, dtype=bool)).to_dict() for each in graphs)
    assert ours == theirs


@pytest.mark.parametrize("kind", POOLS)
def test_scores_by_gradients_and_memory_without_data_go_through(kind: str) -> None:
    net, x = randomise(Joined(POOLS[kind], 2)), drawn(2, torch.float32)
    graph = ranp.trace(net, x)
    scores = ranp.importance(net, graph, [(x, torch.zeros(2, 2, 3, dtype=torch.long))], nn.functional.cross_entropy)
    assert all(np.isfinite(each).all() and each.sum() > 0 for each in scores.neurons.values())
    slim = ranp.slim(net, ranp.select(graph, scores, sparsity=0.2))
    assert cost.peak_training_memory(slim, x).peak < cost.peak_training_memory(net, x).peak


class Halved(nn.Module):
    """A parametrization: the filters are computed from a parameter."""

    def forward(self, filters: Tensor) -> Tensor:
        return filters / 2


def test_filters_that_are_computed_follow_their_channels_too() -> None:
    net = Joined(POOLS["gated channel"], 2)
    nn.utils.parametrize.register_parametrization(net.first, "omega", Halved())
    graph = ranp.trace(net, drawn(2, torch.float32))
    assert over_frozen(graph) == (0, set())
    check(graph, randomise(net.double().eval()), (drawn(2),), 0.5, 1)


def test_an_alpha_near_70_has_no_part_in_magnitude_scores() -> None:
    nets = [Joined(POOLS["p predicted"], 2) for _ in range(2)]
    initialise_(nets[0], "glorot", torch.Generator().manual_seed(0))
    nets[1].load_state_dict(nets[0].state_dict())
    with torch.no_grad():
        nets[1].first.alpha.bias.copy_(torch.linspace(2, 100, 10))
    x = drawn(2, torch.float32)
    found = [ranp.importance(net, ranp.trace(net, x), None, None, method="l1") for net in nets]
    assert {"a.0.weight", "b.0.weight"} <= set(found[0].neurons)
    assert all(np.array_equal(score, found[1].neurons[name]) for name, score in found[0].neurons.items())


class Small(nn.Module):
    """One pool between two convolutions."""

    def __init__(self, pool: Build, dims: int, *geometry: Any) -> None:
        super().__init__()
        self.a, self.pool, self.head = block(dims, 3, 8), pool(8, *geometry, dims=dims), CONVOLUTIONS[dims](8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.a(x)))


@pytest.mark.parametrize(
    ("kind", "network", "dims"),
    [
        *((kind, lambda pool, dims: Small(pool, dims, 2, 2, 1), 2) for kind in POOLS),
        ("p predicted", lambda pool, dims: Small(pool, dims, 3, 2, 1), 1),
        ("p channel", lambda pool, dims: Small(pool, dims, 2), 3),
        ("p channel", Unpooled, 2),
        ("p layer", Joined, 2),
    ],
)
def test_slim_networks_agree_with_onnxruntime(tmp_path: Path, kind: str, network: Build, dims: int) -> None:
    pytest.importorskip("onnxruntime")
    net = network(POOLS[kind], dims)
    found = export.export_run(saved(tmp_path / "run", net, drawn(dims, torch.float32)), model=net)
    assert found["onnx"]["passed"]


@pytest.mark.parametrize("kind", ["p predicted", "dpp lite"])
def test_captured_programs_need_nothing_of_this_package(tmp_path: Path, kind: str) -> None:
    net = Small(POOLS[kind], 2, 2)
    run = saved(tmp_path / "run", net, drawn(2, torch.float32))
    found = export.export_run(run, model=net, torch_export=tmp_path / "a.pt2")
    assert found["torch_export"]["passed"]
    program = torch.export.load(tmp_path / "a.pt2")
    assert not any(str(node.target).startswith("ranp") for node in program.graph.nodes)


@pytest.mark.parametrize("kind", ["p predicted", "lp channel", "dpp lite"])
def test_sizes_are_free_in_an_exported_file(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("onnxruntime")
    net = Small(POOLS[kind], 2, 2, 2, 1)
    found = export.export_run(saved(tmp_path / "run", net, drawn(2, torch.float32)), model=net, dynamic=True)["onnx"]
    assert found["passed"]
    assert set(found["sizes"]) == {"batch", "height", "width"}
    assert len(found["parity"]) > 3


def saved(path: Path, net: nn.Module, inputs: Tensor) -> runs.Run:
    initialise_(net, "glorot", torch.Generator().manual_seed(0))
    graph = ranp.trace(net, inputs)
    plan = ranp.select(graph, None, rule="random", sparsity=0.3)
    runs.save(path, ranp.slim(net, plan), plan, {}, {})
    return runs.read(path)


@pytest.mark.parametrize("kind", ["p", "gated", "lp"])
def test_segnet_with_other_pools_prunes_as_before(kind: str) -> None:
    net = ranp.models.build("segnet", width=4, classes=3)
    settings = {} if kind == "gated" else {"mode": "layer"}
    swapped = swap_pooling(net, kind, **settings)
    x = torch.rand((1, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    before, after = ranp.trace(net, x), ranp.trace(swapped, x)
    assert [(group.name, len(group.units)) for group in after.groups] == [
        (group.name, len(group.units)) for group in before.groups
    ]
    check(after, randomise(swapped.eval().double()), (x.double(),), 0.5, 1, trains=False)
