"""Every built-in at a small size: the output's shape, and a gradient for every parameter."""

from typing import Any

import pytest
import torch

from ranp import models

SMALL: list[tuple[str, dict[str, Any], tuple[int, ...], tuple[int, ...]]] = [
    ("colourisation", {"width": 2}, (17, 18), (313, 17, 18)),
    ("context", {"width": 2, "hidden": 8, "classes": 3}, (16, 17), (3, 16, 17)),
    ("deconvnet", {"width": 2, "hidden": 8, "classes": 3, "bottleneck": 2}, (65, 64), (3, 65, 64)),
    ("deeplab", {"width": 4, "classes": 3}, (64, 65), (3, 64, 65)),
    ("eigen-fergus", {"width": 4, "hidden": 8, "coarse": [2, 3]}, (32, 48), (4, 16, 24)),
    ("fcn16s", {"width": 2, "hidden": 8, "classes": 3}, (33, 32), (3, 33, 32)),
    ("fcn32s", {"width": 2, "hidden": 8, "classes": 3}, (33, 32), (3, 33, 32)),
    ("fcn8s", {"width": 4, "hidden": 8, "classes": 3}, (64, 65), (3, 64, 65)),
    ("fpn", {"width": 4, "classes": 3}, (64, 65), (3, 64, 65)),
    ("hypercolumns", {"width": 2, "hidden": 8, "classes": 3}, (33, 32), (3, 33, 32)),
    (
        "zoomout",
        {"width": 2, "hidden": 8, "units": 8, "classes": 3, "side": 32, "superpixels": 2},
        (16, 17),
        (3, 16, 17),
    ),
    ("segnet", {"width": 4, "classes": 3}, (64, 65), (3, 64, 65)),
    ("unet2d", {"base_width": 4, "classes": 3}, (32, 35), (3, 32, 35)),
    ("unet3d", {"base_width": 4, "depth": 3, "classes": 3}, (8, 9, 10), (3, 8, 9, 10)),
    ("mobilenetv2-3d", {"width": 0.1, "classes": 3}, (16, 32, 32), (3,)),
    ("i3d", {"width": 0.1, "classes": 3, "pool": [1, 2, 2]}, (8, 64, 64), (3,)),
]


@pytest.mark.parametrize(("name", "settings", "spatial", "expected"), SMALL)
def test_forward_and_backward(
    name: str, settings: dict[str, Any], spatial: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    network = models.build(name, **settings)
    (shape,) = models.input_shapes(name, settings, spatial)
    out = network(torch.randn(2, *shape, generator=torch.Generator().manual_seed(0)))
    out.square().mean().backward()
    assert out.shape == (2, *expected)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


IMAGES = [name for name, *_ in SMALL if models.spatial_dims(name) == 2]


@pytest.mark.parametrize("name", IMAGES)
def test_one_image_is_enough_to_train_on(name: str) -> None:
    _, settings, spatial, _ = next(entry for entry in SMALL if entry[0] == name)
    (shape,) = models.input_shapes(name, settings, spatial)
    loss = models.build(name, **settings).train()(torch.ones(1, *shape)).mean()
    assert loss.isfinite()


# fcn8s: the count commonly given for VGG-16's FCN-8s; segnet: 29.46 M in the paper's Table; unet2d: 31.03 M; deconvnet:
# 252 M and colourisation: 32 M as commonly given.
@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("fcn8s", 134.49),
        ("segnet", 29.46),
        ("unet2d", 31.04),
        ("deeplab", 39.05),
        ("fpn", 27.45),
        ("deconvnet", 251.79),
        ("colourisation", 32.24),
    ],
)
def test_published_size_of_the_2d_networks(name: str, millions: float) -> None:
    with torch.device("meta"):
        network = models.build(name)
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 2) == millions


