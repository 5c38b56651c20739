"""Superpixels and what surrounds them, against loops over pixels."""

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ranp import models
from ranp.models.networks.zoomout import blocks, scene_boxes

SETTINGS = {"width": 2, "hidden": 8, "units": 8, "classes": 3, "side": 32}


def network(**settings: object) -> nn.Module:
    """In float64, with weights through which something is left of the image after thirteen layers."""
    made = models.build("zoomout", **SETTINGS, **settings).double().eval()
    for layer in made.modules():
        if isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            nn.init.normal_(
                layer.weight, 0, (2 / layer.weight[0].numel()) ** 0.5, generator=torch.Generator().manual_seed(3)
            )
    return made


def numbered(height: int, width: int, count: int, seed: int) -> torch.Tensor:
    return torch.randint(count, (height, width), generator=torch.Generator().manual_seed(seed))


def test_features_are_as_many_as_published() -> None:
    with torch.device("meta"):
        assert models.build("zoomout", scenes=True).classifier[0].in_channels == 12416


def test_features_are_means_of_each_layer_over_the_superpixel() -> None:
    net = network(superpixels=2)
    image = torch.randn(2, 3, 16, 17, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    superpixels = torch.stack([numbered(16, 17, 3, 1), numbered(16, 17, 4, 2)])  # the first has no fourth
    given: list[torch.Tensor] = []
    net.classifier.register_forward_pre_hook(lambda _, args: given.append(args[0]))
    layers: list[torch.Tensor] = []
    for stage in net.stages:
        for layer in stage:
            if isinstance(layer, nn.ReLU):
                layer.register_forward_hook(lambda _, __, out: layers.append(out.clone()))
    scores = net(image, superpixels)
    local = [F.interpolate(out, size=(16, 17), mode="bilinear") for out in layers[:13]]
    for sample in range(2):
        for number in range(4):
            inside = superpixels[sample] == number
            got = given[0][sample, :-8, number]
            if not inside.any():
                assert (got == 0).all()
                continue
            assert torch.allclose(got, torch.cat([out[sample][:, inside].mean(1) for out in local]), rtol=0, atol=1e-12)
            assert torch.equal(scores[sample][:, inside].amax(1), scores[sample][:, inside].amin(1))
    assert torch.equal(given[0][:, -8:, 0], given[0][:, -8:, 3])  # the whole image is the same to all


def test_blocks_divide_the_image_evenly() -> None:
    numbers = blocks((4, 6), 2, torch.device("cpu"))
    assert numbers.tolist() == [[0, 0, 0, 1, 1, 1]] * 2 + [[2, 2, 2, 3, 3, 3]] * 2
    assert blocks((7, 5, 3), 3, torch.device("cpu")).unique().numel() == 27


def reached(superpixels: torch.Tensor, start: int, steps: int) -> set[int]:
    """Superpixels within some steps, by walking."""
    height, width = superpixels.shape
    found = {start}
    for _ in range(steps):
        more = set(found)
        for y in range(height):
            for x in range(width):
                here = int(superpixels[y, x])
                for other in neighbours(superpixels, y, x):
                    if here in found:
                        more.add(other)
        found = more
    return found


def neighbours(superpixels: torch.Tensor, y: int, x: int) -> Iterator[int]:
    for down, right in ((0, 1), (1, 0), (0, -1), (-1, 0)):
        if 0 <= y + down < superpixels.shape[0] and 0 <= x + right < superpixels.shape[1]:
            yield int(superpixels[y + down, x + right])


@given(st.integers(1, 5), st.integers(1, 6), st.integers(1, 7), st.integers(0, 3), st.integers(0, 2**31))
def test_a_scene_is_the_box_around_what_is_within_some_steps(
    height: int, width: int, count: int, steps: int, seed: int
) -> None:
    superpixels = numbered(height, width, count, seed)
    low, high = scene_boxes(superpixels[None], count, steps)
    for number in range(count):
        if not (superpixels == number).any():
            assert (low[0, number].tolist(), high[0, number].tolist()) == ([0, 0], [height, width])
            continue
        inside = torch.zeros_like(superpixels, dtype=torch.bool)
        for other in reached(superpixels, number, steps):
            inside |= superpixels == other
        places = inside.nonzero()
        assert low[0, number].tolist() == places.amin(0).tolist()
        assert high[0, number].tolist() == (places.amax(0) + 1).tolist()


@pytest.mark.parametrize("dims", [2, 3])
def test_a_scene_is_cut_out_of_the_image(dims: int) -> None:
    """Of eight superpixels in a row the first sees the first four, three steps far, and the last the last four."""
    net = network(superpixels=3, scenes=True, spatial_dims=dims)
    size = (64, 32, 32)[:dims]
    image = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows = torch.arange(64).view(-1, *[1] * (dims - 1)).expand(size) // 8  # superpixels 0 to 7, 8 rows each
    scenes = net._scenes(image, rows[None], 9)
    first = net._seen(image[:, :, :32])[..., 0]  # 32 pixels wide already: sampling is copying
    last = net._seen(image[:, :, 32:])[..., 0]
    assert torch.allclose(scenes[:, :, 0], first, rtol=0, atol=1e-12)
    assert torch.allclose(scenes[:, :, 7], last, rtol=0, atol=1e-12)
    assert not torch.allclose(first, last)
