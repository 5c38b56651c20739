"""`ranp transfer`: a run's slim architecture for other channels, classes or input sizes."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ranp.commands._console import command, emit_json, stdout
from ranp.commands._options import (
    Classes,
    Config,
    Debug,
    DryRun,
    Force,
    InChannels,
    Json,
    RunModel,
    Seed,
    Settings,
)
from ranp.commands._tables import print_prune
from ranp.errors import UsageError
from ranp.figures import spell_all


@command
def transfer(
    run: Annotated[Path | None, typer.Argument(metavar="RUN", help="The run folder whose plan is used.")] = None,
    out: Annotated[Path | None, typer.Option(help="The run folder to write.")] = None,
    in_channels: InChannels = None,
    classes: Classes = None,
    settings: Settings = None,
    input: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Input size, 128 or 16x112x112.", show_default="the run's")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="nifti: read channels and classes off --images and --labels.")
    ] = None,
    images: Annotated[list[Path] | None, typer.Option(help="A NIfTI image; repeat it, one for each case.")] = None,
    labels: Annotated[list[Path] | None, typer.Option(help="Its labels; repeat it, in the order of --images.")] = None,
    keep_weights: Annotated[
        bool, typer.Option("--keep-weights", help="Inherit weights where names and shapes agree.")
    ] = False,
    model: RunModel = None,
    seed: Seed = 0,
    config: Config = None,
    dry_run: DryRun = False,
    force: Force = False,
    debug: Debug = False,
    json: Json = False,
) -> None:
    """Carry RUN's slim architecture to other data, and prove it right.

    The network is built for other channels, classes or sizes and slimmed by RUN's plan.
    """
    if run is None or out is None:
        raise UsageError("RUN is missing: a run folder" if run is None else "--out is missing: the run folder to write")
    from ranp.jobs import transfer as transfer_job
    from ranp.models.request import read_settings

    job = transfer_job.TransferJob(
        run=run, out=out, in_channels=in_channels, classes=classes, settings=read_settings(settings or ()), input=input,
        data=data, images=tuple(images or ()), labels=tuple(labels or ()), keep_weights=keep_weights, model=model,
        seed=seed,
    )  # fmt: skip
    prepared = transfer_job.prepare(job, force=force)
    result, report = transfer_job.carry_out(prepared, job)
    if not dry_run:
        report = transfer_job.keep(prepared, job, result, report, force=force)
    if json:
        emit_json(report)
    else:
        _print(report, dry_run)


def _print(report: dict[str, Any], dry_run: bool) -> None:
    console, moved = stdout(), report["transfer"]
    before = spell_all(moved["input_before"])
    console.print(
        f"widths of {moved['from']} (input {before}), {len(moved['inherited'])} tensors inherited", soft_wrap=True
    )
    if dry_run:
        console.print(f"the plan fits; dry run: would write {report['out']}", soft_wrap=True)
    else:
        print_prune(console, report)
