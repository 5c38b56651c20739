"""Measured times of forwards and training steps, setting by setting, on the device they will run on."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ranp.cost._latency import timed
from ranp.cost._training import AMP_TYPES, Step, Taking
from ranp.inputs import Inputs, as_arguments, flatten, map_tensors
from ranp.modules import FORMATS, copy_with, undisturbed
from ranp.options import Amp


@dataclass(frozen=True)
class Setting:
    """How a network is run.

    Args:
        channels_last: whether activations and weights have their channels last in memory.
        amp: autocast.
        compile: whether torch.compile makes the network.
        threads: of the CPU.
    """

    channels_last: bool
    amp: Amp
    compile: bool
    threads: int


@dataclass(frozen=True)
class Timing:
    """Milliseconds of a run: the median, and the quartiles that half of the runs lie between.

    >>> Timing.of([4.0, 1.0, 2.0, 3.0, 10.0])
    Timing(median_ms=3.0, low_ms=2.0, high_ms=4.0, runs=5)
    """

    median_ms: float
    low_ms: float
    high_ms: float
    runs: int

    @classmethod
    def of(cls, times: Sequence[float]) -> "Timing":
        """Return the figures of so many runs."""
        low, median, high = (float(value) for value in np.quantile(times, (0.25, 0.5, 0.75)))
        return cls(median, low, high, len(times))

    def to_dict(self) -> dict[str, float | int]:
        """Return the figures by name."""
        return asdict(self)

    def clearly_below(self, other: "Timing") -> bool:
        """Whether the quartiles do not overlap: less may be noise."""
        return self.high_ms < other.low_ms


def settings_on(device: torch.device, compile: bool, threads: Sequence[int] = ()) -> list[Setting]:
    """Return the settings that are worth a try on a device; the first is what torch does unasked.

    Args:
        device: where; on the CPU fp16 is no gain and left out.
        compile: whether torch.compile, which takes minutes, is tried too.
        threads: of the CPU that are tried; the present number where there are none.
    """
    kinds: tuple[Amp, ...] = ("off", "bf16", "fp16") if device.type == "cuda" else ("off", "bf16")
    return [
        Setting(last, amp, compiled, count)
        for count in (threads or [torch.get_num_threads()])
        for compiled in ((False, True) if compile else (False,))
        for amp in kinds
        for last in (False, True)
    ]


def time_setting(
    model: nn.Module,
    inputs: Inputs,
    step: Step | None,
    setting: Setting,
    device: torch.device,
    *,
    runs: int,
    seconds: float,
) -> Timing:
    """Measure forwards in evaluation mode, or training steps, of a copy of a network.

    Args:
        model: untouched.
        inputs: a tensor, a tuple of positional inputs, or a dict of keyword inputs.
        step: of a training, whose autocast is the setting's; None for a forward.
        setting: how.
        device: where.
        runs: at most this many are measured.
        seconds: no further run starts after this time.
    """
    copied: Any = copy_with(model).to(device)
    given = map_tensors(inputs, lambda tensor: tensor.to(device))
    if setting.channels_last:
        dims = max((tensor.dim() for tensor in flatten(inputs)), default=0)
        copied = copied.to(memory_format=FORMATS[dims]) if dims in FORMATS else copied
        given = map_tensors(given, _channels_last)
    run: Any = torch.compile(copied) if setting.compile else copied
    with undisturbed(), _threads(setting.threads):
        if step is not None:
            target = None if step.target is None else torch.zeros_like(step.target, device=device)
            taking = Taking(copied.train(), replace(step, amp=setting.amp), device.type)
            taking.model = run
            return Timing.of(timed(lambda: taking.step(given, target), device, runs=runs, seconds=seconds))
        args, kwargs = as_arguments(given)
        copied.eval()
        with torch.no_grad(), torch.autocast(device.type, AMP_TYPES.get(setting.amp), enabled=setting.amp != "off"):
            return Timing.of(timed(lambda: run(*args, **kwargs), device, runs=runs, seconds=seconds))


def _channels_last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=FORMATS[tensor.dim()]) if tensor.dim() in FORMATS else tensor


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
