"""`dilate`: what a network computed before, it computes still, at every r-th position."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ranp import models
from ranp.adapters.dilation import dilate, dilated
from ranp.errors import CheckFailed, UnsupportedError, UsageError

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
MAX: dict[int, Any] = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
MEAN: dict[int, Any] = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
ZERO = {1: nn.ZeroPad1d, 2: nn.ZeroPad2d, 3: nn.ZeroPad3d}
GLOBAL = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}
WIDTH = 2


class Paths(nn.Module):
    """Two paths of other windows between the same layers, added and joined, and a gate by the global mean."""

    def __init__(self, one: nn.Module, other: nn.Module, dims: int) -> None:
        super().__init__()
        self.one, self.other, self.whole = one, other, GLOBAL[dims](1)

    def forward(self, x: Tensor) -> Tensor:
        one, other = self.one(x), self.other(x)
        joined = torch.cat([one + other, one], dim=1)
        return F.relu(joined * torch.sigmoid(self.whole(joined)))


@st.composite
def layers(draw: Callable[..., Any], dims: int, strides: tuple[int, ...]) -> nn.Module:
    """A layer of random windows."""
    stride, kernel = draw(st.sampled_from(strides)), draw(st.integers(1, 4))
    kind = draw(st.sampled_from(["conv", "same", "max", "mean", "padded", "paths"]))
    padding, ceil = draw(st.integers(0, kernel // 2)), draw(st.booleans())
    if kind == "conv":
        dilation = draw(st.integers(1, 2))
        return CONV[dims](WIDTH, WIDTH, kernel, stride, padding, dilation, groups=draw(st.sampled_from([1, WIDTH])))
    if kind == "same":
        return nn.Sequential(CONV[dims](WIDTH, WIDTH, kernel, padding="same"), NORM[dims](WIDTH), nn.Sigmoid())
    if kind == "max":
        return MAX[dims](kernel, stride, padding, draw(st.integers(1, 2)), ceil_mode=ceil)
    if kind == "mean":
        return MEAN[dims](kernel, stride, padding, ceil_mode=ceil, count_include_pad=draw(st.booleans()))
    if kind == "padded":
        sides = draw(st.lists(st.integers(0, 2), min_size=2 * dims, max_size=2 * dims))
        return nn.Sequential(ZERO[dims](tuple(sides)), CONV[dims](WIDTH, WIDTH, kernel, stride))
    # a pool over 2 and a 1-wide convolution, as ResNet-D's shortcut, beside a 3-wide convolution; all end at one size
    one = nn.Sequential(MEAN[dims](2, 2, ceil_mode=True), CONV[dims](WIDTH, WIDTH, 1))
    other = CONV[dims](WIDTH, WIDTH, 3, 2, 1)
    return nn.Sequential(Paths(one, other, dims), CONV[dims](2 * WIDTH, WIDTH, 1))


@st.composite
def networks(draw: Callable[..., Any]) -> tuple[nn.Sequential, Tensor]:
    """A chain of random layers, and an image it runs on."""
    dims = draw(st.sampled_from([1, 2, 2, 3]))
    strides = draw(st.sampled_from([(1, 2), (2, 4), (1, 3)]))
    chain = nn.Sequential(*draw(st.lists(layers(dims, strides), min_size=1, max_size=4)))
    sizes = draw(st.lists(st.integers(12, {1: 60, 2: 40, 3: 16}[dims]), min_size=dims, max_size=dims))
    torch.manual_seed(draw(st.integers(0, 99)))
    for parameter in chain.parameters():
        nn.init.normal_(parameter)
    return chain.double().eval(), torch.randn(1, WIDTH, *sizes, dtype=torch.float64)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@settings(max_examples=70, deadline=None)
@given(networks(), st.sampled_from([1, 2, 3, 4]))
def test_the_positions_there_were_hold_what_they_held(drawn: tuple[nn.Sequential, Tensor], output_stride: int) -> None:
    network, image = drawn
    network.requires_grad_(False)
    try:
        before = network(image)
    except RuntimeError:  # a window larger than the image
        return
    total = math.prod(
        max((m.stride if isinstance(m.stride, int) else m.stride[0]) for m in part.modules() if hasattr(m, "stride"))
        for part in network
    )
    if total <= output_stride or total % output_stride:
        with pytest.raises(UsageError, match="no stride is above it" if total <= output_stride else "divide"):
            dilate(network, output_stride, example_inputs=image)
        return
    try:
        dense = dilate(network, output_stride, example_inputs=image)
    except UsageError as error:  # of 4 x 3, 3 divides the end and not what comes before
        if "divide" not in str(error):
            raise
        return
    after, removed = dense(image), total // output_stride
    on_lattice = after[(..., *(slice(None, None, removed),) * (image.ndim - 2))]
    assert on_lattice.shape == before.shape
    torch.testing.assert_close(on_lattice, before, rtol=1e-10, atol=1e-10 * float(before.abs().max()))


def test_the_network_is_left_alone_and_its_weights_keep_their_names() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 2, 2), nn.MaxPool2d(2), nn.Conv2d(2, 2, 3, padding=1))
    shown, state = repr(network), {name: value.clone() for name, value in network.state_dict().items()}
    dense = dilate(network, 1)
    assert repr(network) == shown
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert list(dense.state_dict()) == list(state)
    dense[0].weight.data.zero_()
    assert network[0].weight.abs().max() > 0
    assert dense.training


def test_a_size_that_two_halves_stays() -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 3, 2, 1), nn.MaxPool2d(2), nn.Conv2d(1, 1, 4, 2, 1), nn.AvgPool2d(2))
    assert dilate(network, 2)(torch.zeros(1, 1, 64, 48)).shape[2:] == (32, 24)


@pytest.mark.parametrize(("stride", "kept"), [(2, (2, 2)), ((4, 1), (4, 1)), ((1, 4), (1, 4))])
def test_a_stride_for_each_dimension_and_a_part_of_one(stride: Any, kept: tuple[int, int]) -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 3, 4, 1), nn.Conv2d(1, 1, 3, 1, 1))
    dense = dilate(network, stride)
    assert dense[0].stride == kept
    assert dense[1].dilation == tuple(4 // each for each in kept)


@pytest.mark.parametrize("output_stride", [8, 4])
def test_a_classifier_says_what_it_said(output_stride: int) -> None:
    from monai.networks.nets import ResNet

    torch.manual_seed(0)
    network = ResNet("basic", [1, 1, 1, 1], [2, 2, 4, 4], 2, 1, num_classes=3).double().eval()
    image = torch.randn(2, 1, 96, 65, dtype=torch.float64)
    made = dilated(network, output_stride, image)
    assert made.exact
    assert made.changed["avgpool"] == f"dilation times {16 // output_stride}x{16 // output_stride}"
    torch.testing.assert_close(made.network(image), network(image), rtol=1e-10, atol=1e-12)


def test_deeplab_is_exact_until_its_logits_are_resized() -> None:
    network = models.build("deeplab", width=2, classes=3).double().eval()
    image = torch.randn(1, 3, 96, 80, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    seen: dict[str, Tensor] = {}
    made = dilated(network, 8, image)
    assert not made.exact
    assert made.compared == 1
    for name, each in (("before", network), ("after", made.network)):
        each.classifier.register_forward_hook(lambda _m, _i, out, name=name: seen.update({name: out}))
        assert each(image).shape == (1, 3, 96, 80)
    assert seen["after"].shape == (1, 3, 12, 10)
    torch.testing.assert_close(seen["after"][..., ::2, ::2], seen["before"], rtol=1e-10, atol=1e-12)


def test_a_path_that_is_resized_inside_is_let_be_where_its_stride_stays() -> None:
    class Enlarged(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down, self.last = nn.Conv2d(1, 2, 3, 2, 1), nn.Conv2d(2, 1, 3, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(F.interpolate(self.down(x), scale_factor=2.0))

    network = Enlarged().double().eval()
    image = torch.randn(1, 1, 32, 32, dtype=torch.float64)
    dense = dilate(network, 2, example_inputs=image)
    torch.testing.assert_close(dense(image)[..., ::2, ::2], network(image))
    assert (dense.down.stride, dense.last.stride) == ((2, 2), (2, 2))


FIXTURE = Path(__file__).parents[3] / ".." / "shared" / "fixtures" / "dense" / "slides_ops.npz"


@pytest.mark.data
@pytest.mark.skipif(not FIXTURE.exists(), reason="the recorded values are not beside the checkout")
def test_the_recorded_values() -> None:
    known = np.load(FIXTURE)
    convolutions = []
    for name in ("dil_w1", "dil_w2", "dil_w3"):
        weight = torch.tensor(known[name])
        convolutions.append(nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1, bias=False))
        convolutions[-1].weight = nn.Parameter(weight, requires_grad=False)
    one, two, three = convolutions
    network = nn.Sequential(one, nn.MaxPool2d(2), two, nn.ReLU(), nn.MaxPool2d(2), three)
    image = torch.tensor(known["dil_x"])
    torch.testing.assert_close(network(image), torch.tensor(known["dil_strided"]), rtol=0, atol=1e-12)
    dense = dilate(network, 1, example_inputs=image)(image)
    torch.testing.assert_close(dense[..., ::4, ::4], torch.tensor(known["dil_strided"]), rtol=0, atol=1e-12)
    inner = slice(0, 6)  # the recorded one is not padded at the end, which the last positions see
    recorded = torch.tensor(known["dil_dense"])
    torch.testing.assert_close(dense[..., inner, inner], recorded[..., inner, inner], rtol=0, atol=1e-12)


class Calls(nn.Module):
    """A stride of 2, then a function."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.function = nn.Conv2d(1, 2, 3, 2, 1), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.first(x))


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x: F.max_pool2d(x, 2), "max_pool2d_with_indices at the top"),
        (lambda x: x.mean((2, 3)), "mean at the top: looks at more than one position"),
        (lambda x: x.flatten(1), "view at the top"),
        (lambda x: x.flip(2), "flip at the top"),
        (lambda x: F.interpolate(x, scale_factor=2.0), "upsample_nearest2d at the top: enlarges"),
        (lambda x: F.pad(x, (1, 1)), "constant_pad_nd at the top"),
        (lambda x: x + torch.rand(x.shape[-1]), "add at the top"),
        (lambda x: F.group_norm(x, 1), "native_group_norm at the top"),
        (lambda x: x[..., 1:], "slice at the top"),
        (lambda x: x @ x.transpose(2, 3), "transpose at the top"),
    ],
)
def test_what_looks_at_several_positions_is_refused(function: Callable[[Tensor], Tensor], words: str) -> None:
    with pytest.raises(UnsupportedError, match=words):
        dilate(Calls(function), 1)


