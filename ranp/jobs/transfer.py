"""What `ranp transfer` asks for: a run's network built again for other data, slimmed by the run's plan, kept as a run.

Channels and classes are settings of a factory, under the names that built-ins and MONAI's networks have for them, of an
own factory found by trying; they are given, or read off the images and labels of the new data set.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from ranp import models, runs
from ranp.errors import UsageError, named, setting
from ranp.figures import spell
from ranp.inputs import Inputs, Shape, flatten, reshaped, specs
from ranp.jobs._source import opened
from ranp.jobs.options import Transfer
from ranp.models.channels import CHANNELS, CLASSES, channels_of, setting_by_name, setting_by_trying
from ranp.models.outputs import output_shape
from ranp.models.request import read_size
from ranp.models.spec import check_trusted, resolve
from ranp.pipeline import Transferred, transfer
from ranp.reports import Moved, Report


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
        notes: which settings channels and classes were found to be.
    """

    options: Transfer
    run: runs.Run
    spec: str
    settings: dict[str, Any]
    network: nn.Module
    inputs: Inputs
    notes: tuple[str, ...] = ()


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
        raise UsageError(f"{run.path}: the run names no model: give it ({named('model')})")
    trusted = job.model is not None
    if not trusted:
        check_trusted(spec)
    before = {**_run_settings(run, spec), **job.settings}
    asked, notes, channels = _asked(job, run, spec, before, trusted)
    settings = {**before, **asked}
    network = resolve(spec, settings, trusted=trusted, seed=job.seed)
    channels = channels or _set_channels(spec, settings, _run_settings(run, spec), trusted)
    return Prepared(job, run, spec, settings, network, _inputs(run, job, channels), notes)


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
    found = result.report.to_dict()
    report = Report(
        model=prepared.spec, preset=None, input=[shape[1:] for shape in shapes], batch=shapes[0][0],
        out=str(options.out), **{**found, "notes": [*prepared.notes, *found.get("notes", [])]}, transfer=moved,
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


def _run_settings(run: runs.Run, spec: str) -> dict[str, Any]:
    """Return the settings the run's network was built with, those of its preset among them."""
    given, preset = runs.settings_of(run.config), run.config.get("preset")
    return {**(models.preset(spec, preset).settings if preset else {}), **given}


def _asked(
    job: Transfer, run: runs.Run, spec: str, settings: Mapping[str, Any], trusted: bool
) -> tuple[dict[str, Any], tuple[str, ...], int | None]:
    """Return the settings that channels and classes, given or read off the data, stand for.

    Returns:
        the settings, a line for each one of an own factory, and the channels.
    """
    channels, classes = job.in_channels, job.classes
    source = opened(job)
    if len(source.channels()) == 1:
        channels = _agree("in_channels", channels, source.channels()[0])
    if (needed := source.classes()) is not None:
        classes = _at_least("classes", classes, needed)
    asked: dict[str, Any] = {}
    notes = []
    own = trusted and ":" in spec
    for option, value, names in (("in_channels", channels, CHANNELS), ("classes", classes, CLASSES)):
        if value is None:
            continue
        if value < 1:
            raise UsageError(f"{named(option, value)}: expected a positive number")
        known = {**settings, **asked}
        inputs = _inputs(run, job, channels)
        if own and value == _now(run, job, spec, known, names):
            continue
        key = setting_by_trying(spec, names, known, value, inputs, output_shape) if own else None
        key = key or setting_by_name(spec, names, known, trusted=trusted)
        if key is None:
            usual = " or ".join(names[:3])
            own_name = f"name its own with {named('settings', flag='--set')}"
            raise UsageError(f"{named(option, value)}: {spec} has no setting {usual}; {own_name}")
        if (said := job.settings.get(key, value)) != value:
            raise UsageError(f"{named(option, value)}: {setting(key, said)} says otherwise")
        asked[key] = value
        notes += [f"{named(option, value)} is {setting(key, value)} of {spec}"] * own
    return asked, tuple(notes), channels


def _now(run: runs.Run, job: Transfer, spec: str, settings: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    """Return the channels, or the classes, of an own network as its settings are; None where it does not run."""
    for channels in dict.fromkeys([None, job.in_channels, channels_of(spec, settings)]):
        inputs = _inputs(run, job, channels)
        with suppress(UsageError):
            output = output_shape(resolve(spec, settings), inputs)
            return int(flatten(inputs)[0].shape[1]) if names is CHANNELS else output[0]
    return None


def _agree(option: str, given: int | None, found: int) -> int:
    if given is not None and given != found:
        raise UsageError(f"{named(option, given)}: the images have {found} channel(s)")
    return found


def _at_least(option: str, given: int | None, found: int) -> int:
    if given is not None and given < found:
        raise UsageError(f"{named(option, given)}: the labels go up to {found - 1}, which takes {found} classes")
    return given or found


def _set_channels(spec: str, settings: Mapping[str, Any], before: Mapping[str, Any], trusted: bool) -> int | None:
    """Return the channels that --set changed, if it did."""
    if trusted and ":" in spec:
        now, then = channels_of(spec, settings), channels_of(spec, before)
    else:
        key = setting_by_name(spec, CHANNELS, settings, trusted=trusted)
        now, then = (settings.get(key), before.get(key)) if key else (None, None)
    return now if now != then else None


def _inputs(run: runs.Run, job: Transfer, channels: int | None) -> Inputs:
    """Return inputs without data of the run's shapes, but for the new channels and spatial size."""

    def sized(shape: Shape) -> Shape:
        if len(shape) < 3:
            return shape
        batch, own, *spatial = shape
        return batch, channels or own, *(read_size(job.input, len(spatial)) if job.input else spatial)

    shaped: Inputs = reshaped(run.plan.example_inputs(), sized)
    return shaped
