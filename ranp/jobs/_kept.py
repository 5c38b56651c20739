"""What a training leaves in its folder: when it begins, between rounds and when it is done."""

import csv
import io
import json
import resource
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ranp import runs
from ranp.jobs.options import BatchSize, Cut, Files, Labelled, Patch, Rounds, Source, Taught, Train
from ranp.jobs.prepared import Prepared
from ranp.modules import tensors_of
from ranp.pipeline import Result, prune
from ranp.reports import Report
from ranp.training import History, Trained

ROUNDS = (*Rounds.model_fields, "batches", "freeze")
"""The options of rounds; without any they are of no use."""
_OF_A_ROUND = ("best", "validations", "curve", "seconds_per_step", "samples_per_second")


def begun(prepared: Prepared) -> runs.Run:
    """Write the folder of a training that is not done, and return it as a run."""
    options, base = prepared.options, prepared.base
    said = {"done": False, **what(prepared)}
    if base is not None:
        runs.save_trained(options.out, base, {}, said, "", "")
        return runs.read(options.out)
    whole = untouched(prepared)
    report = Report(**{**whole.report.to_dict(), **_head(prepared), "scored_on": "no data"})
    runs.save(options.out, whole.slim, whole.plan, report, prepared.config, training=said, force=options.force)
    return runs.read(options.out)


def untouched(prepared: Prepared) -> Result:
    """Return a network that was not pruned, as pruned by a plan that keeps everything."""
    options = prepared.options
    inputs = tuple(torch.zeros(1, *shape) for shape in prepared.shapes)
    return prune(
        prepared.network, inputs, rule="random", sparsity=0.0, freeze=options.freeze, outputs=options.outputs,
        seed=options.seed, verify_input=options.verify_input,
    )  # fmt: skip


def pruned(prepared: Prepared, result: Result, rounds: Mapping[str, Any]) -> runs.Run:
    """Write what a round of pruning left, in the place of what is in the folder, and return it as a run.

    Args:
        prepared: the training.
        result: of the pruning.
        rounds: how far the rounds are, as `runs.TRAINING` holds it.
    """
    options = prepared.options
    size = f"{options.batches} batches of {options.batch_size}, {options.patch}"
    scored_on = f"{prepared.trained_on} ({size})" if result.scores is not None else "no data"
    report = Report(**{**result.report.to_dict(), **_head(prepared), "scored_on": scored_on})
    said = {"done": False, **what(prepared), **rounds}
    force = options.force or options.resume or rounds["round"] > 1
    runs.save(options.out, result.slim, result.plan, report, prepared.config, training=said, force=force)
    return runs.read(options.out)


def trained(
    prepared: Prepared,
    result: Trained,
    network: nn.Module,
    rounds: Mapping[str, Any] | None = None,
    base: runs.Run | None = None,
) -> dict[str, Any]:
    """Write what was trained into the run folder, and return what `runs.TRAINING` says.

    Args:
        prepared: the training.
        result: of the training, the latest of several.
        network: that was trained; it has the best weights afterwards.
        rounds: how far the rounds were before; nothing without any.
        base: the run whose plan and options it keeps, by default that in the folder.
    """
    for name, tensor in tensors_of(network).items():
        tensor.data.copy_(result.best[name])
    out = prepared.options.out
    base, said, histories = base or runs.read(out), _said(prepared, result.history, network), [result.history]
    if rounds:
        said |= rounds
        cost = base.report.slim
        entry = {
            "round": rounds["round"], "sparsity": base.plan.choice.achieved, "params": cost.params, "flops": cost.flops,
            "memory_bytes": cost.memory_bytes, **{name: said[name] for name in _OF_A_ROUND},
        }  # fmt: skip
        said["rounds"] = [*rounds["rounds"], entry]
        histories = [History(each["curve"], each["validations"]) for each in said["rounds"]]
    files = {runs.TRAINED: result.best, runs.LAST: result.last}
    samples = prepared.validation.samples(network) if said["done"] and prepared.validation is not None else None
    runs.save_trained(out, base, files, said, _table(histories), _words(said), samples)
    return said


