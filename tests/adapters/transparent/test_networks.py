"""A stack changes nothing in any built-in network, after the logits or inside, and then every weight of it learns."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from ranp import models
from ranp.adapters.transparent import TransparentStack, insert_transparent

SMALL: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {  # settings and input sizes that are quick
    "colourisation": ({"width": 4, "classes": 5}, (16, 16)),
    "context": ({"width": 4, "hidden": 8, "classes": 5}, (16, 16)),
    "deconvnet": ({"width": 4, "hidden": 8, "classes": 5, "bottleneck": 2}, (64, 64)),
    "deeplab": ({"width": 8, "classes": 5}, (32, 32)),
    "eigen-fergus": ({"width": 4, "hidden": 8, "coarse": (2, 2)}, (32, 32)),
    "fcn16s": ({"width": 4, "hidden": 8, "classes": 5}, (32, 32)),
    "fcn32s": ({"width": 4, "hidden": 8, "classes": 5}, (32, 32)),
    "fcn8s": ({"width": 4, "hidden": 16, "classes": 5}, (64, 64)),
    "fpn": ({"width": 8, "classes": 5}, (32, 32)),
    "hypercolumns": ({"width": 4, "hidden": 8, "classes": 5}, (32, 32)),
    "i3d": ({"width": 0.25, "classes": 9, "pool": (1, 1, 1)}, (8, 32, 32)),
    "mobilenetv2-3d": ({"width": 0.25, "classes": 9}, (16, 32, 32)),
    "psm": ({"maxdisp": 16, "width": 4, "pools": (8, 4, 2, 1)}, (32, 32)),
    "segnet": ({"width": 8, "classes": 5}, (32, 32)),
    "ubernet": ({"width": 4, "hidden": 8, "tasks": (5,), "scales": (1.0, 0.5)}, (64, 64)),
    "unet2d": ({"base_width": 8, "classes": 5}, (32, 32)),
    "unet3d": ({"base_width": 8}, (16, 16, 16)),
    "zoomout": ({"width": 4, "hidden": 8, "units": 8, "classes": 5, "side": 32, "superpixels": 2}, (32, 32)),
}


ONE = [name for name in models.names() if not models.built_in(name).boxes]  # the others give a tuple


class Only(nn.Module):
    """The one map of a network that gives a list."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        (out,) = self.network(image)
        return out


def network(name: str) -> tuple[nn.Module, list[Tensor]]:
    settings, sizes = SMALL.get(name, ({}, None))
    model = models.build(name, **settings).eval()
    model = Only(model) if name == "ubernet" else model
    generator = torch.Generator().manual_seed(0)
    shapes = models.input_shapes(name, settings, sizes)
    return model, [torch.randn(1, *shape, generator=generator) for shape in shapes]


def changed(model: nn.Module, joined: nn.Module, inputs: list[Tensor]) -> float:
    """Return the largest change of an output over the largest output."""
    expected = model(*inputs)
    return float((joined(*inputs) - expected).abs().max() / expected.abs().max())


def check_in_float32(model: nn.Module, joined: nn.Module, inputs: list[Tensor]) -> None:
    """Rounded weights cost what they cost on any machine; what float32's sums add to it goes by their order."""
    wide, wide_joined = (copy.deepcopy(each).double() for each in (model, joined))
    assert changed(wide, wide_joined, [x.double() for x in inputs]) < 2e-7
    assert changed(model, joined, inputs) < 1e-4


@pytest.mark.parametrize("name", ONE)
@torch.no_grad()
def test_after_the_logits_in_float32(name: str) -> None:
    model, inputs = network(name)
    if name == "psm":  # its disparities weigh costs by a softmax: compare the costs
        model, inputs = model.classifier3, [torch.randn(1, 4, 8, 16, 16, generator=torch.Generator().manual_seed(0))]
    check_in_float32(model, insert_transparent(model, "", example_inputs=inputs), inputs)


@pytest.mark.parametrize("name", ONE)
@torch.no_grad()
def test_after_the_last_layer_by_its_path_alone(name: str) -> None:
    model, inputs = network(name)
    path = [path for path, module in model.named_modules() if isinstance(module, (_ConvNd, nn.Linear))][-1]
    if name == "eigen-fergus":  # its last layer's normals, small before training, are stretched to length one
        path = "scale3.0.refine.4"
    for activation in (None, "relu"):
        check_in_float32(model, insert_transparent(model, after=path, depth=3, activation=activation), inputs)


@pytest.mark.parametrize("name", [name for name in ONE if name != "psm"])  # gives disparities, no channels
@torch.no_grad()
def test_after_the_whole_network_without_an_example(name: str) -> None:
    model, inputs = network(name)
    check_in_float32(model, insert_transparent(model, ""), inputs)


@pytest.mark.parametrize("name", ONE)
@torch.no_grad()
def test_inside_the_network_in_float64(name: str) -> None:
    model, inputs = network(name)
    model, inputs = model.double(), [x.double() for x in inputs]
    convolutions = [path for path, module in model.named_modules() if isinstance(module, (nn.Conv2d, nn.Conv3d))]
    for path in (convolutions[0], convolutions[len(convolutions) // 2]):
        assert changed(model, insert_transparent(model, path, activation="relu"), inputs) < 1e-9


@pytest.mark.parametrize("name", ONE)
def test_every_weight_of_the_stack_moves_in_one_step(name: str) -> None:
    model, inputs = network(name)
    path = "dres1" if name == "psm" else ""  # its logits meet a softmax, which is blind to the last bias
    joined = insert_transparent(model, path, example_inputs=inputs)
    joined = joined.double().requires_grad_(False)
    stack = next(module for module in joined.modules() if isinstance(module, TransparentStack)).requires_grad_()
    before = {key: value.clone() for key, value in stack.state_dict().items()}
    joined(*(x.double() for x in inputs)).square().sum().backward()
    torch.optim.SGD(stack.parameters(), lr=1.0).step()
    assert all((value != before[key]).all() for key, value in stack.state_dict().items())
