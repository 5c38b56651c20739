import math

import pytest
import torch
from torch import nn

from ranp.errors import UsageError
from ranp.models.init import initialise_

pytestmark = pytest.mark.usefixtures("typed")  # messages are those of the command line


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(64, 128, 3, bias=False), nn.BatchNorm2d(128), nn.ConvTranspose2d(128, 32, 2), nn.Linear(256, 128)
    )


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_glorot_spreads() -> None:
    layers = network()
    before = layers[3].bias.clone()
    layers[1].bias.data.fill_(5.0)
    initialise_(layers, "glorot", generator())
    assert layers[0].weight.std().item() == pytest.approx(math.sqrt(2 / (9 * (64 + 128))), rel=0.02)
    assert layers[3].weight.std().item() == pytest.approx(math.sqrt(2 / (256 + 128)), rel=0.02)
    assert layers[1].weight.mean().item() == pytest.approx(1, abs=0.01)
    assert layers[1].weight.std().item() == pytest.approx(0.02, rel=0.2)
    assert layers[1].bias.abs().max() == 0
    assert layers[2].bias.std().item() == pytest.approx(1, rel=0.4)
    assert torch.equal(layers[3].bias, before)


def test_orthogonal_rows() -> None:
    layers = network()
    initialise_(layers, "orthogonal", generator())
    rows = layers[0].weight.flatten(1)
    assert torch.allclose(rows @ rows.T, torch.eye(128), atol=1e-5)


def test_keep_changes_nothing() -> None:
    layers = network()
    before = {key: value.clone() for key, value in layers.state_dict().items()}
    initialise_(layers, "keep", generator())
    assert all(torch.equal(value, before[key]) for key, value in layers.state_dict().items())


def test_only_the_generator_decides() -> None:
    first, second, state = network(), network(), torch.get_rng_state()
    for layers in (first, second):
        initialise_(layers, "glorot", generator(7))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(first[:3].parameters(), second[:3].parameters(), strict=True))


def test_parametrised_weights_change_too() -> None:
    layer = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3))
    before = layer.weight.detach().clone()
    initialise_(layer, "glorot", generator())
    assert not torch.allclose(layer.weight, before)


def test_unknown_scheme() -> None:
    with pytest.raises(UsageError, match=r"--init glorrot.*did you mean 'glorot'"):
        initialise_(network(), "glorrot", generator())  # type: ignore[arg-type]
