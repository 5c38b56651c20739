"""CARAFE: against the usual pixel shuffle and unfold, its published sizes, and grids that are no whole multiple."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ranp.adapters.upsampling import CARAFE
from ranp.adapters.upsampling._carafe import shuffled
from ranp.errors import UsageError


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def made(channels: int = 4, **settings: Any) -> CARAFE:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        carafe = CARAFE(channels, embedding=6, **settings).double()
        torch.nn.init.normal_(carafe.content_encoder.weight)
    return carafe


def unfolded(carafe: CARAFE, x: Tensor, scale: int, size: int) -> Tensor:
    """Compute it as it is usually written: shuffle, softmax, and all neighbours of every position at once."""
    batch, channels, height, width = x.shape
    logits = F.pixel_shuffle(carafe.content_encoder(carafe.channel_compressor(x)), scale)
    neighbours = F.unfold(x, size, padding=size // 2).view(batch, channels * size**2, height, width)
    neighbours = F.interpolate(neighbours, scale_factor=scale, mode="nearest")
    neighbours = neighbours.view(batch, channels, size**2, height * scale, width * scale)
    return (neighbours * logits.softmax(1)[:, None]).sum(2)


@pytest.mark.parametrize(("scale", "size"), [(2, 5), (2, 3), (3, 3), (4, 1)])
def test_it_is_the_usual_form(scale: int, size: int) -> None:
    carafe, x = made(scale=scale, kernel_size=size), drawn(2, 4, 5, 3)
    torch.testing.assert_close(carafe(x), unfolded(carafe, x, scale, size), rtol=0, atol=1e-12)


def test_the_shuffle_is_pixel_shuffle_in_any_number_of_dimensions() -> None:
    x = drawn(2, 3 * 4, 5, 2)
    assert torch.equal(shuffled(x, 3, (2, 2)), F.pixel_shuffle(x, 2))
    volume = drawn(1, 2 * 2 * 3, 2, 4, 3)
    fine = shuffled(volume, 2, (1, 2, 3))
    assert fine.shape == (1, 2, 2, 8, 9)
    for c, a, b in [(0, 1, 2), (1, 0, 1)]:  # channel c, place (a, b) inside a block
        assert torch.equal(fine[:, c, :, a::2, b::3], volume[:, c * 6 + a * 3 + b])


def test_an_image_is_a_volume_of_one_slice() -> None:
    flat, deep = made(), made(dims=3, scale=(1, 2, 2), kernel_size=(1, 5, 5))
    content = torch.zeros_like(deep.content_encoder.weight)
    content[:, :, 1] = flat.content_encoder.weight.detach()
    state = flat.state_dict() | {
        "channel_compressor.weight": flat.channel_compressor.weight.detach()[..., None],
        "content_encoder.weight": content,
    }
    deep.load_state_dict(state)
    x = drawn(1, 4, 3, 5)
    torch.testing.assert_close(deep(x[:, :, None])[:, :, 0], flat(x), rtol=0, atol=1e-13)


@pytest.mark.parametrize(("channels", "parameters"), [(256, 74148), (128, 65956), (64, 61860)])
def test_parameters_are_as_many_as_published(channels: int, parameters: int) -> None:
    count = sum(p.numel() for p in CARAFE(channels).parameters())
    assert count == parameters == channels * 64 + 64 + 9 * 64 * 100 + 100


def test_an_odd_grid_takes_the_kernels_of_the_nearest_position() -> None:
    carafe, x = made(kernel_size=3), drawn(1, 4, 3, 3)
    whole = carafe(x)  # 6 x 6
    assert torch.equal(carafe(x, torch.zeros(1, 1, 6, 6)), whole)
    assert torch.equal(carafe(x, torch.zeros(1, 1, 5, 5)), whole[..., :5, :5])
    wider = carafe(x, torch.zeros(1, 1, 7, 7))
    place = torch.arange(7) * 6 // 7
    assert torch.equal(wider, whole[..., place, :][..., place])


def test_kernels_begin_as_a_mean() -> None:
    carafe = CARAFE(2, kernel_size=3, dims=1)
    x = torch.tensor([[[0.0, 3, 0, 0, 6, 0, 0]] * 2])
    assert torch.allclose(carafe(x), F.avg_pool1d(x, 3, 1, 1).repeat_interleave(2, 2), atol=0.05)


def test_gradients() -> None:
    carafe = made(channels=2, kernel_size=3)
    x = drawn(1, 2, 2, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, *_: carafe(x), (x, *carafe.parameters()))


def test_mistakes_are_one_line() -> None:
    with pytest.raises(UsageError, match="kernel_size=2: expected odd numbers, as 1 or 3"):
        CARAFE(4, kernel_size=2)
    with pytest.raises(UsageError, match=r"scale=\(2, 2, 2\): expected .*, or 2 of them"):
        CARAFE(4, scale=(2, 2, 2))
    with pytest.raises(UsageError, match=r"size 9 x 6 over a decoder of 3 x 3: .* expects 5..7 x 5..7; scale"):
        CARAFE(4)(torch.zeros(1, 4, 3, 3), torch.zeros(1, 1, 9, 6))
