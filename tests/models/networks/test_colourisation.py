"""The 313 colours, labels that stand for one, weights of rare ones, and the way back."""

import numpy as np
import pytest
import torch

from ranp.models.networks.colourisation import (
    annealed_mean,
    colours,
    rebalanced,
    rebalanced_cross_entropy,
    soft_labels,
)


def test_there_are_313_and_every_colour_of_a_screen_is_near_one() -> None:
    skimage = pytest.importorskip("skimage.color")
    centres = colours()
    assert centres.shape == (313, 2)
    assert torch.equal(centres, centres.unique(dim=0))
    edge = np.linspace(0, 1, 32)
    cube = np.stack(np.meshgrid(edge, edge, edge, indexing="ij"), axis=-1).reshape(-1, 1, 3)
    ab = torch.from_numpy(skimage.rgb2lab(cube)[:, 0, 1:])
    squares = {tuple(row) for row in (ab / 10).round().mul(10).tolist()}
    assert squares <= {tuple(row) for row in centres.tolist()}


def test_a_colour_is_shared_by_its_five_nearest_squares() -> None:
    ab = torch.tensor([3.0, -21.0], dtype=torch.float64)
    labels = soft_labels(ab.view(1, 2, 1, 1).expand(2, 2, 3, 4))
    assert labels.shape == (2, 313, 3, 4)
    assert torch.allclose(labels.sum(1), torch.ones((), dtype=torch.float64))
    apart = (colours() - ab).norm(dim=1)
    near = apart.argsort()[:5]
    weights = torch.exp(-apart[near].square() / 50)
    expected = torch.zeros(313, dtype=torch.float64).index_copy(0, near, weights / weights.sum())
    assert torch.allclose(labels[1, :, 2, 3], expected, rtol=0, atol=1e-12)


def test_weights_average_to_one_and_favour_what_is_rare() -> None:
    frequency = torch.tensor([0.9, 0.09, 0.01])
    weights = rebalanced(frequency)
    assert (frequency * weights).sum() == pytest.approx(1)
    by_hand = 1 / (0.5 * frequency + 0.5 / 3)
    assert torch.allclose(weights / weights[0], by_hand / by_hand[0])
    assert torch.allclose(rebalanced(torch.full((4,), 0.25)), torch.ones(4))


def test_cross_entropy_weighs_each_pixel_by_its_likeliest_class() -> None:
    logits = torch.randn(1, 3, 1, 2, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.2, 0.8]]).T.reshape(1, 3, 1, 2)
    weights = torch.tensor([1.0, 5.0, 3.0])
    log = logits.log_softmax(1)[0, :, 0]  # (3, 2)
    first, second = -(0.7 * log[0, 0] + 0.3 * log[1, 0]), -(0.2 * log[1, 1] + 0.8 * log[2, 1])
    assert rebalanced_cross_entropy(logits, labels, weights) == pytest.approx(float(first + 3 * second) / 2)


def test_the_way_back_goes_from_the_mode_to_the_mean() -> None:
    logits = torch.randn(2, 313, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mode = colours()[logits.argmax(1)].movedim(-1, 1)
    mean = torch.einsum("bchw,cx->bxhw", logits.softmax(1), colours())
    assert torch.allclose(annealed_mean(logits, 1e-3), mode, atol=1e-3)
    assert torch.allclose(annealed_mean(logits, 1.0), mean)
    assert annealed_mean(logits).shape == (2, 2, 2, 3)
