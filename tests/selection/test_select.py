"""select(): the published counts, the exact maximum, and every option's mistakes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ranp
from ranp import cost, models
from ranp.errors import InfeasibleError, UsageError
from ranp.graph.graph import Graph
from ranp.scores import Scores

FIGURES = Path(__file__).parents[1] / "published" / "ranp"
NETWORKS = ["unet3d.shapenet-15", "unet3d.brats-15", "mobilenetv2-3d.ucf101", "i3d.ucf101", "psm.sceneflow"]


@pytest.fixture(scope="module", params=NETWORKS)
def published(request: pytest.FixtureRequest) -> tuple[Graph, Scores, dict]:
    name, _, preset = request.param.partition(".")
    shapes = models.preset(name, preset).batched_shapes
    model = models.build(name, preset=preset)
    graph = ranp.trace(model, tuple(torch.empty(shape, device="meta") for shape in shapes))
    figures = json.loads((FIGURES / f"{request.param}.json").read_text())
    return graph, ranp.importance(model, graph, method="l1"), figures


def widths(graph: Graph, plan: ranp.Plan) -> list[int]:
    """Return the kept output channels of each layer."""
    kept = np.append(plan.mask(graph), [True, True])
    return [int(kept[layer.units].sum()) for layer in graph.layers]


@pytest.mark.parametrize(("rule", "row"), [("layerwise", "layerwise_np"), ("random", "random_np")])
def test_published_channel_counts(published: tuple[Graph, Scores, dict], rule: str, row: str) -> None:
    graph, scores, figures = published
    target = figures[row]
    counts = target.get("out_channels", target.get("out_channels_no_ties"))
    transposed = any(layer.kind == "transposed" for layer in graph.layers)
    if transposed:
        scores = Scores(**{**vars(scores), "neurons": by_first_dimension(graph)})
    plan = ranp.select(graph, scores, sparsity=target["sparsity"], rule=rule, published_transposed=transposed)
    assert widths(graph, plan) == counts


def by_first_dimension(graph: Graph) -> dict[str, np.ndarray]:
    """Distinct scores, for transposed convolutions one per input channel."""
    generator = np.random.default_rng(0)
    sizes = {layer.name: graph.parameters[layer.name].shape[0] for layer in graph.layers}
    return {name: generator.random(size) for name, size in sizes.items()}


def test_transposed_outputs_are_pruned_by_default() -> None:
    figures = json.loads((FIGURES / "psm.sceneflow.json").read_text())["layerwise_np_deconv_out_properly_pruned"]
    preset = models.preset("psm", "sceneflow")
    model = models.build("psm", preset="sceneflow")
    graph = ranp.trace(model, tuple(torch.empty(shape, device="meta") for shape in preset.batched_shapes))
    generator = np.random.default_rng(0)
    scores = Scores("l1", "sum", 0, {layer.name: generator.random(len(layer.units)) for layer in graph.layers})
    plan = ranp.select(graph, scores, sparsity=figures["sparsity"], rule="layerwise")
    assert widths(graph, plan) == figures["out_channels"]


class Small(nn.Module):
    """Two branches tied by an add, and a free layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 5, 3, padding=1)
        self.left = nn.Conv2d(5, 4, 3, padding=1)
        self.right = nn.Conv2d(5, 4, 1)
        self.free = nn.Conv2d(4, 6, 1)
        self.head = nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = (self.left(x) + self.right(x)).relu()
        return self.head(self.free(x).relu())


@pytest.fixture(scope="module")
def small() -> tuple[nn.Module, Graph]:
    torch.manual_seed(0)
    model = Small()
    return model, ranp.trace(model, torch.zeros(1, 1, 8, 8))


def test_sparsity_above_the_maximum_names_it(small: tuple[nn.Module, Graph]) -> None:
    model, graph = small
    scores = ranp.importance(model, graph, method="l1")
    with pytest.raises(InfeasibleError, match="largest feasible value is 0") as error:
        ranp.select(graph, scores, sparsity=0.99)
    assert error.value.closest is not None
    said = float(str(error.value).rpartition(" ")[2])
    assert error.value.closest - 1e-6 <= said <= error.value.closest
    assert ranp.select(graph, scores, sparsity=error.value.closest).choice.sparsity == error.value.closest


