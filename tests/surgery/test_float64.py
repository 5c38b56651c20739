"""Networks that ask for float32 in their forward are compared in float64."""

import pytest
import torch
from torch import Tensor, nn

import ranp
from ranp.surgery._float64 import Doubles


class Casts(nn.Module):
    """Casts its features, makes tensors of the default type, and keeps one in a list and one as an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 3), nn.Linear(6, 2)
        self.kept, self.mix = [torch.full((1, 1, 6, 6), 2.0)], torch.eye(6)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x)).float() * self.kept[0]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            x = self.second(x)
        x = self.mix @ x.mean((2, 3)).to(torch.float32)[:, :, None]
        out: Tensor = self.head(x[:, :, 0] + torch.ones(1))
        return out


@pytest.mark.filterwarnings("ignore:In CPU autocast")
def test_casts_do_not_stop_the_proof() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Casts()
    result = ranp.prune(net, torch.zeros(2, 3, 8, 8), rule="random", sparsity=0.3)
    assert 0 < result.report.verify["max_rel_diff"] < 1e-12
    assert result.slim(torch.zeros(2, 3, 8, 8)).dtype == torch.float32


def test_types_inside_and_after() -> None:
    with torch.no_grad(), Doubles():
        made = torch.zeros(2), torch.ones(2).half(), torch.arange(2), torch.tensor([0.5])
    assert [each.dtype for each in made] == [torch.float64, torch.float64, torch.int64, torch.float64]
    assert torch.get_default_dtype() == torch.float32
