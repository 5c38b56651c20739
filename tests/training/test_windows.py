"""Windows against MONAI's, and against what mirroring says by hand."""

from itertools import product

import pytest
import torch
from torch import Tensor, nn

from ranp.errors import UsageError
from ranp.training import Windows
from ranp.training._windows import slabs, windowed


def network(dims: int, classes: int = 3) -> nn.Module:
    torch.manual_seed(0)
    convolution = nn.Conv3d if dims == 3 else nn.Conv2d
    return nn.Sequential(convolution(2, 4, 3, padding=1), nn.ReLU(), convolution(4, classes, 3, padding=1)).double()


def image(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize(
    ("spatial", "patch"),
    [
        ((21, 13, 9), (8, 8, 8)), ((9, 13, 21), (8, 4, 8)), ((5, 6, 7), (8, 8, 8)), ((20, 5, 9), (8, 8, 4)),
        ((17, 30), (8, 16)), ((7, 7), (16, 8)), ((8, 8, 8), (8, 8, 8)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.75])
def test_the_result_is_monais(spatial: tuple[int, ...], patch: tuple[int, ...], overlap: float) -> None:
    from monai.inferers import sliding_window_inference

    net, volume = network(len(patch)), image(2, *spatial)
    with torch.no_grad():
        ours = windowed(volume, patch, net, Windows(overlap, batch=3))
        theirs = sliding_window_inference(volume[None], patch, 2, net, overlap=overlap, mode="gaussian")[0]
    assert ours.shape == (3, *spatial)
    torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-5)


def test_a_flat_patch_slides_over_every_slice() -> None:
    net, volume = network(2), image(2, 14, 11, 5)
    with torch.no_grad():
        whole = windowed(volume, (8, 8), net, Windows())
        each = [windowed(volume[..., k], (8, 8), net, Windows()) for k in range(5)]
    torch.testing.assert_close(whole, torch.stack(each, dim=-1), rtol=1e-5, atol=1e-6)


def test_slabs_follow_each_other_along_the_longest_axis_and_cover_it_once() -> None:
    with torch.no_grad():
        parts = list(slabs(image(2, 9, 30, 8), (8, 8, 8), network(3), Windows()))
    assert {part.axis for part in parts} == {1}
    places = [place for part in parts for place in range(part.start, part.start + part.scores.shape[2])]
    assert places == list(range(30))
    assert max(part.scores.shape[2] for part in parts) <= 8


def test_mirrored_windows_are_turned_back_and_averaged() -> None:
    net, window = network(3), image(2, 6, 6, 6)
    axes = [tuple(axis + 1 for axis in range(3) if on[axis]) for on in product((False, True), repeat=3)]
    with torch.no_grad():
        expected = torch.stack([net(window.flip(form)[None])[0].flip(form) for form in axes]).mean(0)
        given = windowed(window, (6, 6, 6), net, Windows(mirror=True))
    torch.testing.assert_close(given.double(), expected, rtol=1e-4, atol=1e-6)


def test_a_patch_of_more_dimensions_is_refused() -> None:
    with pytest.raises(UsageError, match=r"patch='8x8x8': the case has 2 dimensions"):
        windowed(image(2, 9, 9), (8, 8, 8), network(3), Windows())
