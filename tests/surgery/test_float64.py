"""Networks that ask for float32 in their forward are compared in float64."""

from collections.abc import Callable
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

import ranp
from ranp.surgery._float64 import Doubles


class Casts(nn.Module):
    """Casts its features, makes tensors of the default type, and keeps one in a list and one as an attribute."""

    seen: ClassVar[list[torch.dtype]] = []  # of the features after each cast, where they hold values

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 3), nn.Linear(6, 2)
        self.kept, self.mix = [torch.full((1, 1, 6, 6), 2.0)], torch.eye(6)

    def forward(self, x: Tensor) -> Tensor:
        x = self._see(torch.relu(self.first(x)).float()) * self.kept[0]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            x = self._see(self.second(x))
        x = self.mix @ self._see(x.mean((2, 3)).to(torch.float32))[:, :, None]
        out: Tensor = self.head(x[:, :, 0] + torch.ones(1))
        return out

    def _see(self, x: Tensor) -> Tensor:
        if not x.is_meta:
            self.seen.append(x.dtype)
        return x


@pytest.mark.filterwarnings("ignore:In CPU autocast")
def test_casts_do_not_stop_the_proof() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Casts()
    image = torch.zeros(2, 3, 8, 8)
    result = ranp.prune(net, image, rule="random", sparsity=0.3)
    assert result.report.verify["max_rel_diff"] < 1e-12
    Casts.seen.clear()
    assert ranp.verify(net, result.slim, result.plan, image, inputs=1).max_rel_diff < 1e-12
    assert Casts.seen == [torch.float64] * 3 * 2 * 2  # casts, in the masked and in the slim network, at two inputs
    Casts.seen.clear()
    assert result.slim(image).dtype == torch.float32
    assert Casts.seen == [torch.float32, torch.bfloat16, torch.float32]


def test_what_float32_can_not_hold_survives_every_cast() -> None:
    """1 + 2^-40 is 1 in float32, on any machine."""
    value = torch.tensor([1 + 2.0**-40], dtype=torch.float64)
    casts: list[Callable[[Tensor], Tensor]] = [
        Tensor.float,
        Tensor.half,
        lambda x: x.to(torch.bfloat16),
        lambda x: x.type_as(torch.zeros(1)),
    ]
    assert [float((cast(value).double() - 1) * 2**40) for cast in casts] == [0, 0, 0, 0]
    with torch.no_grad(), Doubles():
        assert [float((cast(value).double() - 1) * 2**40) for cast in casts] == [1, 1, 1, 1]


def test_types_inside_and_after() -> None:
    with torch.no_grad(), Doubles():
        made = torch.zeros(2), torch.ones(2).half(), torch.arange(2), torch.tensor([0.5])
    assert [each.dtype for each in made] == [torch.float64, torch.float64, torch.int64, torch.float64]
    assert torch.get_default_dtype() == torch.float32
