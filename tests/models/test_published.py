"""The built-ins against the figures of the published networks: every layer, every leaf module call, to the integer."""

import functools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ranp import models

FIGURES = Path(__file__).parents[1] / "published" / "ranp"
PUBLISHED = [(name, preset) for name in models.names() for preset in models.presets(name)]
LAYERS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose3d, nn.Linear)


def figures(name: str, preset: str) -> dict[str, Any]:
    return json.loads((FIGURES / f"{name}.{preset}.json").read_text())


@functools.cache
def run_on_meta(name: str, preset: str) -> tuple[nn.Module, dict[nn.Module, list[tuple[torch.Size, torch.Size]]]]:
    """The network in eval mode and, for each leaf module, (input, output) shape of every call at the published size."""
    with torch.device("meta"):
        network = models.build(name, preset).eval()
        images = [torch.empty(shape) for shape in models.preset(name, preset).batched_shapes]
    calls: dict[nn.Module, list[tuple[torch.Size, torch.Size]]] = {}

    def record(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        calls.setdefault(module, []).append((args[0].shape, output.shape))

    for module in network.modules():
        if next(module.children(), None) is None:
            module.register_forward_hook(record)
    with torch.no_grad():
        network(*images)
    return network, calls


@pytest.mark.parametrize(("name", "preset"), PUBLISHED)
def test_parameter_count(name: str, preset: str) -> None:
    network, _ = run_on_meta(name, preset)
    assert sum(p.numel() for p in network.parameters()) == figures(name, preset)["full"]["params"]


@pytest.mark.parametrize(("name", "preset"), PUBLISHED)
def test_preset_states_the_measured_input(name: str, preset: str) -> None:
    published, expected = models.preset(name, preset), figures(name, preset)
    shapes = expected["input_shape"]
    assert [list(s) for s in published.batched_shapes] == (shapes if isinstance(shapes[0], list) else [shapes])
    assert published.batch == expected["batch_counted"]
    assert published.strength == expected["lambda"]
    assert published.settings.get("classes") == expected["classes"]


@pytest.mark.parametrize(("name", "preset"), PUBLISHED)
def test_every_layer_in_traversal_order(name: str, preset: str) -> None:
    network, calls = run_on_meta(name, preset)
    layers = [module for module in network.modules() if isinstance(module, LAYERS)]
    assert [layer_figures(layer, calls[layer]) for layer in layers] == [
        {key: entry[key] for key in layer_figures(layers[0], calls[layers[0]])}
        for entry in figures(name, preset)["layers"]
    ]


def layer_figures(layer: nn.Module, calls: list[tuple[torch.Size, torch.Size]]) -> dict[str, Any]:
    linear = isinstance(layer, nn.Linear)
    return {
        "type": type(layer).__name__,
        "in_channels": layer.in_features if linear else layer.in_channels,
        "out_channels": layer.out_features if linear else layer.out_channels,
        **{
            key: None if linear else list(getattr(layer, attribute))
            for key, attribute in [("kernel", "kernel_size"), ("stride",) * 2, ("padding",) * 2, ("dilation",) * 2]
        },
        "groups": 1 if linear else layer.groups,
        "bias": layer.bias is not None,
        "calls": len(calls),
        "in_shape": list(calls[0][0]),
        "out_shape": list(calls[0][1]),
    }


@pytest.mark.parametrize(("name", "preset"), PUBLISHED)
def test_leaf_module_calls_and_their_elements(name: str, preset: str) -> None:
    """What the published memory figure counts: the outputs of every leaf module, functional operations unseen."""
    _, calls = run_on_meta(name, preset)
    counted: dict[str, list[int]] = {}
    for module, shapes in calls.items():
        kind = type(module).__name__.replace("SamePool", "MaxPool3d(same)")
        total = counted.setdefault(kind, [0, 0])
        total[0] += len(shapes)
        total[1] += sum(output.numel() for _, output in shapes)
    expected = figures(name, preset)["breakdown_by_module"]
    assert counted == {kind: [entry["calls"], entry["elems"]] for kind, entry in expected.items()}
    assert (
        round(sum(elements for _, elements in counted.values()) * 4 / 2**20, 4)
        == figures(name, preset)["full"]["memory_mb"]
    )
