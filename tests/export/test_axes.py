"""Free axes: the step between sizes along which a network does the same thing."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ranp import models
from ranp.errors import UnsupportedError
from ranp.export._axes import Paths, axes_of, free_axes, resized


def rules(model: nn.Module, *shapes: tuple[int, ...]) -> dict[str, str]:
    inputs = tuple(torch.empty(shape, device="meta") for shape in shapes)
    paths = Paths(model.eval(), (inputs, {}), tuple("abc"[: len(shapes)]))
    return {axis.name: axis.rule for axis in free_axes(paths)}


def test_inputs_of_one_size_share_their_axes_and_others_have_their_own() -> None:
    axes = axes_of({"left": (2, 3, 8, 8), "right": (2, 3, 8, 8), "low": (2, 1, 4, 4), "age": (2,)})
    assert [axis.name for axis in axes] == ["batch", "height", "width", "height_low", "width_low"]
    assert axes[0].places == (("left", 0), ("right", 0), ("low", 0), ("age", 0))
    assert axes[1].places == (("left", 2), ("right", 2))
    assert resized({"left": (2, 3, 8, 8)}, [(axes_of({"left": (2, 3, 8, 8)})[2], 10)]) == {"left": (2, 3, 8, 10)}


@pytest.mark.parametrize(("depth", "rule"), [(2, "2n"), (4, "8n")])
def test_a_unet_of_transposed_convolutions_has_its_divisor(depth: int, rule: str) -> None:
    network = models.build("unet2d", in_channels=1, classes=2, base_width=2, depth=depth)
    assert rules(network, (1, 1, 32, 32)) == {"batch": "n", "height": rule, "width": rule}


def test_an_example_between_the_multiples_keeps_its_remainder() -> None:
    network = models.build("unet2d", in_channels=1, classes=2, base_width=2, depth=3)
    assert rules(network, (1, 1, 32, 34))["width"] == "4n+2"


def test_a_network_that_resizes_to_its_skips_takes_every_size() -> None:
    network = models.build("unet3d", base_width=4, depth=3)
    assert set(rules(network, (1, 1, 8, 8, 8)).values()) == {"n"}


class Padding(nn.Module):
    """Pads to a multiple of 8."""

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, (0, -x.shape[-1] % 8))


def test_the_width_of_a_padding_counts() -> None:
    assert rules(Padding(), (1, 1, 16)) == {"batch": "n", "length": "8n"}


class Counting(nn.Module):
    """Does as many things as its input is long."""

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(x.shape[-1]):
            x = x + 1
        return x


def test_a_network_that_counts_its_input_has_no_free_axis() -> None:
    with pytest.raises(UnsupportedError, match=r"dynamic=True: .* changes with its length"):
        rules(Counting(), (1, 1, 4))


class Reading(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * float(x.max())


def test_a_network_that_reads_values_runs_on_real_tensors() -> None:
    assert rules(Reading(), (1, 1, 4)) == {"batch": "n", "length": "n"}
