"""Scores and skips lie over the pixels they are of, and the weights are as many as the layers say."""

import pytest
import torch
from torch import nn

from ranp import models

STRIDES = {"fcn32s": 32, "fcn16s": 16, "fcn8s": 8}


def linear_network(name: str) -> nn.Module:
    """A network in one dimension that sums what it sees: all weights one, mean instead of maximum."""
    network = models.build(name, in_channels=1, classes=1, width=1, hidden=1, spatial_dims=1, learned=False).eval()
    for stage in network.stages:
        stage[-1] = nn.AvgPool1d(2, ceil_mode=True)
    for parameter in network.parameters():
        parameter.data.fill_(float(parameter.dim() > 1))
    return network.double()


def middle_of_what_is_seen(network: nn.Module, places: range) -> float:
    """Mean over some pixels of the middle of what each sees, from that pixel."""
    image = torch.ones(1, 1, 1024, dtype=torch.float64, requires_grad=True)
    out = network(image)[0, 0]
    apart = []
    for place in places:
        (slope,) = torch.autograd.grad(out[place], image, retain_graph=True)
        seen = slope[0, 0].nonzero()[:, 0]
        apart.append(float(seen[0] + seen[-1]) / 2 - place)
    return sum(apart) / len(apart)


@pytest.mark.parametrize("name", STRIDES)
def test_what_a_pixel_sees_is_around_it(name: str) -> None:
    """The crops are right: over one stride the middles of what is seen average to the pixels themselves."""
    assert middle_of_what_is_seen(linear_network(name), range(480, 512)) == 0


@pytest.mark.parametrize(("name", "skip"), [("fcn16s", "score4"), ("fcn8s", "score4"), ("fcn8s", "score3")])
def test_so_is_what_each_skip_adds(name: str, skip: str) -> None:
    network = linear_network(name)
    for other in (network.classifier[-1], network.score4, network.score3):
        if other is not None and other is not getattr(network, skip):
            other.weight.data.zero_()
    assert middle_of_what_is_seen(network, range(480, 512)) == 0


def test_the_family_differs_by_its_scores_and_upsampling() -> None:
    with torch.device("meta"):
        counts = {
            (name, learned): sum(p.numel() for p in models.build(name, learned=learned).parameters())
            for name in STRIDES
            for learned in (True, False)
        }
    convolutions = 14_714_688  # VGG-16's thirteen
    trunk = convolutions + (512 * 49 + 1) * 4096 + (4096 + 1) * 4096 + (4096 + 1) * 21
    pool4, pool3 = (512 + 1) * 21, (256 + 1) * 21
    assert counts["fcn32s", False] == trunk
    assert counts["fcn16s", False] == trunk + pool4
    assert counts["fcn8s", False] == trunk + pool4 + pool3
    assert counts["fcn32s", True] - counts["fcn32s", False] == 21 * 21 * 64**2
    assert counts["fcn16s", True] - counts["fcn16s", False] == 21 * 21 * (4**2 + 32**2)
    assert counts["fcn8s", True] - counts["fcn8s", False] == 21 * 21 * (2 * 4**2 + 16**2)
