"""Upsampled networks under pruning: what is tied to what, exactness under random plans, counts, ONNX."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from graph_zoo.checking import check, double, randomise
from torch import Tensor, nn

from ranp import cost
from ranp.adapters.upsampling import CARAFE, FADE, FADELite
from ranp.adapters.upsampling._sizes import conv
from ranp.export import _onnx_file as onnx_file
from ranp.export._axes import Paths, free_axes
from ranp.export._parity import compare
from ranp.graph.build import trace
from ranp.graph.constraints import random_plan
from ranp.graph.graph import Graph
from ranp.graph.resize import resized
from ranp.inputs import as_arguments

WIDTH = 6


class Level(nn.Module):
    """One level of an encoder-decoder: features at two sizes, brought together by an upsampler."""

    def __init__(self, up: nn.Module, dims: int, encoder: int = WIDTH) -> None:
        super().__init__()
        self.stem = conv(dims)(2, encoder, 3, padding=1)
        self.down = conv(dims)(encoder, WIDTH, 3, stride=2, padding=1)
        self.up = up
        self.head = conv(dims)(WIDTH, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 2, *sizes) to (B, 3, *sizes)."""
        encoder = self.stem(x).relu()
        return self.head(self.up(self.down(encoder).relu(), encoder))  # type: ignore[no-any-return]


def built(kind: type[Any], dims: int, encoder: int = WIDTH, **settings: Any) -> Level:
    size = {1: 5, 2: 5, 3: 3}[dims]
    inputs = {"encoder_channels": encoder} if issubclass(kind, FADE) else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        level = Level(kind(WIDTH, dims=dims, kernel_size=size, **inputs, **settings), dims, encoder)
    randomise(level)
    return level.eval()


def images(dims: int) -> Tensor:
    """Odd sizes, so that the encoder's is no whole multiple of the decoder's."""
    return torch.randn((2, 2, *(9, 8, 7)[:dims]), generator=torch.Generator().manual_seed(0))


def group_of(graph: Graph, name: str) -> Any:
    return next(group for group in graph.groups if group.name == name)


def layers_of(graph: Graph, name: str) -> set[str]:
    """Return the layers whose outputs lie in a group."""
    units = set(group_of(graph, name).units.tolist())
    return {layer.name.removesuffix(".weight") for layer in graph.layers if units & set(layer.units.tolist())}


SETTINGS: list[dict[str, Any]] = [
    {},
    {"skip": "add"},
    {"skip": "none"},
    {"bias": "paper"},
    {"bias": "algorithm", "renormalise": True},
    {"encoder": 4, "skip": "gate", "align": True},
    {"encoder": 4, "skip": "none"},
]


@pytest.mark.parametrize("kind", [FADE, FADELite])
@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("settings", SETTINGS)
def test_slim_is_masked_and_trains(kind: type[FADE], dims: int, settings: dict[str, Any]) -> None:
    narrow = {} if kind is FADELite else {"embedding": 7}
    level, inputs = built(kind, dims, **narrow, **settings).double(), double((images(dims),))
    graph = trace(level, inputs)
    for seed, removed in enumerate((0.3, 0.6, 0.9)):
        check(graph, level, inputs, removed, seed)


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("renormalise", [False, True])
def test_carafe_slims_exactly(dims: int, renormalise: bool) -> None:
    level, inputs = built(CARAFE, dims, embedding=7, renormalise=renormalise).double(), double((images(dims),))
    graph = trace(level, inputs)
    for seed, removed in enumerate((0.3, 0.6, 0.9)):
        check(graph, level, inputs, removed, seed)


def test_a_gate_ties_encoder_and_decoder_and_nothing_else() -> None:
    graph = trace(built(FADE, 2, embedding=7), images(2))
    assert layers_of(graph, "stem") == {"stem", "down"}
    embedded = {"up.ker_generator.compressor_en", "up.ker_generator.compressor_de"}
    assert layers_of(graph, "up.ker_generator.compressor_en") == embedded
    assert graph.reason_of(group_of(graph, "stem")) is None
    assert graph.reason_of(group_of(graph, "up.ker_generator.compressor_en")) is None
    taps = group_of(graph, "up.ker_generator.content_encoder")
    assert len(taps.units) == 25
    assert graph.reason_of(taps) == "kernel taps of the upsampling at up"


def test_without_a_skip_encoder_and_decoder_are_free_of_each_other() -> None:
    graph = trace(built(FADE, 2, skip="none"), images(2))
    assert layers_of(graph, "stem") == {"stem"}
    assert layers_of(graph, "down") == {"down"}


