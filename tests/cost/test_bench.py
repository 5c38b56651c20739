"""What is measured runs as its setting says; nothing here is timed."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ranp import cost
from ranp.cost import Setting, Timing


class Spying(nn.Module):
    """Notes how it is run; copies of it note into the same list, which a hook of theirs would not."""

    seen: list[tuple[Any, ...]] = []  # noqa: RUF012  # the copies' too

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x)
        last = x.is_contiguous(memory_format=torch.channels_last)
        self.seen.append((last, y.dtype, torch.get_num_threads(), self.training, torch.is_grad_enabled()))
        return y


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("last", "amp", "dtype"), [(False, "off", torch.float32), (True, "bf16", torch.bfloat16)])
def test_a_network_runs_as_the_setting_says(last: bool, amp: Any, dtype: torch.dtype, training: bool) -> None:
    Spying.seen.clear()
    model, threads = Spying(), torch.get_num_threads()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    step = cost.Step() if training else None
    setting = Setting(last, amp, compile=False, threads=2)
    found = cost.time_setting(
        model, torch.randn(2, 3, 8, 8), step, setting, torch.device("cpu"), runs=4, seconds=float("inf")
    )
    assert found.runs == 4
    assert found.low_ms <= found.median_ms <= found.high_ms
    assert Spying.seen == [(last, dtype, 2, training, training)] * 7
    assert torch.get_num_threads() == threads
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_what_overlaps_is_not_clear() -> None:
    slow, near, fast = Timing(10, 9, 11, 5), Timing(8, 7, 9.5, 5), Timing(5, 4, 6, 5)
    assert fast.clearly_below(slow)
    assert not near.clearly_below(slow)
    assert not slow.clearly_below(fast)


def test_the_first_setting_is_what_torch_does_unasked() -> None:
    cpu = cost.settings_on(torch.device("cpu"), compile=False, threads=(1, 2))
    assert cpu[0] == Setting(False, "off", False, 1)
    assert len(cpu) == len(set(cpu)) == 8
    assert {setting.amp for setting in cpu} == {"off", "bf16"}
    cuda = cost.settings_on(torch.device("cuda"), compile=True)
    assert {setting.amp for setting in cuda} == {"off", "bf16", "fp16"}
    assert {setting.compile for setting in cuda} == {False, True}
