"""Measured times of a run's full and slim network, side by side in one process."""

from pathlib import Path
from typing import Any

from torch import nn

from ranp import runs
from ranp.cost import measure_latency
from ranp.inputs import check_device, draw, generator_of
from ranp.models.spec import resolve
from ranp.runs import Run


def enter_times(path: Path, model: str | None = None, device: str = "cpu") -> None:
    """Measure the networks of a run folder and put the times into its report, under "latency".

    Args:
        path: of the folder.
        model: MODEL of the full network, for a run whose factory is neither a built-in nor a network of MONAI.
        device: where to measure.

    Raises:
        UsageError: as `measured`.
    """
    run = runs.read(path)
    network = None if model is None else resolve(model, runs.settings_of(run.config), preset=run.config.get("preset"))
    run.enter({"latency": measured(run, network, device)})


def measured(run: Run, model: nn.Module | None = None, device: str = "cpu", seed: int = 0) -> dict[str, Any]:
    """Return how long a forward of the full and of the slim network takes: median_ms, fastest_ms, runs, device of each.

    Args:
        run: read from its folder.
        model: the full network, for a run whose factory is neither a built-in nor a network of MONAI.
        device: where to measure.
        seed: of the inputs.

    Raises:
        UsageError: no such device, a damaged run, or a network that can't be built from a file.
    """
    where = check_device(device)
    both = {"full": run.full(model), "slim": run.slim(model)}
    inputs = draw(run.plan.example_inputs(), generator_of(seed))
    return {name: measure_latency(network, inputs, where).to_dict() for name, network in both.items()}