def shared() -> nn.Module:
    pool = nn.MaxPool2d(2)
    return nn.Sequential(pool, nn.Conv2d(1, 1, 1), pool)


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (nn.Sequential(nn.Conv2d(1, 1, 1, 2), nn.ConvTranspose2d(1, 1, 2, 2)), "a transposed convolution at 1: enl"),
        (
            nn.Sequential(nn.Conv2d(1, 1, 1, 2), nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect")),
            "^1: padding_mode",
        ),
        (nn.Sequential(nn.Conv2d(1, 1, 1), nn.MaxPool2d(2, return_indices=True)), "^1: returns the places"),
        (nn.Sequential(nn.Conv2d(1, 1, 1), shared()), r"^1\.0: is called on features of several strides"),
    ],
)
def test_layers_without_a_dilated_form_are_refused(network: nn.Module, words: str) -> None:
    with pytest.raises(UnsupportedError, match=words):
        dilate(network, 1)


@pytest.mark.parametrize(
    ("output_stride", "words"),
    [
        (0, "output_stride=0: expected a whole number from 1 on, or 2 of them"),
        ((1, 2, 3), "expected a whole number from 1 on, or 2 of them"),
        (4, "output_stride='4x4': no stride is above it, the largest is 4x4; expected less"),
        (3, "output_stride='3x3': the stride at 1 goes from 2x2 to 4x4; expected a number that divides"),
    ],
)
def test_mistakes_are_one_line(output_stride: Any, words: str) -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 2, 2), nn.MaxPool2d(2))
    with pytest.raises(UsageError, match=words):
        dilate(network, output_stride)


