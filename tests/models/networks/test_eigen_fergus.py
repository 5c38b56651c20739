"""Depth and normals: what they are, the sizes of the three scales, and the losses by hand."""

import math

import pytest
import torch

from ranp import models
from ranp.models.networks.eigen_fergus import depth_and_normals, depth_loss, normals_loss


def test_normals_have_length_one_and_sizes_are_free() -> None:
    network = models.build("eigen-fergus", width=4, hidden=8, coarse=[2, 3]).eval()
    for size in ((32, 48), (47, 33)):
        out = network(torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0)))
        assert out.shape == (2, 4, math.ceil(size[0] / 2), math.ceil(size[1] / 2))
        assert torch.allclose(out[:, 1:].norm(dim=1), torch.ones(()), atol=1e-5)


def test_the_published_sizes() -> None:
    with torch.device("meta"):
        network = models.build("eigen-fergus")
        image = torch.zeros(1, 3, 228, 304)
        assert network.scale1.trunk(image).shape[2:] == network.scale1.seen == (7, 9)  # so that nothing is resampled
        assert network.scale1(image).shape == (1, 64, 14, 19)
        assert network.scale2[0].look(image).shape == (1, 96, 57, 76)
        assert network(image).shape == (1, 4, 114, 152)


def test_half_of_a_common_factor_is_forgiven() -> None:
    truth = torch.randn(2, 1, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert depth_loss(truth + 3, truth) == pytest.approx(9 - 0.5 * 9)


def test_depth_loss_by_hand() -> None:
    d = torch.tensor([[1.0, 2.0], [4.0, 0.0]])
    slopes = 1 + 16 + 9 + 4
    expected = 21 / 4 - 0.5 * (7 / 4) ** 2 + slopes / 4
    assert depth_loss(d[None, None], torch.zeros(1, 1, 2, 2)) == pytest.approx(expected)


def test_depth_that_is_not_known_does_not_count() -> None:
    d = torch.tensor([[1.0, 2.0], [4.0, 0.0]], requires_grad=True)
    truth = torch.tensor([[0.0, 0.0], [math.inf, 0.0]])
    loss = depth_loss(d[None, None], truth[None, None])
    assert loss.item() == pytest.approx(5 / 3 - 0.5 * 1 + (1 + 4) / 3)
    loss.backward()
    assert d.grad is not None
    assert d.grad.isfinite().all()
    assert d.grad[1, 0] == 0


def test_normals_loss_is_minus_the_cosine_where_it_is_known() -> None:
    truth = torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 0]]).T.reshape(1, 3, 1, 3)
    seen = torch.tensor([[1.0, 0, 0], [0.8, 0.6, 0], [0, 0, 1.0]]).T.reshape(1, 3, 1, 3)
    assert normals_loss(seen, truth) == pytest.approx(-(1 + 0.6) / 2)


def test_both_read_targets_at_the_size_of_the_image() -> None:
    out = torch.randn(2, 4, 3, 4, generator=torch.Generator().manual_seed(0))
    target = out.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    own = out.clone()
    own[:, 1:] = 0
    assert depth_and_normals(own, target) == pytest.approx(0)
    assert depth_and_normals(out, target) == pytest.approx(-float(out[:, 1:].square().sum(1).mean()), rel=1e-5)
