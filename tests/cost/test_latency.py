"""The latency measurement's bookkeeping, by a clock that moves only while the network runs."""

from collections.abc import Iterable

import pytest
import torch
from torch import Tensor, nn

from ranp import cost


class Timed(nn.Module):
    """Takes so many seconds in each call, by its own clock."""

    def __init__(self, seconds: Iterable[float]) -> None:
        super().__init__()
        self.calls: list[bool] = []
        self.now, self.seconds = 0.0, iter(seconds)

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append(self.training or torch.is_grad_enabled())
        self.now += next(self.seconds)
        return x


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Timed:
    model = Timed(request.param)
    monkeypatch.setattr("time.perf_counter", lambda: model.now)
    return model


@pytest.mark.parametrize("timed", [[0.25] * 3 + [share / 1024 for share in (8, 2, 16, 4)]], indirect=True)
def test_warm_up_runs_are_not_measured_and_the_mode_is_restored(timed: Timed) -> None:
    found = cost.measure_latency(timed, torch.zeros(1), runs=4)
    assert (found.median_ms, found.fastest_ms) == (1000 * 6 / 1024, 1000 * 2 / 1024)
    assert found.runs == 4
    assert len(timed.calls) == 7
    assert not any(timed.calls)
    assert timed.training


@pytest.mark.parametrize("timed", [[0.5] * 9], indirect=True)
@pytest.mark.parametrize(("seconds", "runs", "calls"), [(2.0, 2, 5), (1.25, 1, 3), (0.0, 1, 1)])
def test_a_slow_network_is_measured_at_least_once_and_not_beyond_its_time(
    timed: Timed, seconds: float, runs: int, calls: int
) -> None:
    found = cost.measure_latency(timed, {"x": torch.zeros(1)}, seconds=seconds)
    assert (found.runs, found.device, found.median_ms) == (runs, "cpu", 500.0)
    assert len(timed.calls) == calls
