"""Swapping the upsampling of whole networks: what is found, what is kept, what can still be done with them."""

import copy
import pickle
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from graph_zoo.checking import check, double, randomise
from monai.networks import nets
from torch import Tensor, nn

from ranp import models
from ranp.adapters.upsampling import CARAFE, FADE, FADELite, Feature, Upsampled, swap_upsampling
from ranp.errors import UsageError
from ranp.graph.build import trace


class Decoder(nn.Module):
    """A small network of a user's: two halvings, an `nn.Upsample` and a transposed convolution, sums of skips."""

    def __init__(self, up: nn.Module | None = None) -> None:
        super().__init__()
        self.first, self.second, self.third = (
            nn.Conv2d(1, 4, 3, 1, 1),
            nn.Conv2d(4, 6, 3, 2, 1),
            nn.Conv2d(6, 8, 3, 2, 1),
        )
        self.up1 = up if up is not None else nn.ConvTranspose2d(8, 6, 2, stride=2)
        self.mid = nn.Conv2d(6, 4, 3, 1, 1)
        self.up2 = nn.Upsample(scale_factor=2, mode="bilinear")
        self.last = nn.Conv2d(4, 2, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 1, H, W) to (B, 2, H, W), H and W multiples of 4."""
        a = self.first(x).relu()
        b = self.second(a).relu()
        deep = self.mid(self.up1(self.third(b).relu())).relu()
        return self.last(self.up2(deep)) + a[:, :2]  # type: ignore[no-any-return]


def image(*spatial: int, channels: int = 1) -> Tensor:
    return torch.randn((1, channels, *spatial), generator=torch.Generator().manual_seed(0))


def looked_at(model: nn.Module) -> dict[str, tuple[str | None, str]]:
    """Return the upsamplers by path: the feature each looks at, and what it does with it."""
    swapped = {path: module for path, module in model.named_modules() if isinstance(module, Upsampled)}
    return {
        path: (module.feature and module.feature.name, getattr(module.upsampler, "skip", "-"))
        for path, module in swapped.items()
    }


def test_upsample_and_transposed_convolutions_are_found_with_the_features_of_the_encoder() -> None:
    swapped = swap_upsampling(Decoder(), "fade", example_inputs=image(16, 16))
    assert looked_at(swapped) == {"up1": ("second", "gate"), "up2": ("first", "gate")}
    assert isinstance(swapped.up1.projection, nn.Conv2d)  # type: ignore[union-attr]
    assert swapped.up2.projection is None  # type: ignore[union-attr]


def test_the_features_are_those_the_encoder_computed() -> None:
    swapped: Any = swap_upsampling(Decoder(), "fade", example_inputs=image(16, 16))
    seen: dict[str, Tensor] = {}
    for name in ("up1", "up2"):
        getattr(swapped, name).upsampler.register_forward_pre_hook(
            lambda _module, args, name=name: seen.__setitem__(name, args[1])
        )
    x = image(20, 24)
    swapped(x)
    first = swapped.first(x)
    assert torch.equal(seen["up2"], first)
    assert torch.equal(seen["up1"], swapped.second(first.relu()))


def test_the_network_is_untouched_and_its_other_weights_are_kept() -> None:
    model = Decoder()
    before = copy.deepcopy(model.state_dict())
    swapped = swap_upsampling(model, "fade", example_inputs=image(16, 16))
    assert [type(model.up1), type(model.up2)] == [nn.ConvTranspose2d, nn.Upsample]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])
        if not name.startswith("up1"):
            assert torch.equal(swapped.state_dict()[name], tensor)


@pytest.mark.parametrize("groups", [1, 2])
def test_a_projection_holds_the_mean_of_a_transposed_convolution(groups: int) -> None:
    old = nn.ConvTranspose2d(8, 6, 2, stride=2, groups=groups)
    swapped: Any = swap_upsampling(Decoder(old), "fade", example_inputs=image(16, 16))
    x = image(5, 5, channels=8)
    blocks = old(x).unflatten(2, (5, 2)).unflatten(4, (5, 2)).mean((3, 5))
    torch.testing.assert_close(swapped.up1.projection(x), blocks)


def test_other_kernels_of_transposed_convolutions_keep_their_sum() -> None:
    old = nn.ConvTranspose2d(8, 6, 3, stride=2, padding=1, output_padding=1)
    swapped: Any = swap_upsampling(Decoder(old), "carafe", example_inputs=image(16, 16))
    inside = old(torch.ones(1, 8, 6, 6))[..., 2:-2, 2:-2].mean((2, 3))
    torch.testing.assert_close(swapped.up1.projection(torch.ones(1, 8, 1, 1))[..., 0, 0], inside)


@pytest.mark.parametrize(
    ("method", "kind", "settings"),
    [
        ("fade", FADE, {"embedding": 5, "bias": "paper"}),
        ("fade-lite", FADELite, {}),
        ("carafe", CARAFE, {"embedding": 5}),
    ],
)
def test_methods_and_their_settings(method: str, kind: type[nn.Module], settings: dict[str, Any]) -> None:
    swapped: Any = swap_upsampling(Decoder(), method, example_inputs=image(16, 16), kernel_size=3, **settings)
    for up in (swapped.up1, swapped.up2):
        assert type(up.upsampler) is kind
        assert up.upsampler.kernel_size == (3, 3)
        assert (up.feature is None) == (method == "carafe")
    assert swapped(image(16, 16)).shape == (1, 2, 16, 16)


def test_new_weights_follow_the_seed_alone() -> None:
    state = torch.random.get_rng_state()
    model = Decoder()
    torch.random.set_rng_state(state)
    first, again, other = (
        swap_upsampling(model, example_inputs=image(16, 16), seed=seed).state_dict() for seed in (1, 1, 2)
    )
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_only_what_is_named_is_replaced() -> None:
    assert set(looked_at(swap_upsampling(Decoder(), example_inputs=image(16, 16), at="up2"))) == {"up2"}
    assert set(looked_at(swap_upsampling(Decoder(), example_inputs=image(16, 16), at=["up?"]))) == {"up1", "up2"}


def test_a_module_of_any_kind_can_be_named() -> None:
    shuffle = nn.Sequential(nn.Conv2d(8, 24, 1), nn.PixelShuffle(2))
    swapped: Any = swap_upsampling(Decoder(shuffle), example_inputs=image(16, 16), at="up1")
    assert looked_at(swapped) == {"up1": ("second", "gate")}
    assert (swapped.up1.projection.in_channels, swapped.up1.projection.out_channels) == (8, 6)


def test_features_can_be_named() -> None:
    skips = {"up2": "@0", "up1": "third@0"}
    swapped = swap_upsampling(Decoder(), example_inputs=image(16, 16), skips=skips)
    assert looked_at(swapped) == {"up1": ("third@0", "gate"), "up2": ("@0", "none")}
    gated: Any = swap_upsampling(Decoder(), example_inputs=image(16, 16), skips=skips, skip="gate")
    assert gated.up2.upsampler.aligner.conv.in_channels == 1
    assert "feature='@0'" in str(gated.up2)


def test_modes_devices_and_types_are_those_of_the_network() -> None:
    model = Decoder().double().train()
    model.up2.eval()
    swapped: Any = swap_upsampling(model, example_inputs=image(16, 16).double())
    assert all(parameter.dtype == torch.float64 for parameter in swapped.parameters())
    assert swapped.training
    assert swapped.up1.upsampler.training
    assert not swapped.up2.upsampler.training


U_NETS: list[tuple[str, nn.Module, Sequence[int], dict[str, tuple[str, str]]]] = [
    (
        "unet2d",
        models.build("unet2d", in_channels=1, classes=2, base_width=4, depth=3),
        (21, 16),
        {"decoder.0.upsample": ("decoder.0@0", "gate"), "decoder.1.upsample": ("decoder.1@0", "gate")},
    ),
    (
        "unet3d",
        models.build("unet3d", in_channels=1, classes=2, base_width=4, depth=3),
        (8, 11, 8),
        {"decoder.0.upsample": ("decoder.0@0", "none"), "decoder.1.upsample": ("decoder.1@0", "none")},
    ),
    (
        "BasicUNet",
        nets.BasicUNet(2, 1, 2, (4, 4, 8, 8, 16, 4)),
        (32, 32),
        {
            "upcat_4.upsample.deconv": ("upcat_4@1", "gate"),
            "upcat_3.upsample.deconv": ("upcat_3@1", "none"),
            "upcat_2.upsample.deconv": ("upcat_2@1", "gate"),
            "upcat_1.upsample.deconv": ("upcat_1@1", "gate"),
        },
    ),
    (
        "UNet",
        nets.UNet(2, 1, 2, (4, 8, 16), (2, 2), num_res_units=2),
        (16, 16),
        {"model.1.submodule.2.0.conv": ("model.0", "gate"), "model.2.0.conv": ("@0", "none")},
    ),
    (
        "SegResNet",
        nets.SegResNet(3, 8, 1, 2, blocks_down=(1, 1, 1), blocks_up=(1, 1)),
        (8, 8, 8),
        {
            "up_samples.0.1.upsample_non_trainable": ("down_layers.1", "gate"),
            "up_samples.1.1.upsample_non_trainable": ("down_layers.0", "gate"),
        },
    ),
    (
        "DynUNet",
        nets.DynUNet(2, 1, 2, [3, 3, 3], [1, 2, 2], [2, 2], filters=[4, 8, 16]),
        (16, 16),
        {
            "upsamples.0.transp_conv.conv": ("upsamples.0@1", "gate"),
            "upsamples.1.transp_conv.conv": ("upsamples.1@1", "gate"),
        },
    ),
]


@pytest.mark.parametrize(("name", "model", "spatial", "expected"), U_NETS, ids=[case[0] for case in U_NETS])
def test_u_nets_swap_and_then_prune_exactly(
    name: str, model: nn.Module, spatial: Sequence[int], expected: dict[str, tuple[str, str]]
) -> None:
    x = image(*spatial)
    swapped = randomise(swap_upsampling(model.eval(), example_inputs=x, kernel_size=3, embedding=5)).double().eval()
    assert looked_at(swapped) == expected
    assert swapped(x.double()).shape == model(x).shape
    inputs = double((x,))
    check(trace(swapped, inputs), swapped, inputs, 0.5, seed=0)


@pytest.mark.parametrize("method", ["fade-lite", "carafe"])
def test_built_ins_by_setting(method: str) -> None:
    small: dict[str, Any] = {"in_channels": 1, "classes": 2, "base_width": 4, "upsampling": method}
    flat, again = (models.build("unet2d", depth=3, seed=3, **small) for _ in range(2))
    other = models.build("unet2d", depth=3, seed=4, **small)
    deep = models.build("unet3d", depth=2, **small)
    assert flat(image(16, 16)).shape == (1, 2, 16, 16)
    assert deep(image(8, 8, 8)).shape == (1, 2, 8, 8, 8)
    assert len(looked_at(flat)) == 2
    assert len(looked_at(deep)) == 1
    assert all(torch.equal(a, b) for a, b in zip(flat.parameters(), again.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(flat.parameters(), other.parameters(), strict=True))


def test_copies_and_pickles_carry_their_own_hooks() -> None:
    swapped: Any = swap_upsampling(Decoder(), example_inputs=image(16, 16))
    x, y = image(16, 16), image(20, 16)
    expected = swapped(x), swapped(y)
    for other in (copy.deepcopy(swapped), pickle.loads(pickle.dumps(swapped))):
        assert other.up1.feature is not swapped.up1.feature
        assert torch.equal(other(y), expected[1])
        assert torch.equal(swapped(x), expected[0])
        nn.init.zeros_(other.first.weight)
        assert torch.equal(swapped(x), expected[0])


def test_an_interrupted_run_leaves_nothing_in_the_next_or_in_copies() -> None:
    swapped: Any = swap_upsampling(Decoder(), example_inputs=image(16, 16))
    expected = swapped(image(16, 16))
    handle = swapped.third.register_forward_pre_hook(_interrupt)
    with pytest.raises(KeyboardInterrupt):
        swapped(image(24, 24).requires_grad_())
    handle.remove()
    assert torch.equal(copy.deepcopy(swapped)(image(16, 16)), expected)
    assert torch.equal(swapped(image(16, 16)), expected)


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def test_a_swapped_network_compiles_and_exports() -> None:
    swapped = swap_upsampling(Decoder(), example_inputs=image(16, 16)).eval()
    x = image(16, 20)
    expected = swapped(x)
    compiled = torch.compile(copy.deepcopy(swapped), backend="aot_eager")
    torch.testing.assert_close(compiled(x), expected)
    program = torch.export.export(copy.deepcopy(swapped), (x,))
    torch.testing.assert_close(program.module()(x), expected)


class Shared(nn.Module):
    """One stateless module for two levels, as is often written."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.up = nn.Conv2d(1, 4, 3, 4, 1), nn.Upsample(scale_factor=2)
        self.idle = nn.Upsample(scale_factor=2)

    def forward(self, x: Tensor) -> Tensor:
        """Upsample twice."""
        return self.up(self.up(self.conv(x)))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("model", "arguments", "text"),
    [
        (Shared(), {"at": "up"}, "up: expected to run once in a forward, ran 2 times; give each call a module of its"),
        (Shared(), {"at": "idle"}, "idle: expected to run once in a forward, ran 0 times; leave it out of at="),
        (Decoder(), {"method": "fad"}, "method='fad': expected one of fade, fade-lite, carafe; did you mean 'fade'"),
        (Decoder(), {"at": "up3"}, "at='up3': matches no module; did you mean 'up"),
        (Decoder(), {"skips": {"up3": "first"}}, "skips: 'up3' is none of the upsamplers up1, up2; did you mean 'up"),
        (Decoder(), {"skips": {"up2": "frist"}}, "skips: 'frist': no such module; did you mean 'first'"),
        (Decoder(), {"skips": {"up2": "second"}},
         r"skips: second for up2: expected a feature of size 16 x 16, got \(1, 6, 8, 8\)"),
        (Decoder(), {"skips": {"up1": "last"}}, r"skips: last for up1: expected a feature of size 8 x 8, got None"),
        (Decoder(), {"skips": {"up1": "first@3"}}, r"skips: first@3 for up1: .* got None"),
        (Decoder(), {"kernel": 3}, "kernel=: 'fade' takes the settings .*; did you mean 'kernel_size'"),
        (Decoder(), {"method": "carafe", "bias": "code"}, "bias=: 'carafe' takes the settings"),
        (Decoder(), {"method": "carafe", "skips": {"up2": "first"}}, "skips=: 'carafe' looks at no feature"),
        (Decoder(), {"method": "carafe", "skip": "gate"}, "skip=: 'carafe' looks at no feature"),
        (Decoder(), {"kernel_size": 4}, "kernel_size=4: expected odd numbers"),
        (Decoder(), {"at": "first"}, "first: expected a module that upsamples by a whole number, got sizes 16 x 16 "),
        (nn.Sequential(nn.Conv2d(1, 2, 3, 1, 1), nn.Upsample(scale_factor=2.5)), {},
         "1: expected a module that upsamples by a whole number, got sizes 16 x 16 -> 40 x 40"),
        (nn.Conv2d(3, 2, 3), {}, "example_inputs: the network does not run: RuntimeError: .*channels"),
        (nn.Sequential(nn.Conv2d(1, 2, 3)), {}, "no nn.Upsample or strided transposed convolution; name modules"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(model: nn.Module, arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=text) as caught:
        swap_upsampling(model, example_inputs=image(16, 16), **arguments)
    assert "\n" not in str(caught.value)


def test_a_feature_that_is_not_there_is_said() -> None:
    feature = Feature("encoder.2", None)
    with pytest.raises(UsageError, match=r"encoder.2: expected to give a tensor .*, got nothing: it has not run"):
        feature.take()
    feature.keep_output(nn.Identity(), (), (torch.zeros(1),))
    with pytest.raises(UsageError, match="got a tuple"):
        feature.take()


def test_what_comes_before_the_network_is_no_feature_of_its_encoder() -> None:
    inside = nn.Sequential(nn.BatchNorm2d(1), Decoder())
    assert looked_at(swap_upsampling(inside, example_inputs=image(16, 16))) == {
        "1.up1": ("1.second", "gate"),
        "1.up2": ("1.first", "gate"),
    }


def test_levels_of_our_own_u_nets_are_named_by_the_module_they_get() -> None:
    model = models.build("unet3d", base_width=4, depth=3)
    for at in ("decoder.1.upsample", "*.1.upsample"):
        swapped = swap_upsampling(model, example_inputs=image(8, 8, 8), at=at, kernel_size=3)
        assert set(looked_at(swapped)) == {"decoder.1.upsample"}


def test_a_network_that_reads_values_is_run_on_real_ones() -> None:
    class Reading(Decoder):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x if float(x.sum()) > 0 else -x)

    swapped = swap_upsampling(Reading(), example_inputs=image(16, 16))
    assert set(looked_at(swapped)) == {"up1", "up2"}
