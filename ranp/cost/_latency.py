"""Measured time of a forward on the device it will run on: FLOPs are not time."""

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import nn

from ranp.errors import UnsupportedError, saying
from ranp.inputs import Inputs, as_arguments, map_tensors

WARM_UP = 3


@dataclass(frozen=True)
class Latency:
    """Measured milliseconds of a forward in evaluation mode.

    Args:
        median_ms: median of the runs.
        fastest_ms: of the runs.
        runs: how many were measured, after the warm-up.
        device: where.
    """

    median_ms: float
    fastest_ms: float
    runs: int
    device: str

    def to_dict(self) -> dict[str, float | int | str]:
        """Return the figures by name."""
        return asdict(self)


def measure_latency(
    model: nn.Module, inputs: Inputs, device: str | torch.device = "cpu", *, runs: int = 10, seconds: float = 10.0
) -> Latency:
    """Measure how long a forward takes.

    Args:
        model: moved to the device and left there, in the mode it was in.
        inputs: a tensor, a tuple of positional inputs, or a dict of keyword inputs.
        device: where to run.
        runs: at most this many are measured, at least one.
        seconds: no further run starts after this time.

    Raises:
        UnsupportedError: it does not run.
    """
    where, training = torch.device(device), model.training
    args, kwargs = as_arguments(map_tensors(inputs, lambda t: t.to(where)))
    model.to(where).eval()
    with torch.no_grad(), saying(UnsupportedError, "the network does not run while it is timed"):
        times = timed(lambda: model(*args, **kwargs), where, runs=runs, seconds=seconds)
    model.train(training)
    return Latency(statistics.median(times), min(times), len(times), str(where))


def timed(call: Callable[[], object], device: torch.device, *, runs: int, seconds: float) -> list[float]:
    """Return the milliseconds of each run, after a few that are not measured.

    Args:
        call: what is run.
        device: where it runs.
        runs: at most this many are measured, at least one.
        seconds: no further run starts after this time.
    """
    times: list[float] = []
    started = time.perf_counter()
    for index in range(WARM_UP + runs):
        synchronise(device)
        begin = time.perf_counter()
        call()
        synchronise(device)
        took = time.perf_counter() - begin
        late = time.perf_counter() - started > seconds
        if index >= WARM_UP or late:
            times.append(took * 1000)
        if late:
            break
    return times


def synchronise(device: torch.device) -> None:
    """Wait until a device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
