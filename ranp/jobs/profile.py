"""What a network costs, as one report: counted, and where asked predicted, measured and cross-checked."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from ranp import cost
from ranp.errors import named
from ranp.figures import read_bytes
from ranp.graph.build import trace
from ranp.inputs import check_device
from ranp.jobs._fit import fit
from ranp.jobs._step import read_step, refuse_step
from ranp.jobs._subject import Subject, read_subject
from ranp.jobs.options import Network, Profile, Trained


def profile_network(options: Profile) -> dict[str, Any]:
    """Return the costs of a network in plain values.

    Returns:
        model, preset, convention, input, batch, params, flops, memory_bytes, weights (where they come from, in words),
        layers (one row per convolution and linear layer), kinds (one row per kind of module, which add up to the
        whole), notes (what was counted by default, what never ran), and where asked training, fit, latency
        and cross_check.

    Raises:
        UsageError: no such convention or device, a limit without a unit, options of a step that nobody asks for.
        InfeasibleError: neither a sample nor an input fits into --fit.
        UnsupportedError: the network does not run, or not without data, or not under fvcore.
        MissingExtra: fvcore is not installed.
    """
    where = check_device(options.device)
    _check_training(options)
    limit = None if options.fit is None else read_bytes(options.fit, "fit")
    convention = options.convention
    subject = read_subject(
        options.only(Network), full=options.full, size=options.input, batch=options.batch, seed=options.seed,
        weights=options.weights,
    )  # fmt: skip
    graph = trace(subject.network, subject.inputs)
    everything, counted = np.ones(graph.count, dtype=bool), cost.compile(graph, convention)
    found: dict[str, Any] = {
        "model": subject.name,
        "preset": subject.preset,
        "convention": convention,
        "input": subject.shapes,
        "batch": subject.batch,
        **counted(everything).to_dict(),
        "weights": subject.weights,
        "layers": [row.to_dict() for row in counted.layers(everything)],
        "kinds": _by_kind(counted.modules(everything)),
        "notes": [*graph.notes, *(cost.counted_by_default(graph) if convention == "standard" else [])],
    }
    if options.training:
        found["training"] = _training(options, subject, where)
    if limit is not None:
        assert options.fit is not None
        found["fit"] = fit(subject, lambda other: read_step(options, other)[2], limit, options.fit)
    if options.cross_check:
        found["cross_check"] = cost.cross_check(subject.network, subject.inputs, graph).to_dict()
    if options.measure:
        found["latency"] = cost.measure_latency(subject.network, subject.inputs, where).to_dict()
    return found


def _check_training(options: Profile) -> None:
    """Refuse options of a training step where none is asked for."""
    if not options.training and options.fit is None:
        refuse_step(options, Trained.model_fields, f"{named('training', True)} or {named('fit')}")


def _training(options: Profile, subject: Subject, where: torch.device) -> dict[str, Any]:
    """Return the memory of a training step in plain values: predicted, and where asked measured."""
    word, training, step = read_step(options, subject)
    predicted = cost.peak_training_memory(subject.network, subject.inputs, step)
    how = {
        "optimizer_name": training.optimizer, "amp": training.amp, "accumulate": training.accumulate, "loss": word,
        "checkpoint": list(options.checkpoint), "at_least": True,
    }  # fmt: skip
    found: dict[str, Any] = {**predicted.to_dict(), **how}
    if options.measure:
        measured = cost.measure_training_memory(subject.network, subject.inputs, step, where)
        found["measured"] = measured.to_dict()
        if where.type == "cuda":  # where the figure holds nothing but tensors and what libraries work in
            found["measured"]["workspace"] = measured.bytes - predicted.peak
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
