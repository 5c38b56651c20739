"""What a network costs, as one report: counted, and where asked predicted, measured and cross-checked."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from ranp import cost
from ranp.errors import UsageError, nearest
from ranp.graph.build import trace
from ranp.inputs import check_device
from ranp.jobs.subject import Subject


def profile_network(
    subject: Subject,
    convention: str = "standard",
    *,
    training: bool = False,
    measure: bool = False,
    cross_check: bool = False,
    device: str = "cpu",
) -> dict[str, Any]:
    """Return the costs of a network in plain values.

    Args:
        subject: the network and its inputs.
        convention: "standard" or "paper".
        training: also predict the peak memory of a training step.
        measure: also measure the time of a forward on the device.
        cross_check: also count with fvcore.
        device: to measure on.

    Returns:
        model, preset, convention, input, batch, params, flops, memory_bytes, layers (one row per convolution and linear
        layer), kinds (one row per kind of module, which add up to the whole), and training, latency, cross_check where
        asked.

    Raises:
        UsageError: no such convention or device.
        UnsupportedError: the network does not run, or not without data, or not under fvcore.
        MissingExtra: fvcore is not installed.
    """
    where = check_device(device)
    if convention not in cost.CONVENTIONS:
        known = " or ".join(cost.CONVENTIONS)
        raise UsageError(f"--convention {convention}: expected {known}{nearest(convention, cost.CONVENTIONS)}")
    graph = trace(subject.network, subject.inputs)
    everything, counted = np.ones(graph.count, dtype=bool), cost.compile(graph, convention)
    found: dict[str, Any] = {
        "model": subject.name,
        "preset": subject.preset,
        "convention": convention,
        "input": subject.shapes,
        "batch": subject.batch,
        **counted(everything).to_dict(),
        "layers": [row.to_dict() for row in counted.layers(everything)],
        "kinds": _by_kind(counted.modules(everything)),
    }
    if training:
        predicted = cost.peak_training_memory(subject.network, subject.inputs)
        found["training"] = {**predicted.to_dict(), "optimizer_name": "AdamW", "at_least": True}
    if cross_check:
        found["cross_check"] = cost.cross_check(subject.network, subject.inputs, graph).to_dict()
    if measure:
        found["latency"] = cost.measure_latency(subject.network, subject.inputs, where).to_dict()
    return found


def _by_kind(rows: Iterable[cost.ModuleCosts]) -> list[dict[str, str | int]]:
    """Return one row for each kind of module, in order of appearance."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        total = found.setdefault(row.kind, {"kind": row.kind, "modules": 0, "flops": 0, "memory_bytes": 0, "params": 0})
        total["modules"] += 1
        for key in ("flops", "memory_bytes", "params"):
            total[key] += getattr(row, key)
    return list(found.values())
