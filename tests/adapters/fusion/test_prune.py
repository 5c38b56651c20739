"""Fused modules are pruned and exported like any network."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import ranp
from ranp.adapters import FusedSegmenter, TransparentConv, fuse, insert_transparent
from ranp.adapters.fusion._superpixels import SlicSuperpixels
from ranp.errors import need

TOLERANCE = 1e-9


def network(outputs: int, dims: int = 2) -> nn.Module:
    conv = {2: nn.Conv2d, 3: nn.Conv3d}[dims]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(outputs)
        layers = [conv(1, 12, 3, padding=1), nn.ReLU(), conv(12, 10, 3, padding=1), nn.ReLU(), conv(10, outputs, 1)]
    return nn.Sequential(*layers).double().eval()


def inputs(*sizes: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, 1, *sizes, generator=generator, dtype=torch.float64)
    return image, torch.randint(0, 12, (2, *sizes), generator=generator)


def check_slim_equals_masked(model: nn.Module, given: Sequence[Tensor]) -> ranp.Graph:
    for seed, sparsity in enumerate((0.15, 0.35)):
        result = ranp.prune(model, tuple(given), rule="random", sparsity=sparsity, seed=seed)
        assert result.report.to_dict()["verify"]["max_rel_diff"] < TOLERANCE
        assert sum(p.numel() for p in result.slim.parameters()) < sum(p.numel() for p in model.parameters())
    return result.graph


@pytest.mark.parametrize(
    ("activation", "sizes"), [(None, (16, 20)), ("gelu", (16, 20)), ("tanh", (16, 20)), ("relu", (6, 8, 10))]
)
def test_with_given_maps(activation: str | None, sizes: tuple[int, ...]) -> None:
    fused = fuse(network(3, len(sizes)), classes=3, count=12, activation=activation, widths=(16, 20)).eval()
    graph = check_slim_equals_masked(fused, inputs(*sizes))
    assert [group.name for group in graph.groups if graph.reason_of(group)] == ["transparent.layers.2"]
    assert all(note.startswith("numbers that count channels, set in the slim network") for note in graph.notes)


def test_with_any_labels_and_with_an_ignored_one() -> None:
    image, maps = inputs(16, 20)
    for settings, given in (
        ({}, maps), ({}, maps * 10**9 - 7), ({"ignore": 3}, maps), ({"ignore": 3, "count": 12}, maps),
    ):  # fmt: skip
        fused = fuse(network(3), classes=3, activation="relu", widths=(16, 20), **settings).eval()
        graph = check_slim_equals_masked(fused, (image, given))
        assert [group.name for group in graph.groups if graph.reason_of(group)] == ["transparent.layers.2"]


def test_with_a_superpixel_network_whose_scores_must_stay() -> None:
    fused = fuse(network(3), network(9), classes=3, interval=8, activation="relu", widths=(16, 20)).eval()
    graph = check_slim_equals_masked(fused, inputs(16, 20)[:1])
    frozen = [group.name for group in graph.groups if graph.reason_of(group)]
    assert frozen == ["transparent.layers.2", "superpixels.network.4"]
    assert all(note.startswith("numbers that count channels, set in the slim network") for note in graph.notes)


def test_with_slic_inside() -> None:
    fused = fuse(network(3), classes=3, activation="relu", widths=(16, 20), segments=12).eval()
    check_slim_equals_masked(fused, inputs(16, 20)[:1])


def test_stack_inside_a_network_and_convolutions_behind_it() -> None:
    image = inputs(16, 20)[:1]
    stacked = insert_transparent(network(3), "2", depth=4, widths=(14, 13, 16), activation="relu").eval()
    check_slim_equals_masked(stacked, image)
    for activation in (None, "gelu", "sigmoid"):
        pair = TransparentConv(3, activation=activation, dtype=torch.float64)
        check_slim_equals_masked(nn.Sequential(network(3), pair, nn.Conv2d(3, 2, 1).double()).eval(), image)


def pruned() -> FusedSegmenter:
    """A fused network pruned by its gradients on generated images."""
    image, maps = inputs(16, 20)
    fused = fuse(network(3), network(9), classes=3, interval=8, activation="relu", widths=(16, 20), seed=1)
    target = (maps > 5).long()
    result = ranp.prune(
        fused, image, batches=[(image, target)], loss=nn.functional.cross_entropy, sparsity=0.5, method="snip"
    )
    assert result.report.to_dict()["verify"]["max_rel_diff"] < TOLERANCE
    assert isinstance(result.slim, FusedSegmenter)
    return result.slim


def test_prune_of_the_joint_module() -> None:
    slim = pruned()
    full = fuse(network(3), network(9), classes=3, interval=8, activation="relu", widths=(16, 20))
    before, after = (sum(p.numel() for p in module.parameters()) for module in (full, slim))
    assert after < 0.6 * before
    groups = slim.param_groups()
    assert [group["name"] for group in groups] == ["segmenter", "superpixels", "transparent"]
    assert slim.joint(inputs(16, 20)[0]).logits.shape == (2, 3, 16, 20)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # raised inside the exporter
@pytest.mark.filterwarnings("ignore:# The axis name:UserWarning")  # image and map share their axes, on purpose
@pytest.mark.parametrize("case", ["network", "given maps", "any labels"])
def test_export_to_onnx(tmp_path: Path, case: str) -> None:
    image, maps = (each.float() if each.is_floating_point() else each for each in inputs(16, 20))
    if case == "network":
        model, given = pruned().float().eval(), (image,)
        sizes = ({0: "batch", 2: "height", 3: "width"},)
    else:
        count = 12 if case == "given maps" else None
        model, given = fuse(network(3).float(), classes=3, count=count, activation="tanh").eval(), (image, maps)
        sizes = ({0: "batch", 2: "height", 3: "width"}, {0: "batch", 1: "height", 2: "width"})
    program = torch.onnx.export(model, given, None, dynamo=True, verbose=False, dynamic_shapes=sizes)
    assert program is not None
    program.save(tmp_path / "fused.onnx", external_data=False)
    session = need("onnxruntime", "onnx").InferenceSession(tmp_path / "fused.onnx")
    for cut in (16, 8):
        part = tuple(each[..., :cut, :] for each in given)
        names = [each.name for each in session.get_inputs()]
        (found,) = session.run(None, {name: each.numpy() for name, each in zip(names, part, strict=True)})
        with torch.no_grad():
            expected = model(*part)
        torch.testing.assert_close(torch.from_numpy(found), expected, atol=1e-5, rtol=1e-5)


def test_slic_is_what_export_leaves_to_the_caller() -> None:
    image = inputs(16, 20)[0]
    fused = fuse(network(3), classes=3, segments=12).eval()
    torch.testing.assert_close(fused(image, SlicSuperpixels(12)(image)), fused(image))
