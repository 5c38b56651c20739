"""The module starts as the identity, and sees what the paper's table says."""

import pytest
import torch
from torch import nn

from ranp import models
from ranp.models.networks.context import WIDTHS, Context
from ranp.models.registry import seeded

SEEN = [3, 5, 9, 17, 33, 65, 67, 67]


def made(dims: int, channels: int, kind: str, noise: float) -> Context:
    with seeded(0):
        return Context(dims, channels, WIDTHS[kind], noise)


@pytest.mark.parametrize("kind", WIDTHS)
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_without_noise_it_hands_on_what_is_positive(kind: str, dims: int) -> None:
    x = torch.rand(2, 3, *(7, 6, 5)[:dims], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.allclose(made(dims, 3, kind, 0).double()(x), x, rtol=1e-12)


def test_with_noise_nearly_and_no_two_channels_are_alike() -> None:
    x = torch.rand(2, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    quiet, noisy = made(2, 3, "large", 0), made(2, 3, "large", 0.01)
    assert 0 < (noisy(x) - x).abs().max() < 0.5
    assert torch.equal(quiet[0].weight[0], quiet[0].weight[1])
    assert not torch.equal(noisy[0].weight[0], noisy[0].weight[1])


def test_noise_is_a_share_of_the_weight_it_stands_beside() -> None:
    layer = made(2, 21, "large", 0.02)[6]  # 168 channels of 84
    share = 21 / 168
    weight = layer.weight.detach()
    centre = weight[:, :, 1, 1]
    together = torch.arange(84) * 21 // 84 == (torch.arange(168) * 21 // 168)[:, None]
    assert (centre[together] == share).all()
    around = torch.cat([weight.flatten(2)[:, :, [0, 1, 2, 3, 5, 6, 7, 8]].flatten(), centre[~together]])
    assert around.std() == pytest.approx(0.02 * share, rel=0.02)
    assert float(around.mean()) == pytest.approx(0, abs=1e-4)


def test_the_field_of_view_grows_as_published() -> None:
    module = made(1, 1, "basic", 0).double()
    for parameter in module.parameters():
        parameter.data.fill_(float(parameter.dim() > 1))
    fields = []
    for end in [i + 1 for i, layer in enumerate(module) if isinstance(layer, nn.Conv1d)]:
        x = torch.ones(1, 1, 99, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(nn.Sequential(*list(module)[:end])(x)[0, 0, 49], x)
        fields.append(int((slope != 0).sum()))
    assert fields == SEEN


def test_weights_are_as_many_as_published() -> None:
    def weights(module: nn.Module) -> int:
        return sum(p.numel() for p in module.parameters() if p.dim() > 1)

    assert weights(made(2, 21, "basic", 0)) == 64 * 21**2
    pairs = [(1, 2), (2, 2), (2, 4), (4, 8), (8, 16), (16, 32), (32, 32)]
    assert weights(made(2, 21, "large", 0)) == (9 * sum(a * b for a, b in pairs) + 32) * 21**2


def test_the_front_end_keeps_an_eighth_of_the_resolution() -> None:
    with torch.device("meta"):
        network = models.build("context", kind="large")
        assert network.front(torch.zeros(1, 3, 224, 232)).shape == (1, 21, 28, 29)
