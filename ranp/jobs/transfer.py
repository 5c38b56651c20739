"""What `ranp transfer` asks for: a run's network built again for other data, slimmed by the run's plan, kept as a run.

Channels and classes are settings of a factory, under the names that built-ins and MONAI's networks have for them; they
are given, or read off the images and labels of the new data set.
"""

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from ranp import models, runs
from ranp.data.volumes import channels_and_classes
from ranp.errors import UsageError
from ranp.figures import spell
from ranp.inputs import Inputs, Shape, reshaped, specs
from ranp.jobs.options import Transfer
from ranp.models.request import read_size
from ranp.models.spec import resolve
from ranp.pipeline import Transferred, transfer
from ranp.reports import Moved, Report

CHANNELS = ("in_channels", "n_input_channels", "in_chans")
CLASSES = ("classes", "out_channels", "num_classes")


@dataclass(frozen=True)
class Prepared:
    """A transfer whose options are known to be good.

    Args:
        options: of it.
        run: read.
        spec: MODEL.
        settings: all of the factory's that are not its own defaults.
        network: the full one for the new data.
        inputs: zeros of the new shapes.
    """

    options: Transfer
    run: runs.Run
    spec: str
    settings: dict[str, Any]
    network: nn.Module
    inputs: Inputs


def prepare(job: Transfer) -> Prepared:
    """Check everything that can be checked without work, and build the full network for the new data.

    Raises:
        UsageError: the first mistake that was found.
        MissingExtra: the images need nibabel.
    """
    runs.check_out(job.out, force=job.force)
    run = runs.read(job.run)
    run.check_hashes()
    spec = job.model or run.config.get("model")
    if not isinstance(spec, str):
        raise UsageError(f"{run.path}: the run names no model: give it (--model)")
    preset = run.config.get("preset")
    before = {**(models.preset(spec, preset).settings if preset else {}), **runs.settings_of(run.config)}
    settings = {**before, **job.settings, **_asked(job, spec, before)}
    network = resolve(spec, settings, trusted=job.model is not None, seed=job.seed)
    return Prepared(job, run, spec, settings, network, _inputs(run, job, spec, before, settings))


def carry_out(prepared: Prepared) -> Transferred:
    """Transfer, and return the result; its report says where it comes from, and nothing is written.

    Raises:
        RanpError: as `ranp.transfer`.
    """
    run, options = prepared.run, prepared.options
    weights = run.weights() if options.keep_weights else None
    result = transfer(
        run.plan, prepared.network, prepared.inputs,
        weights=weights, seed=options.seed, verify_input=options.verify_input,
    )  # fmt: skip
    shapes = [list(spec.shape) for spec in specs(result.plan.inputs)]
    before = [list(spec.shape[1:]) for spec in specs(run.plan.inputs)]
    moved = Moved(**{"from": run.path.name}, input_before=before, inherited=list(result.inherited))
    report = Report(
        model=prepared.spec, preset=None, input=[shape[1:] for shape in shapes], batch=shapes[0][0],
        out=str(options.out), **result.report.to_dict(), transfer=moved,
    )  # fmt: skip
    return replace(result, report=report)


def keep(prepared: Prepared, result: Transferred) -> Report:
    """Write the run folder and return the report as it stands there.

    Raises:
        UsageError: the folder exists or can't be written.
    """
    options = prepared.options
    runs.save(options.out, result.slim, result.plan, result.report, config_of(prepared), force=options.force)
    return runs.read(options.out).report


def config_of(prepared: Prepared) -> dict[str, Any]:
    """Return plain values for config.yaml: the network as it is built now, and how to repeat the transfer."""
    job = prepared.options
    spatial = next(spec.shape[2:] for spec in specs(prepared.run.plan.inputs))
    values = {
        "run": str(job.run),
        "model": prepared.spec,
        "settings": {
            key: list(value) if isinstance(value, tuple) else value for key, value in prepared.settings.items()
        },
        "input": job.input or spell(spatial),
        "keep_weights": job.keep_weights,
        "seed": job.seed,
        "out": str(job.out),
    }
    return {key: value for key, value in values.items() if value not in ({}, False, "")}


def _asked(job: Transfer, spec: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that channels and classes, given or read off the data, stand for."""
    channels, classes = job.in_channels, job.classes
    if _reads_data(job):
        found = channels_and_classes(job.images, job.labels)
        channels = _agree("--in-channels", channels, found[0])
        classes = _at_least("--classes", classes, found[1])
    asked = {}
    for option, value, names in (("--in-channels", channels, CHANNELS), ("--classes", classes, CLASSES)):
        if value is None:
            continue
        if value < 1:
            raise UsageError(f"{option} {value}: expected a positive number")
        key = _key(spec, names, settings)
        if key is None:
            raise UsageError(f"{option} {value}: {spec} has no setting {' or '.join(names)}; name its own with --set")
        if (said := job.settings.get(key, value)) != value:
            raise UsageError(f"{option} {value}: --set {key}={said} says otherwise")
        asked[key] = value
    return asked


def _reads_data(job: Transfer) -> bool:
    given = bool(job.images or job.labels)
    if given != (job.data == "nifti") and job.data is not None:
        raise UsageError(f"--data {job.data}: {'takes no' if given else 'needs'} --images and --labels")
    return given


def _agree(option: str, given: int | None, found: int) -> int:
    if given is not None and given != found:
        raise UsageError(f"{option} {given}: the images have {found} channel(s)")
    return found


def _at_least(option: str, given: int | None, found: int) -> int:
    if given is not None and given < found:
        raise UsageError(f"{option} {given}: the labels go up to {found - 1}, which takes {found} classes")
    return given or found


def _key(spec: str, names: Iterable[str], settings: Mapping[str, Any]) -> str | None:
    """Return which of the names a factory's setting has."""
    known = set(models.full_settings(spec)) if spec in models.names() else _parameters(spec) | set(settings)
    return next((name for name in names if name in known), None)


def _parameters(spec: str) -> set[str]:
    """Return the argument names of a network of MONAI; those of any other factory are not looked at."""
    where, _, name = spec.rpartition(":")
    if where != "monai.networks.nets":
        return set()
    import monai.networks.nets as nets  # seconds to import

    return set(inspect.signature(getattr(nets, name)).parameters) if hasattr(nets, name) else set()


def _inputs(run: runs.Run, job: Transfer, spec: str, before: Mapping[str, Any], settings: Mapping[str, Any]) -> Inputs:
    """Return inputs without data of the run's shapes, but for the new channels and spatial size."""
    key = _key(spec, CHANNELS, settings)
    channels = settings.get(key) if key and settings.get(key) != before.get(key) else None

    def sized(shape: Shape) -> Shape:
        if len(shape) < 3:
            return shape
        batch, own, *spatial = shape
        return batch, channels or own, *(read_size(job.input, len(spatial)) if job.input else spatial)

    shaped: Inputs = reshaped(run.plan.example_inputs(), sized)
    return shaped
