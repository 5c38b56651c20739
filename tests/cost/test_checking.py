"""fvcore's count of convolutions and products beside ours."""

import sys

import pytest
import torch
from torch import nn

from ranp import cost, models
from ranp.errors import MissingExtra, UnsupportedError

NETWORKS = [
    (nn.Sequential(nn.Conv2d(4, 8, 3, groups=2), nn.ConvTranspose2d(8, 6, 3, stride=2, groups=2)), (2, 4, 9, 9)),
    (nn.Sequential(nn.Conv1d(3, 6, 3, groups=3), nn.Flatten(), nn.Linear(30, 2)), (1, 3, 7)),
    (models.build("unet3d", base_width=4, depth=3), (1, 1, 8, 8, 8)),
]


@pytest.mark.parametrize(("network", "shape"), NETWORKS)
def test_both_count_the_same(network: nn.Module, shape: tuple[int, ...]) -> None:
    pytest.importorskip("fvcore")
    found = cost.cross_check(network, torch.zeros(shape))
    assert found.agree
    assert found.ranp == found.fvcore > 0
    assert network.training  # as it was


def test_keyword_inputs_and_a_missing_package_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnsupportedError, match="positional"):
        cost.cross_check(nn.Linear(2, 2), {"input": torch.zeros(1, 2)})
    monkeypatch.setitem(sys.modules, "fvcore.nn", None)
    with pytest.raises(MissingExtra, match=r"ranp\[peers\]"):
        cost.cross_check(nn.Linear(2, 2), torch.zeros(1, 2))
