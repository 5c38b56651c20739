"""What `ranp bench` measures: forwards and training steps, of a network or of a run's full and slim one."""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from ranp import runs
from ranp.cost import Setting, Step, Timing, settings_on, time_setting
from ranp.errors import UsageError, named, told
from ranp.figures import spell
from ranp.inputs import check_device
from ranp.jobs._step import read_step
from ranp.jobs._subject import Subject, read_subject
from ranp.jobs.options import Bench, Network, Predict
from ranp.jobs.predict import Spent, predict
from ranp.models.folders import PRUNED, kind_of

Watch = Callable[[str], None]


def bench(options: Bench, watch: Watch = lambda _: None) -> dict[str, Any]:
    """Return measured times in plain values.

    Returns:
        model, input, batch, device, torch, rows (network, what, setting, and median_ms, low_ms, high_ms, runs, or the
        error that stopped it), prediction (where data are given: the seconds of the parts of one case's, and the
        network's `share` of them), fastest (of each network and what: the setting, its times over those of torch's
        default as `speedup`, and whether that is `clear` of the noise).

    Raises:
        UsageError: no such device, no threads, no network.
    """
    where = check_device(options.device)
    if any(count < 1 for count in options.threads):
        raise UsageError(f"{named('threads', min(options.threads))}: expected a whole number of at least 1")
    if options.amp != "off":
        raise UsageError(f"{named('amp', options.amp)}: every kind of autocast is measured; leave it out")
    subject = read_subject(
        options.only(Network), full=options.full, size=options.input, batch=options.batch, seed=options.seed,
        weights=options.weights,
    )  # fmt: skip
    networks = {"network": subject}
    if kind_of(options.model) is PRUNED:
        full = runs.read(options.model).full(options.full)
        networks = {"full": replace(subject, network=full), "slim": subject}
    rows = []
    for name, each in networks.items():
        for what, step in _works(options, each).items():
            for setting in settings_on(where, options.compile, options.threads):
                watch(f"{what} of {name}, {words_of_setting(asdict(setting))}")
                rows.append(
                    {"network": name, "what": what, **asdict(setting), **_row(options, each, step, setting, where)}
                )
    found = {
        "model": subject.name, "input": subject.shapes, "batch": subject.batch, "device": _said(where),
        "torch": torch.__version__, "rows": rows, "fastest": fastest(rows),
    }  # fmt: skip
    if options.data or options.images:
        watch("predict a case")
        found["prediction"] = prediction(options, subject)
    return found


def prediction(options: Bench, subject: Subject) -> dict[str, Any]:
    """Return the seconds of the parts of the prediction of the first case, and the network's share of them.

    Returns:
        loading (reading, normalising and resampling), windows (cutting and blending, and what is resampled back),
        network, writing, total, share.

    Raises:
        UsageError: as `ranp predict`.
    """
    spent = Spent(options.device)
    shared = {name: getattr(options, name) for name in Predict.model_fields.keys() & Bench.model_fields.keys()}
    patch = None if kind_of(options.model) is PRUNED and not options.input else spell(subject.shapes[0][1:])
    with TemporaryDirectory() as folder:
        asked = {**shared, "patch": patch, "batch_size": subject.batch, "out": Path(folder) / "predictions"}
        predict(Predict.read(asked), lambda cases: list(cases)[:1], spent)
    seconds = spent.seconds
    seconds["windows"] -= seconds["network"]
    total = sum(seconds.values())
    return {**seconds, "total": total, "share": seconds["network"] / max(total, 1e-9)}


def fastest(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return of each network and work the row of the least median, and what it gains over the first, the default."""
    found = []
    for key in dict.fromkeys((row["network"], row["what"]) for row in rows):
        measured = [row for row in rows if (row["network"], row["what"]) == key and "median_ms" in row]
        if not measured:
            continue
        first, best = measured[0], min(measured, key=lambda row: float(row["median_ms"]))
        gains = best["median_ms"] and first["median_ms"] / best["median_ms"]
        found.append({**best, "speedup": gains, "clear": _timing(best).clearly_below(_timing(first))})
    return found


def words_of_setting(row: dict[str, Any]) -> str:
    """Say in words how a network was run."""
    parts = ["channels last" if row["channels_last"] else "channels first"]
    parts.append("float32" if row["amp"] == "off" else row["amp"])
    parts += ["compiled"] if row["compile"] else []
    return ", ".join([*parts, f"{row['threads']} thread{'s'[: row['threads'] != 1]}"])


def _works(options: Bench, subject: Subject) -> dict[str, Step | None]:
    works: dict[str, Step | None] = {"inference": None}
    if not options.inference_only:
        works["training step"] = read_step(options, subject)[2]
    return works


def _row(options: Bench, subject: Subject, step: Step | None, setting: Setting, where: torch.device) -> dict[str, Any]:
    try:
        return time_setting(
            subject.network, subject.inputs, step, setting, where, runs=options.runs, seconds=options.seconds
        ).to_dict()
    except Exception as error:  # a setting that a network or a device does not run in is one to be told, not the end
        return {"error": told(error, 160)}


def _timing(row: dict[str, Any]) -> Timing:
    return Timing(row["median_ms"], row["low_ms"], row["high_ms"], row["runs"])


def _said(device: torch.device) -> str:
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)