def test_an_example_is_needed_where_none_can_be_guessed() -> None:
    with pytest.raises(UsageError, match="example_inputs: is missing"):
        dilate(nn.MaxPool2d(2), 1)
    image = torch.rand(1, 1, 8, 8)
    dense = dilate(nn.MaxPool2d(2), 1, example_inputs=image)
    assert torch.equal(dense(image)[..., ::2, ::2], F.max_pool2d(image, 2))


def test_a_mean_that_is_divided_by_a_number_of_its_own() -> None:
    network = nn.Sequential(nn.AvgPool3d(2, divisor_override=3), nn.AvgPool3d((1, 2, 3), divisor_override=5)).double()
    image = torch.rand(1, 2, 8, 9, 13, dtype=torch.float64)
    dense = dilate(network, 1, example_inputs=image)(image)
    torch.testing.assert_close(dense[..., ::2, ::4, ::6], network(image))


def test_a_convolution_that_computes_its_own_padding_is_found_out() -> None:
    class Same(nn.Conv2d):
        """Pads as TensorFlow does: more at the end, by its stride."""

        def forward(self, input: Tensor) -> Tensor:
            return super().forward(F.pad(input, (0, self.stride[0] - 1) * 2))

    network = nn.Sequential(nn.Conv2d(1, 1, 1), Same(1, 1, 2, 2), nn.Conv2d(1, 1, 3, padding=1))
    with pytest.raises(CheckFailed, match="the dilated network"):
        dilate(network, 1, example_inputs=torch.rand(1, 1, 9, 9))