def test_an_aligned_skip_ties_the_aligner_to_the_decoder() -> None:
    graph = trace(built(FADE, 2, encoder=4, skip="gate", align=True), images(2))
    assert layers_of(graph, "stem") == {"stem"}
    assert layers_of(graph, "down") == {"down", "up.aligner.conv"}


def test_all_compressed_channels_of_the_lite_form_are_taps() -> None:
    graph = trace(built(FADELite, 2), images(2))
    assert layers_of(graph, "stem") == {"stem", "down"}
    taps = group_of(graph, "up.ker_generator.compressor_en")
    assert layers_of(graph, taps.name) == {
        f"up.ker_generator.{name}" for name in ("compressor_en", "compressor_de", "content_encoder")
    }
    assert graph.reason_of(taps) == "kernel taps of the upsampling at up"


def test_operations_are_counted_as_by_hand() -> None:
    """Per layer as docs/costs.md counts; a reassembly 2 per tap and output element."""
    channels, width, taps, fine, coarse = WIDTH, 7, 25, 8 * 8, 4 * 4
    graph = trace(built(FADE, 2, embedding=width), torch.zeros(1, 2, 8, 8))
    expected = {
        "stem": 2 * fine * 2 * 9 * channels + fine * channels,
        "down": 2 * coarse * channels * 9 * channels + coarse * channels,
        "compressors": 2 * (fine + coarse) * channels * width + fine * width,
        "content": (2 * width * 9 + 1) * taps * (fine + coarse),
        "sum and softmax": (1 + 5) * taps * fine,
        "reassembly": 2 * taps * fine * channels,
        "gate": 2 * coarse * channels + coarse + coarse,
        "mix": fine * channels,
        "head": 2 * fine * channels * 9 * 3 + fine * 3,
        "relu": (fine + coarse) * channels,
    }
    assert cost.compile(graph)(np.ones(graph.count, dtype=bool)).flops == sum(expected.values())


def test_a_slim_network_costs_what_was_predicted() -> None:
    level, inputs = built(FADE, 2), images(2)
    graph = trace(level, inputs)
    kept = random_plan(graph, 0.5, np.random.default_rng(0))
    slim = trace(resized(graph, level, kept), inputs)
    predicted, counted = cost.compile(graph)(kept), cost.compile(slim)(np.ones(slim.count, dtype=bool))
    assert predicted == counted
    assert counted.flops < cost.compile(graph)(np.ones(graph.count, dtype=bool)).flops


def test_training_memory_is_replayed_through_the_operator() -> None:
    level, inputs = built(FADE, 2), torch.zeros(1, 2, 32, 32)
    wide = cost.peak_training_memory(level, inputs)
    slim = resized(graph := trace(level, inputs), level, random_plan(graph, 0.7, np.random.default_rng(0)))
    assert 0 < cost.peak_training_memory(slim, inputs).peak < wide.peak


@pytest.mark.parametrize(
    ("kind", "dims", "dynamic"),
    [(FADE, 1, False), (FADE, 2, True), (FADELite, 2, False), (FADE, 3, False), (CARAFE, 2, False), (CARAFE, 3, True)],
)
def test_onnx_agrees_after_pruning(kind: type[nn.Module], dims: int, dynamic: bool, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    level, inputs = built(kind, dims), images(dims)
    graph = trace(level, inputs)
    slim = resized(graph, level, random_plan(graph, 0.5, np.random.default_rng(1)))
    axes = tuple(free_axes(Paths(slim, as_arguments(inputs), ("x",)))) if dynamic else ()
    onnx_file.write(onnx_file.convert(slim, ((inputs,), {}), ("x",), axes, 20, {}), tmp_path / "slim.onnx", None)
    run = onnx_file.opened(tmp_path / "slim.onnx", ("x",))
    larger = [torch.randn(3, 2, *(size + axis.step for size, axis in zip(inputs.shape[2:], axes[1:], strict=True)))
              for _ in axes[:1]]  # fmt: skip
    for case in compare(slim, run, [((tensor,), {}) for tensor in (inputs, *larger)]):
        assert case.passed, case


def test_a_program_of_torch_export_needs_nothing_of_ours() -> None:
    level, inputs = built(FADE, 2), images(2)
    program = torch.export.export(level, (inputs,))
    assert not any("ranp" in str(node.target) for node in program.graph.nodes)
    torch.testing.assert_close(program.module()(inputs), level(inputs))
