"""The latency measurement's bookkeeping; no time is asserted."""

import torch
from torch import Tensor, nn

from ranp import cost


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[bool] = []

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append(self.training or torch.is_grad_enabled())
        return x


def test_warm_up_runs_are_not_measured_and_the_mode_is_restored() -> None:
    model = Counting()
    found = cost.measure_latency(model, torch.zeros(1), runs=4)
    assert found.runs == 4
    assert len(model.calls) == 7
    assert not any(model.calls)
    assert model.training
    assert 0 <= found.fastest_ms <= found.median_ms


def test_a_slow_network_is_measured_at_least_once() -> None:
    found = cost.measure_latency(Counting(), {"x": torch.zeros(1)}, seconds=0.0)
    assert (found.runs, found.device) == (1, "cpu")
