"""Words of the command line against the networks and shapes they mean."""

from typing import Any

import pytest
import torch

from ranp.errors import UsageError
from ranp.models.request import read_request, read_size
from ranp.options import read_pairs

pytestmark = pytest.mark.usefixtures("typed")  # messages are those of the command line


@pytest.mark.parametrize(
    ("model", "given", "shapes"),
    [
        ("unet3d", {}, ((1, 1, 64, 64, 64),)),
        ("unet3d", {"in_channels": 2, "size": "8x9x10", "batch": 3}, ((3, 2, 8, 9, 10),)),
        ("unet3d", {"preset": "brats-15"}, ((1, 4, 128, 128, 128),)),
        (
            "unet3d",
            {"preset": "brats-15", "size": "32", "settings": read_pairs(["in_channels=1"])},
            ((1, 1, 32, 32, 32),),
        ),
        ("psm", {"preset": "sceneflow"}, ((3, 3, 256, 512),) * 2),
        ("psm", {"preset": "sceneflow", "batch": 1, "size": "64"}, ((1, 3, 64, 64),) * 2),
        ("monai.networks.nets:UNet", {"settings": read_pairs(["spatial_dims=2", "in_channels=3"])}, ((1, 3, 64, 64),)),
        ("monai.networks.nets:UNet", {"in_channels": 2, "size": "16x8"}, ((1, 2, 16, 8),)),
        ("monai.networks.nets:UNet", {"size": "32"}, ((1, 1, 32, 32, 32),)),
    ],
)
def test_shapes(model: str, given: dict[str, Any], shapes: tuple[tuple[int, ...], ...]) -> None:
    asked = read_request(model, **given)
    assert asked.shapes == shapes
    assert [tuple(x.shape) for x in asked.inputs(device="meta")] == list(shapes)


def test_shorthands_reach_the_factory_and_inputs_follow_the_seed() -> None:
    asked = read_request("unet3d", in_channels=2, classes=3, settings={"base_width": 4, "depth": 2}, size="4")
    (x,) = asked.inputs(seed=1)
    assert asked.network()(x).shape == (1, 3, 4, 4, 4)
    assert torch.equal(x, asked.inputs(seed=1)[0])
    assert not torch.equal(x, asked.inputs(seed=2)[0])


@pytest.mark.parametrize(
    ("model", "given", "message"),
    [
        ("unet3", {}, "did you mean 'unet3d'"),
        ("unet3d", {"preset": "brats"}, "did you mean 'brats-15'"),
        ("unet3d", {"size": "64x64"}, "--input 64x64: expected 3 spatial dimensions, got 2"),
        ("unet3d", {"size": "0"}, "--input 0: expected a size"),
        ("unet3d", {"size": "big"}, "--input big: expected a size"),
        ("unet3d", {"batch": 0}, "--batch 0: expected a positive number"),
        ("unet3d", {"in_channels": -1}, "--in-channels -1: expected a positive number"),
        ("unet3d", {"settings": {"width": 3}}, "--set width: unet3d takes"),
        (
            "unet3d",
            {"settings": {"classes": 3}, "classes": 4},
            "--classes 4: --set classes=3 says otherwise",
        ),
        ("psm", {"classes": 4}, "--classes 4: psm has no setting classes"),
        ("monai.networks.nets:UNet", {"preset": "brats-15"}, "only built-ins have presets"),
        (
            "monai.networks.nets:UNet",
            {"settings": read_pairs(["spatial_dims=2"]), "size": "8x8x8"},
            "expected 2 spatial dimensions",
        ),
    ],
)
def test_mistakes_are_one_line(model: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_request(model, **given).network()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_values_are_yaml() -> None:
    assert read_pairs(["a=1", "b=[1, x]", "c=null", "d="]) == {"a": 1, "b": [1, "x"], "c": None, "d": None}
    assert read_size([4, 5]) == (4, 5)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["depth"], "--set depth: expected key=value"),
        (["depth=[1"], "the value is not plain YAML"),
        (["depth=3", "depth=4"], "depth is given twice"),
    ],
)
def test_pairs_that_are_none_are_refused(pairs: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_pairs(pairs)


def test_another_size_keeps_everything_else() -> None:
    asked = read_request("unet3d", in_channels=2, size="8x9x10", batch=3)
    assert asked.sized("16").shapes == ((3, 2, 16, 16, 16),)
    with pytest.raises(UsageError, match="--patch 8x8: expected 3 spatial dimensions"):
        asked.sized("8x8", "patch")