def test_published_size_of_mask_rcnn() -> None:
    """torchvision's has 44,401,393 parameters: for 91 classes, without joints, frozen norms, with proposals."""
    with torch.device("meta"):
        network = models.build("maskrcnn", classes=91)
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    own = sum(p.numel() for p in network.parameters()) - sum(p.numel() for m in norms for p in m.parameters())
    proposals = 256 * 256 * 9 + 256 + (3 + 12) * 257
    assert own - sum(p.numel() for p in network.heads.keypoint.parameters()) == 44_401_393 - proposals


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("maskrcnn", {"keypoints": 2}, [(2, 3, 3), (2, 3, 12), (2, 3, 3, 28, 28), (2, 3, 2, 56, 56)]),
        ("panoptic-fpn", {"stuff": 5}, [(2, 5, 32, 40), (2, 3, 3), (2, 3, 12), (2, 3, 3, 28, 28)]),
    ],
)
def test_networks_of_boxes(name: str, settings: dict[str, Any], expected: list[tuple[int, ...]]) -> None:
    network = models.build(name, width=4, classes=3, **settings)
    generator = torch.Generator().manual_seed(0)
    low, size = torch.rand(2, 2, 3, 2, generator=generator)
    image = torch.randn(2, 3, 32, 40, generator=generator)
    with torch.no_grad():
        found = network.eval()(image, torch.cat([low / 2, low / 2 + size / 2], dim=-1))
        whole = network(image, torch.tensor([[[0.0, 0.0, 1.0, 1.0]] * 3] * 2))
    assert [tuple(each.shape) for each in found] == expected
    assert all(torch.allclose(each[:, 0], each[:, 2], atol=1e-6) for each in whole[-3:])
    assert not torch.allclose(found[-1], whole[-1], atol=1e-6)


@pytest.mark.parametrize("name", [*IMAGES, "ubernet"])
def test_the_2d_networks_take_a_width(name: str) -> None:
    with torch.device("meta"):
        narrow, full = models.build(name, width=16), models.build(name)
    widths = [next(m for m in net.modules() if isinstance(m, torch.nn.Conv2d)).out_channels for net in (narrow, full)]
    assert widths == [16, 64]


@pytest.mark.parametrize(
    ("name", "settings", "spatial"),
    [
        ("context", {}, (24, 16, 40)),
        ("deconvnet", {"bottleneck": 1}, (33, 32, 40)),
        ("fcn8s", {"learned": False}, (9, 10, 11)),
        ("fcn16s", {"learned": False}, (9, 10, 11)),
        ("fcn32s", {"learned": False}, (9, 10, 11)),
        ("hypercolumns", {"grid": 2}, (32, 33, 34)),
        ("segnet", {}, (33, 32, 40)),
        ("zoomout", {"side": 32, "units": 8, "superpixels": 2, "scenes": True}, (16, 17, 18)),
        ("ubernet", {"tasks": [3]}, (128, 129, 130)),
    ],
)
def test_one_definition_serves_any_number_of_dimensions(
    name: str, settings: dict[str, Any], spatial: tuple[int, ...]
) -> None:
    for dims in (1, 2, 3) if name != "zoomout" else (2, 3):
        given = {"width": 2, "spatial_dims": dims, **settings}
        given |= {} if name == "segnet" else {"hidden": 4}
        given |= {} if name == "ubernet" else {"classes": 3}
        (shape,) = models.input_shapes(name, given, spatial[:dims])
        with torch.device("meta"):
            out = models.build(name, **given)(torch.zeros(2, *shape))
        assert (out[0] if name == "ubernet" else out).shape == (2, 3, *spatial[:dims])


def test_softmax_runs_in_eval_only() -> None:
    network = models.build("unet3d", base_width=4, depth=2, softmax=True)
    volume = torch.randn(2, 1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(network.eval()(volume).sum(dim=1), torch.ones(2, 4, 4, 4))
    assert not torch.allclose(network.train()(volume).sum(dim=1), torch.ones(2, 4, 4, 4))


SMALL_PSM: dict[str, Any] = {"width": 4, "maxdisp": 16, "pools": [16, 8, 4, 2]}


class TestPSM:
    def pair(self) -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(0)
        return [torch.randn(2, 3, 64, 64, generator=generator) for _ in range(2)]

    def test_three_outputs_in_training_the_last_in_eval(self) -> None:
        network = models.build("psm", **SMALL_PSM)
        maps = network.train()(*self.pair())
        assert [tuple(m.shape) for m in maps] == [(2, 64, 64)] * 3
        sum(m.mean() for m in maps).backward()
        assert all(p.grad is not None for p in network.parameters())
        with torch.no_grad():
            last = network.eval()(*self.pair())
        assert last.shape == (2, 64, 64)
        assert 0 <= last.min() <= last.max() <= 15

    def test_the_cost_volume_pairs_left_pixels_with_shifted_right_ones(self) -> None:
        network = models.build("psm", **SMALL_PSM)
        left, right = torch.arange(8.0).view(1, 1, 1, 8), 10 + torch.arange(8.0).view(1, 1, 1, 8)
        volume = network._cost_volume(left, right)
        assert volume.shape == (1, 2, 4, 1, 8)
        assert volume[0, 0, 2, 0].tolist() == [0, 0, 2, 3, 4, 5, 6, 7]
        assert volume[0, 1, 2, 0].tolist() == [0, 0, 10, 11, 12, 13, 14, 15]
