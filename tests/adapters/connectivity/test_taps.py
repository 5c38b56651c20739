"""Where encoders of many kinds are tapped, and that nothing of the user's network changes."""

import copy

import pytest
import torch
from encoders_of_connectivity import Classifier, Pyramid, image
from hypothesis import given
from hypothesis import strategies as st
from monai.networks import nets
from torch import Tensor, nn

from ranp import models
from ranp.adapters.connectivity import Tap, Tapped, find_taps
from ranp.adapters.connectivity._taps import stride_of
from ranp.errors import UsageError


def names(taps: tuple[Tap, ...]) -> list[str]:
    return [str(tap) for tap in taps]


def channels(taps: tuple[Tap, ...]) -> list[int]:
    return [tap.channels for tap in taps]


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_the_last_feature_at_each_stride_is_found_and_no_block_is_cut(dims: int) -> None:
    taps = find_taps(Classifier(dims), image(dims))
    assert names(taps) == ["layer2/8", "layer1/4", "stem/2"]
    assert channels(taps) == [8, 6, 4]
    assert {tap.dims for tap in taps} == {dims}


def test_the_maps_that_an_encoder_returns_are_its_features() -> None:
    assert names(find_taps(Pyramid(), image())) == ["[2]/8", "[1]/4", "[0]/2"]


@pytest.mark.parametrize(
    ("encoder", "size", "expected"),
    [
        (lambda: models.build("unet2d", in_channels=1, base_width=2, depth=3), 32, [8, 4, 2]),
        (lambda: nets.BasicUNet(2, 1, 2, (2, 2, 4, 8, 16, 2)), 32, [16, 8, 4, 2, 2]),
        (lambda: nets.SegResNet(2, 8, 1, 2), 32, [64, 32, 16, 8]),
        (lambda: nets.resnet18(spatial_dims=2, n_input_channels=1, num_classes=3), 64, [512, 256, 128, 64, 64]),
        (lambda: nets.VNet(2, 1, 2), 32, [256, 128, 64, 32, 16]),
    ],
)
def test_networks_with_a_decoder_or_a_head_are_tapped_on_the_way_down(encoder, size, expected) -> None:
    network = encoder()
    taps = find_taps(network, image(size=size))
    assert channels(taps) == expected
    strides = [tap.stride[0] for tap in taps]
    assert strides == sorted(set(strides), reverse=True)
    tapped = Tapped(network, taps, image(size=size))
    assert sum(p.numel() for p in tapped.parameters()) < sum(p.numel() for p in network.parameters())


def test_anisotropic_strides_are_told_per_dimension() -> None:
    network = nets.DynUNet(3, 1, 2, [3, 3, 3], [1, (1, 2, 2), 2], [(1, 2, 2), 2])
    assert names(find_taps(network, image(3))) == ["bottleneck/2x4x4", "downsamples.0/1x2x2", "input_block/1"]


@given(st.integers(8, 600), st.integers(0, 5))
def test_strides_survive_sizes_that_they_do_not_divide(size: int, halvings: int) -> None:
    small = size
    for _ in range(halvings):
        small = -(-small // 2)
    if small > 1:
        assert stride_of((size,), (small,)) == (2**halvings,)


def test_features_are_those_that_the_encoder_computes_and_the_encoder_stays_as_it_was() -> None:
    encoder = Classifier().eval()
    before = copy.deepcopy(encoder.state_dict())
    taps = find_taps(encoder, image())
    tapped = Tapped(encoder, taps, image()).eval()
    features = tapped(image())
    stem = encoder.stem(image())
    first = encoder.layer1(stem)
    for level, expected in enumerate((encoder.layer2(first), first, stem)):
        torch.testing.assert_close(features[level], expected, rtol=0, atol=0)
    assert not encoder.layer2._forward_hooks
    again = models.build("unet2d", in_channels=1, base_width=2, depth=2)
    fewer = Tapped(again, find_taps(again, image()), image()).narrowed([0, 1], image())
    assert sorted(fewer(image())) == [0, 1]
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert not any("head" in name for name, _ in tapped.named_parameters())  # which no feature needs


def test_only_what_the_deepest_feature_needs_is_kept() -> None:
    encoder = Classifier()
    taps = find_taps(encoder, image())
    tapped = Tapped(encoder, taps, image(), [1, 2])
    assert sorted(tapped(image())) == [1, 2]
    assert not any("layer2" in name for name, _ in tapped.named_parameters())


def test_a_module_that_is_called_again_is_tapped_at_its_last_call_alone() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(1, 3, 3, 2, 1), nn.Conv2d(3, 5, 3, 2, 1)
            self.act = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.act(self.two(self.act(self.one(x))))  # type: ignore[no-any-return]

    encoder = Shared().eval()
    taps = find_taps(encoder, image())
    assert names(taps) == ["act/4", "one/2"]
    torch.testing.assert_close(Tapped(encoder, taps, image())(image())[0], encoder(image()), rtol=0, atol=0)


def test_what_a_forward_reads_without_running_it_is_left() -> None:
    class Reads(Classifier):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x * self.head.weight.mean())

    encoder = Reads()
    tapped = Tapped(encoder, find_taps(encoder, image()), image())
    assert any("head" in name for name, _ in tapped.named_parameters())
    assert len(tapped(image())) == 3


def test_a_tapped_encoder_can_do_with_fewer_features() -> None:
    encoder = Classifier()
    taps = find_taps(encoder, image())
    again = Tapped(encoder, taps, image()).narrowed([1, 2], image())
    assert sorted(again(image())) == [1, 2]
    assert not any("layer2" in name for name, _ in again.named_parameters())
    assert again(image())[1].equal(Tapped(encoder, taps, image())(image())[1])


def test_modules_may_be_named_and_share_a_stride() -> None:
    taps = find_taps(Classifier(), image(), at=["stem", "layer1.1", "layer1.0", "layer2"])
    assert names(taps) == ["layer2/8", "layer1.1/4", "layer1.0/4", "stem/2"]


@pytest.mark.parametrize(
    ("encoder", "at", "words"),
    [
        (Classifier(), ["stem", "layr1"], "no such module in the encoder.*did you mean 'layer1'"),
        (Classifier(), ["stem", "head"], "'head': gives .*; expected a map over 2 dimensions"),
        (Classifier(), ["stem", "stem.0"], "stem.0/2, stem/2|stem/2, stem.0/2; expected features .* at two strides"),
        (nn.Sequential(nn.Conv2d(1, 3, 3, padding=1)), None, "0/1; expected features .* at two strides"),
        (nn.Linear(3, 3), None, "encoder: does not run on the example"),
        (nn.Sequential(nn.Conv2d(1, 2, 2, 2), nn.Upsample(scale_factor=2)), ["0", "1"], "0/2 runs before 1/1"),
    ],
)
def test_what_makes_no_pyramid_is_refused_in_one_line(encoder: nn.Module, at: list[str] | None, words: str) -> None:
    with pytest.raises(UsageError, match=words) as refused:
        find_taps(encoder, image(), at)
    assert "\n" not in str(refused.value)


def test_a_tapped_encoder_may_be_tapped_from_outside() -> None:
    inner = Tapped(Classifier(), find_taps(Classifier(), image()), image()).eval()

    class Deepest(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x)[0]  # type: ignore[no-any-return]

    outer = Deepest()
    taps = find_taps(outer, image())
    tapped = Tapped(outer, taps, image())
    torch.testing.assert_close(tapped(image())[0], inner(image())[0], rtol=0, atol=0)
    assert sorted(tapped.narrowed([0, 2], image())(image())) == [0, 2]