def without_curves(said: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `runs.TRAINING` says but for curves, and for what only --resume asks for."""
    plain = {name: value for name, value in said.items() if name not in ("curve", "asked", "begun", "round", "command")}
    if "rounds" in plain:
        plain["rounds"] = [{k: v for k, v in each.items() if k != "curve"} for each in plain["rounds"]]
    return plain


def _head(prepared: Prepared) -> dict[str, Any]:
    """Return what the report of a run of the full network, or of one that is pruned again, begins with."""
    options = prepared.options
    head = {"model": options.model, "preset": options.preset, "input": [list(shape) for shape in prepared.shapes]}
    if prepared.base is not None:
        head = {name: prepared.base.values[name] for name in (*head, "batch") if name in prepared.base.values}
    return {"batch": 1, **head, "out": str(options.out)}


def asked(prepared: Prepared) -> dict[str, Any]:
    """Return what a training that goes on has to be asked for again."""
    known = what(prepared)
    data = {**known["data"], **known.get("teacher", {}), "seed": prepared.options.seed, "loss": prepared.options.loss}
    free = ("workers", "hold")  # which change no batch
    words = {**prepared.training.model_dump(mode="json"), **{k: v for k, v in data.items() if k not in free}}
    if prepared.rounds is not None:
        words |= {name: getattr(prepared.options, name) for name in ROUNDS}
    return dict(json.loads(json.dumps(words)))


def what(prepared: Prepared) -> dict[str, Any]:
    """Return what is known before the first step: options, data, loss and task."""
    options = prepared.options
    groups = (Source, Files, Labelled, Patch, BatchSize, Cut)
    names = [name for group in groups for name in group.model_fields]
    config = options.to_config()
    data = {name: config[name] for name in [*dict.fromkeys(names), "val", "fold", "augment"] if name in config}
    taught = {name: config[name] for name in Taught.model_fields if name in config}
    measured = prepared.validation
    return {
        "options": prepared.training.model_dump(mode="json"),
        "data": data,
        **({"teacher": taught} if options.teacher else {}),
        "loss": options.loss,
        "seed": options.seed,
        "trained_on": prepared.trained_on,
        **({"unseen": list(prepared.unseen)} if prepared.unseen else {}),
        "validated_on": None if measured is None else measured.said,
    }


def _said(prepared: Prepared, history: History, network: nn.Module) -> dict[str, Any]:
    """Return what `runs.TRAINING` says of a training that is done."""
    options, steps = prepared.options, prepared.training.steps or 1
    return {
        "done": True,
        **what(prepared),
        "learned": prepared.learned,
        "steps": steps,
        "best": history.best,
        "validations": history.validations,
        "never": list(prepared.validation.scores(network).never) if prepared.validation is not None else [],
        "seconds_per_step": history.seconds / steps,
        "samples_per_second": history.samples / history.seconds,
        "peak_memory": _peak_memory(options.device),
        "command": _command(options),
        "curve": history.curve,
    }


def _command(options: Train) -> dict[str, Any]:
    """Return the options that are not what they are by default."""
    fields = type(options).model_fields
    return {name: value for name, value in options.to_config().items()
            if getattr(options, name) != fields[name].get_default()}  # fmt: skip


def _peak_memory(device: str) -> dict[str, Any]:
    """Return the most bytes that were taken: on a card by tensors, on the CPU by the whole process."""
    if torch.device(device).type == "cuda":
        return {"bytes": torch.cuda.max_memory_allocated(device), "of": "tensors on the device"}
    unit = 1 if sys.platform == "darwin" else 1024
    return {"bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, "of": "the process"}


def _words(said: Mapping[str, Any]) -> str:
    """Say in a line how the weights came about."""
    best = said["best"]
    which = f"; those of step {best['step']} scored best, {best['score']:.4f}" if best else ""
    return f"{said['steps']} steps on {said['data'].get('data')}{which}"


def _table(histories: Sequence[History]) -> str:
    """Return curves and validations as CSV, a row for each step that has either; of several rounds, of which."""
    rows: dict[tuple[int, float], dict[str, float]] = {}
    for number, history in enumerate(histories, start=1):
        first = {"round": number} if len(histories) > 1 else {}
        for point in [*history.curve, *history.validations]:
            rows.setdefault((number, point["step"]), dict(first)).update(point)
    names = list(dict.fromkeys(name for step in sorted(rows) for name in rows[step]))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows[step] for step in sorted(rows))
    return text.getvalue()
