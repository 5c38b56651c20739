"""Channels that unpool are those whose places were kept."""

import pytest
import torch

from ranp import models
from ranp.graph.build import trace

SETTINGS = {"width": 2, "hidden": 8, "classes": 3, "bottleneck": 2}


@pytest.mark.parametrize("name", ["deconvnet", "segnet"])
def test_what_is_unpooled_is_tied_to_what_was_pooled(name: str) -> None:
    network = models.build(name, **(SETTINGS if name == "deconvnet" else {"width": 2, "classes": 3}))
    graph = trace(network, torch.zeros(2, 3, 64, 64))
    units = {layer.module: layer.units.tolist() for layer in graph.layers}
    made_by = {"encoder.0.3": "decoder.3", "encoder.1.3": "decoder.2", "encoder.2.6": "decoder.1"}
    for pooled, deeper in made_by.items():
        last = max(path for path in units if path.startswith(f"{deeper}."))
        assert units[pooled] == units[last]
    if name == "deconvnet":
        assert units["encoder.4.6"] == units["bottleneck.4"]
    assert all(reason in (None, "network output") or "input" in reason for reason in graph.reasons)


def test_the_bottleneck_sees_all_of_the_image_at_224_pixels() -> None:
    with torch.device("meta"):
        network = models.build("deconvnet")
        seen = []
        network.bottleneck[0].register_forward_hook(lambda _, __, out: seen.append(tuple(out.shape)))
        assert network(torch.zeros(1, 3, 224, 224)).shape == (1, 21, 224, 224)
    assert seen == [(1, 4096, 1, 1)]
