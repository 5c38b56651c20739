"""What constructors of MONAI can say: a tied plan is a call of the plain class, with the same shapes and outputs."""

from typing import Any

import monai.networks.nets as nets
import pytest
import torch
from torch import Tensor, nn

from ranp.graph.build import trace
from ranp.models.constructors import WIDTHS, Constructor
from ranp.scores import importance
from ranp.selection import select
from ranp.surgery import slim

SMALL: dict[str, Any] = {"spatial_dims": 2, "in_channels": 1, "out_channels": 2}
NETWORKS: dict[str, dict[str, Any]] = {
    "AttentionUnet": {**SMALL, "channels": [4, 6, 8], "strides": [2, 2]},
    "BasicUNet": {**SMALL, "features": (4, 5, 6, 8, 10, 4)},
    "DenseNet": {**SMALL, "init_features": 8, "growth_rate": 4, "block_config": (2, 2)},
    "DynUNet": {
        **SMALL, "kernel_size": [3, 3, 3], "strides": [1, 2, 2], "upsample_kernel_size": [2, 2], "filters": [4, 6, 8],
        "res_block": True,
    },
    "FlexibleUNet": {**SMALL, "backbone": "efficientnet-b0", "decoder_channels": (12, 10, 8, 6, 4)},
    "HighResNet": {**SMALL},
    "MedNeXt": {
        **SMALL, "init_filters": 4, "blocks_down": [1, 1], "blocks_up": [1, 1], "blocks_bottleneck": 1,
        "kernel_size": 3,
    },
    "ResNet": {
        "block": "basic", "layers": [1, 1, 1, 1], "block_inplanes": [4, 5, 6, 8], "spatial_dims": 2,
        "n_input_channels": 1, "num_classes": 2,
    },
    "SegResNet": {**SMALL, "init_filters": 32, "blocks_down": (1, 1), "blocks_up": (1,)},
    "SegResNetDS": {**SMALL, "init_filters": 8, "blocks_down": (1, 1), "blocks_up": (1,)},
    "UNet": {**SMALL, "channels": [4, 6, 9], "strides": [2, 2], "num_res_units": 1},
}  # fmt: skip

LESS = {"FlexibleUNet": "95%", "HighResNet": "99%"}  # of what no number says stays whole


def first(outputs: Any) -> Tensor:
    return outputs[0] if isinstance(outputs, (list, tuple)) else outputs


def test_every_class_is_tried() -> None:
    assert NETWORKS.keys() == WIDTHS.keys()


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_a_tied_plan_is_a_call_of_the_class(name: str) -> None:
    torch.manual_seed(0)
    network: nn.Module = getattr(nets, name)(**NETWORKS[name])
    image = torch.zeros(1, 1, 32, 32)
    graph = trace(network, image)
    constructor = Constructor(name, NETWORKS[name])
    scores = importance(network, graph, None, None, method="l1")
    plan = select(graph, scores, flops=LESS.get(name, "80%"), min_width=2, tie="stage", ties=constructor.ties())
    small = slim(network, plan).eval()
    settings = constructor.narrowed(small)
    assert settings != constructor._with({})  # smaller in some number
    again = getattr(nets, name)(**settings).eval()
    again.load_state_dict(small.state_dict())
    given = torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(first(again(given)), first(small(given)))
    rebuilt = eval(constructor.spelled(settings), {"monai": __import__("monai.networks.nets")})
    assert [each.shape for each in rebuilt.parameters()] == [each.shape for each in small.parameters()]


def test_a_number_is_asked_of_the_class() -> None:
    constructor = Constructor("BasicUNet", NETWORKS["BasicUNet"])
    (tie,) = [each.widths for each in constructor.variables if each.places == (("features", 4),)]
    assert tie["down_4.convs.conv_0.conv.weight"] == (2, 3, 4, 5, 6, 7, 8, 9, 10)  # 1 makes a layer of no channels
    assert tie["upcat_4.upsample.deconv.weight"] == (1, 1, 2, 2, 3, 3, 4, 4, 5)


def test_numbers_that_a_norm_refuses_are_left_out() -> None:
    constructor = Constructor("SegResNet", NETWORKS["SegResNet"])
    (variable,) = constructor.variables
    assert variable.steps == ((8,), (16,), (24,), (32,))


def test_filters_that_are_not_given_are_those_of_the_network() -> None:
    settings = {key: value for key, value in NETWORKS["DynUNet"].items() if key != "filters"}
    assert Constructor("DynUNet", settings).arguments == {"filters": [32, 64, 128]}


def test_only_classes_whose_widths_are_known_are_constructors() -> None:
    assert Constructor.of("monai.networks.nets:VNet", {}) is None
    assert Constructor.of("unet3d", {}) is None
    assert Constructor.of("monai.networks.nets:UNet", {}) is not None
