import pytest
import torch
from torch import nn

from ranp import models
from ranp.errors import UsageError
from ranp.models.registry import BuiltIn, register

pytestmark = pytest.mark.usefixtures("typed")  # messages are those of the command line


def test_names_are_the_papers_networks_and_the_dense_ones() -> None:
    assert models.names() == [
        "colourisation",
        "context",
        "deconvnet",
        "deeplab",
        "eigen-fergus",
        "fcn16s",
        "fcn32s",
        "fcn8s",
        "fpn",
        "hypercolumns",
        "i3d",
        "maskrcnn",
        "mobilenetv2-3d",
        "panoptic-fpn",
        "psm",
        "segnet",
        "ubernet",
        "unet2d",
        "unet3d",
        "zoomout",
    ]


def test_a_name_is_registered_once() -> None:
    with pytest.raises(AssertionError, match="unet3d"):
        register("unet3d", spatial=(8, 8, 8))(nn.Identity)
    assert isinstance(models.built_in("unet3d"), BuiltIn)


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        (("unet3",), {}, "MODEL unet3: .*did you mean 'unet3d'"),
        (("unet3d", "brats15"), {}, "--preset brats15.*did you mean 'brats-15'"),
        (("unet2d", "brats-15"), {}, "--preset brats-15: unet2d has no presets"),
        (("unet3d",), {"in_chanels": 1}, "--set in_chanels.*did you mean 'in_channels'"),
        (("unet3d",), {"classes": "four"}, "--set classes='four': unet3d expects int"),
        (("unet3d",), {"classes": True}, "--set classes=True: unet3d expects int"),
        (("unet3d",), {"depth": 0}, "--set depth=0.*positive"),
        (("unet3d",), {"softmax": 1}, "--set softmax=1: unet3d expects bool"),
        (("i3d",), {"pool": [2, 7]}, "--set pool=.*expects tuple"),
        (("mobilenetv2-3d",), {"width": "wide"}, "--set width='wide'.*float"),
        (("deeplab",), {"output_stride": 4}, "--set output_stride=4: deeplab expects 16 or 8"),
        (("context",), {"kind": "vast"}, "--set kind='vast': context expects"),
        (("eigen-fergus",), {"coarse": [0, 3]}, r"--set coarse=\[0, 3\]: eigen-fergus expects a height and a width"),
        (
            ("hypercolumns",),
            {"taps": [2, 7]},
            r"--set taps=\[2, 7\]: hypercolumns expects different levels from 1 to 6",
        ),
        (("hypercolumns",), {"taps": [2, 2]}, r"--set taps=\[2, 2\]: hypercolumns expects different"),
        (("segnet",), {"spatial_dims": 4}, "--set spatial_dims=4: segnet expects 1, 2 or 3"),
        (("ubernet",), {"tasks": []}, r"--set tasks=\[\]: ubernet expects the channels of each task"),
        (("ubernet",), {"scales": [1.0, 0.0]}, r"--set scales=\[1.0, 0.0\]: ubernet expects factors"),
        (("zoomout",), {"side": 100}, "--set side=100: zoomout expects a multiple of 32"),
        (("zoomout",), {"spatial_dims": 1}, "--set spatial_dims=1: zoomout expects 2 or 3"),
        (("psm",), {"maxdisp": 100}, "--set maxdisp=100.*multiple of 16"),
    ],
)
def test_mistakes_are_named(arguments: tuple[str, ...], settings: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        models.build(*arguments, **settings)
    assert "\n" not in str(caught.value)


def test_settings_win_over_the_preset_and_it_over_the_defaults() -> None:
    settings = models.full_settings("unet3d", "brats-15", {"classes": 2})
    assert settings == {
        "in_channels": 4,
        "classes": 2,
        "base_width": 32,
        "depth": 4,
        "softmax": False,
        "upsampling": None,
    }


def test_the_seed_decides_the_weights_and_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    first, again, other = (models.build("unet3d", base_width=4, depth=2, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.final.weight, again.final.weight)
    assert not torch.equal(first.final.weight, other.final.weight)


def test_input_shapes() -> None:
    assert models.input_shapes("unet3d", {"in_channels": 2}, (8, 16, 24)) == [(2, 8, 16, 24)]
    assert models.input_shapes("psm") == [(3, 256, 512)] * 2
    assert models.input_shapes("maskrcnn", {"in_channels": 1}, (64, 32)) == [(1, 64, 32), (8, 4)]
    assert [models.spatial_dims(name) for name in ("psm", "i3d", "unet2d")] == [2, 3, 2]
    with pytest.raises(UsageError, match="--input 64x64: unet3d takes 3 spatial dimensions, got 2"):
        models.input_shapes("unet3d", {}, (64, 64))


def test_a_setting_says_the_dimensions_of_some() -> None:
    assert models.spatial_dims("segnet", {"spatial_dims": 3}) == 3
    assert models.input_shapes("segnet", {"spatial_dims": 3}) == [(3, 224, 224, 224)]
    assert models.input_shapes("segnet", {"spatial_dims": 1}, (64,)) == [(3, 64)]
    with pytest.raises(UsageError, match="--input 64x64: segnet takes 3 spatial dimensions, got 2"):
        models.input_shapes("segnet", {"spatial_dims": 3}, (64, 64))


def test_default_losses() -> None:
    words = [models.default_loss(*pair) for pair in [("unet3d",), ("unet3d", "brats-15"), ("psm",), ("i3d", "ucf101")]]
    assert words == ["ce", "ce-dice", "stereo", "ce"]


@pytest.mark.parametrize("name", ["unet3d", "unet2d"])
def test_a_depth_no_image_has_is_refused_before_anything_is_built(name: str) -> None:
    with pytest.raises(UsageError, match="--set depth=99: expected at most 12 levels"):
        models.build(name, depth=99)
