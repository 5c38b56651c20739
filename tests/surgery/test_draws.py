"""Networks that draw random numbers are compared draw by draw."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ranp
from ranp.surgery._draws import Draws, drawn_alike


class Sampler(nn.Module):
    """Draws for channels that can go, in every way PyTorch has, and a dropout that stays on."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = x + torch.randn_like(x) * self.second(x)
        x = F.dropout(x, 0.2, training=True) + torch.rand(x.shape) + x.new_empty(x.shape).normal_()
        out: Tensor = self.head(x)
        return out


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_what_is_drawn_for_channels_that_go_does_not_stop_the_proof(memory_format: torch.memory_format) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Sampler().to(memory_format=memory_format)  # type: ignore[call-overload]
    result = ranp.prune(net, torch.zeros(2, 1, 8, 8), rule="random", sparsity=0.4)
    assert result.report.units["kept"] < result.report.units["total"]
    assert result.report.verify["max_rel_diff"] < 1e-12


def test_a_draw_depends_on_its_number_alone() -> None:
    def run(width: int, draws: Draws) -> Tensor:
        with torch.random.fork_rng(devices=[]), draws:
            torch.rand(width)
            return torch.randn(3, width)

    wide, narrow = drawn_alike(lambda draws: run(4, draws), lambda draws: run(2, draws))
    assert torch.equal(wide[:, :2], narrow)
    assert len(set(narrow[:, 0].tolist())) == 3
    again, same = drawn_alike(lambda draws: run(4, draws), lambda draws: run(4, draws))
    assert torch.equal(again, same)
    assert len(set(again.ravel().tolist())) == 12
