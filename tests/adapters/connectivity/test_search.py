"""Searches small enough to be done here: gates part, the level with the label stays, nothing else is touched."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from encoders_of_connectivity import Classifier, image
from torch import Tensor, nn

from ranp.adapters.connectivity import FullyDenseDecoder, connect, search_
from ranp.errors import UsageError
from ranp.options import Training

STEPS = 300


class Planes(nn.Module):
    """Gives planes of the image itself, two at each of three sizes; each size knows nothing of the others' planes."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.mid, self.low = nn.Identity(), nn.AvgPool2d(2), nn.AvgPool2d(4)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the features of an image of six channels, the finest first."""
        return [self.fine(x[:, :2]), self.mid(x[:, 2:4]), self.low(x[:, 4:6])]


def labelled_by(level: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Images of noise in blocks of 4 x 4 pixels, and the sign of a plane that only one of the features has."""
    generator = torch.Generator().manual_seed(level)
    for _ in range(STEPS):
        x = F.interpolate(torch.randn(8, 6, 4, 4, generator=generator), scale_factor=4)
        yield x, (x[:, 2 * level] > 0).long()


def cross_entropy(logits: Any, target: Any) -> Tensor:
    return F.cross_entropy(logits, target)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_the_one_level_that_carries_the_label_stays(level: int) -> None:
    network = connect(Planes(), torch.zeros(2, 6, 16, 16), 2, width=8)
    training = Training(steps=STEPS, lr=0.02, weight_decay=0.0, warmup=0.0)
    found = search_(network, list(labelled_by(level)), cross_entropy, training, strength=0.1)
    taken = {source for sources in found.mask.kept.values() for source in sources if source.kind != "D"}
    assert {(source.kind, source.level) for source in taken} == {("E", 2 - level)}
    assert found.mask.gap is not None
    dropped, kept = found.mask.gap
    assert 10 * dropped <= kept
    assert found.trained.history.curve[-1]["loss"] < 0.9  # with the sparse loss; 0.69 alone is guessing


def few(count: int = 2) -> list[tuple[Tensor, Tensor]]:
    return [(image(), torch.zeros(2, 16, 16, dtype=torch.long))] * count


def test_norms_keep_their_parameters_in_a_search_and_can_be_trained_afterwards() -> None:
    network = connect(Classifier(), image(), 3, width=4)
    norm = network.get_submodule("encoder.encoder.layer1.0.norm")
    search_(network, few(), cross_entropy, Training(steps=2, lr=0.1))
    assert norm.weight.eq(1).all()
    assert norm.weight.requires_grad
    assert not network.get_submodule("encoder.encoder.layer1.0.first").weight.eq(0).all()


def test_rates_are_factors_of_parts() -> None:
    """A step of Adam is as long as the rate."""
    network = connect(Classifier(), image(), 3, width=4)
    assert isinstance(network.decoder, FullyDenseDecoder)
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    training = Training(steps=1, lr=0.01, weight_decay=0.0, warmup=0.0, clip=0.0, schedule="constant")
    search_(network, few(), cross_entropy, training, encoder_rate=0.0, gate_rate=5.0)
    moved = {name: float((p.detach() - before[name]).abs().max()) for name, p in network.named_parameters()}
    assert max(size for name, size in moved.items() if name.startswith("encoder.")) == 0
    assert max(size for name, size in moved.items() if ".gates." in name) == pytest.approx(0.05, rel=1e-3)
    assert moved["decoder.classifier.weight"] == pytest.approx(0.01, rel=1e-3)


def test_the_same_seed_finds_the_same() -> None:
    def gates() -> list[list[float]]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            encoder = Classifier()
        network = connect(encoder, image(), 3, width=4)
        search_(network, few(), cross_entropy, Training(steps=2, lr=0.1), seed=3)
        assert isinstance(network.decoder, FullyDenseDecoder)
        return network.decoder.values()

    assert gates() == gates()


def test_a_negative_strength_is_refused() -> None:
    with pytest.raises(UsageError, match="strength=-1: expected 0 or more"):
        search_(connect(Classifier(), image(), 3), few(), cross_entropy, Training(steps=1), strength=-1)