def test_group_keeps_the_largest_count_and_the_best_sums() -> None:
    torch.manual_seed(0)
    graph = ranp.trace(Small(), torch.zeros(1, 1, 8, 8))
    neurons = {layer.name: np.ones(len(layer.units)) for layer in graph.layers}
    neurons["left.weight"] = np.array([9.0, 8.0, 1.0, 2.0])  # two of its own above 5
    neurons["right.weight"] = np.array([1.0, 1.0, 9.0, 1.0])  # one
    neurons["head.weight"] = np.array([6.0, 6.0])
    neurons["stem.weight"], neurons["free.weight"] = np.array([6.0] * 5), np.array([6.0] * 6)
    plan = ranp.select(graph, Scores("l1", "sum", 0, neurons), sparsity=5 / 21, weighting="none")
    group = next(each for each in plan.groups if each.name == "left")
    # sums over layer means (5 and 3): 2.13, 1.93, 3.2, 0.73
    assert group.kept == (0, 2)


def test_align_rounds_widths_up(small: tuple[nn.Module, Graph]) -> None:
    model, graph = small
    scores = ranp.importance(model, graph, method="l1")
    plan = ranp.select(graph, scores, sparsity=0.4, align=4)
    assert {len(group.kept) for group in plan.groups if not group.frozen} <= {4, 5, 6}
    assert all(len(group.kept) % 4 == 0 or len(group.kept) == group.width for group in plan.groups if not group.frozen)


def test_reweighting_by_flops_keeps_more_of_cheap_layers() -> None:
    model = models.build("unet3d", base_width=8, depth=3)
    graph = ranp.trace(model, torch.empty(1, 1, 16, 16, 16, device="meta"))
    generator = np.random.default_rng(0)
    neurons = {layer.name: 10 ** generator.random(len(layer.units)) for layer in graph.layers}
    scores = Scores("mpmg", "sum", 1, neurons)
    plain = ranp.select(graph, scores, sparsity=0.4)
    cheap = ranp.select(graph, scores, sparsity=0.4, reweight="flops")
    evaluate = cost.compile(graph, convention="paper")
    assert evaluate(cheap.mask(graph)).flops < evaluate(plain.mask(graph)).flops
    assert cheap.choice.strength == len(graph.layers)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sparsity": 1.0}, r"sparsity=1\.0: expected a share"),
        ({"sparsity": -0.1}, r"sparsity=-0\.1"),
        ({}, "either sparsity= or max_sparsity="),
        ({"sparsity": 0.5, "max_sparsity": True}, "either sparsity= or max_sparsity="),
        ({"sparsity": 0.5, "rule": "globl"}, "did you mean 'global'"),
        ({"sparsity": 0.5, "reweight": "flop"}, "did you mean 'flops'"),
        ({"sparsity": 0.5, "coupling": "min"}, "coupling='min': expected paper, sum, mean or max"),
        ({"sparsity": 0.5, "min_width": 0}, "min_width=0: expected a whole number of at least 1"),
        ({"sparsity": 0.5, "align": 0}, "align=0"),
        ({"sparsity": 0.5, "strength": -1.0}, "strength=-1.0"),
        ({"sparsity": 0.5, "rule": "snip"}, "it needs method='snip'"),
        ({"sparsity": 0.5, "rule": "layerwise", "reweight": "flops"}, "rule='layerwise' does not"),
    ],
)
def test_mistakes_are_one_line(small: tuple[nn.Module, Graph], options: dict, words: str) -> None:
    model, graph = small
    with pytest.raises(UsageError, match=words) as error:
        ranp.select(graph, ranp.importance(model, graph, method="l1"), **options)
    assert "\n" not in str(error.value)


def test_same_seed_same_bytes(small: tuple[nn.Module, Graph]) -> None:
    model, graph = small
    scores = ranp.importance(model, graph, method="l1")
    texts = {ranp.select(graph, scores, sparsity=0.3, rule="random", seed=5).to_json() for _ in range(2)}
    assert len(texts) == 1
    assert ranp.select(graph, scores, sparsity=0.3, rule="random", seed=6).to_json() not in texts
