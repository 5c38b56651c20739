"""`ranp compare`: the paper's methods on one network at the same sparsity."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from ranp.commands._console import command, emit_json, progress, stdout
from ranp.commands._options import (
    Align,
    Batches,
    BatchSize,
    Classes,
    Config,
    CostInput,
    Coupling,
    Data,
    Debug,
    Device,
    DryRun,
    Force,
    Freeze,
    Images,
    InChannels,
    Init,
    Json,
    Labels,
    Loss,
    Method,
    MinWidth,
    Model,
    Patch,
    Preset,
    Reduce,
    Seed,
    Settings,
    Strength,
    Weights,
    given_model,
)
from ranp.commands._tables import plain_table
from ranp.figures import operations, size, spell_all


@command
def compare(
    model: Model = None,
    preset: Preset = None,
    settings: Settings = None,
    in_channels: InChannels = None,
    classes: Classes = None,
    input: CostInput = None,
    weights: Weights = None,
    data: Data = "phantom",
    images: Images = None,
    labels: Labels = None,
    patch: Patch = None,
    batches: Batches = 8,
    batch_size: BatchSize = 1,
    method: Method = None,
    reduce: Reduce = "sum",
    strength: Strength = None,
    coupling: Coupling = "paper",
    sparsity: Annotated[float | None, typer.Option(help="Share of the neurons to remove, in [0, 1).")] = None,
    max_sparsity_of: Annotated[
        str | None,
        typer.Option(
            metavar="METHOD",
            help="Take the largest sparsity of random, layer-wise, SNIP, vanilla, weighted, RANP-m or RANP-f.",
            show_default="RANP-f, without --sparsity",
        ),
    ] = None,
    min_width: MinWidth = 1,
    align: Align = 1,
    freeze: Freeze = None,
    init: Init = None,
    loss: Loss = None,
    convention: Annotated[str, typer.Option(help="Figures of the table: standard or paper.")] = "standard",
    peers: Annotated[bool, typer.Option("--peers", help="Prune with Torch-Pruning at the same ratio too.")] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the table as JSON; `ranp report` shows RUN/compare.json.")
    ] = None,
    seed: Seed = 0,
    device: Device = "cpu",
    config: Config = None,
    dry_run: DryRun = False,
    force: Force = False,
    debug: Debug = False,
    json: Json = False,
) -> None:
    """Compare the paper's methods on MODEL, or a run, at one sparsity.

    Full, random, layer-wise, SNIP, vanilla, weighted, RANP-m and RANP-f, with the largest feasible sparsity of each.
    """
    model = given_model(model)
    from ranp.jobs import compare as comparison_job
    from ranp.jobs.prune import Job
    from ranp.models.folders import is_fused
    from ranp.models.request import read_settings

    job = Job(
        model=model, preset=preset, settings=read_settings(settings or ()), in_channels=in_channels, classes=classes,
        input=input, weights=weights, data=data, images=tuple(images or ()), labels=tuple(labels or ()), patch=patch,
        batches=batches, batch_size=batch_size, method=method, reduce=reduce, strength=strength, coupling=coupling,
        min_width=min_width, align=align, freeze=tuple(freeze or ()), init=init, loss=loss, seed=seed, device=device,
    )  # fmt: skip
    asked = comparison_job.CompareJob(job, sparsity, max_sparsity_of, peers, out)
    if Path(model).is_dir() and not is_fused(model):
        asked = comparison_job.CompareJob.of_run(asked)
    with progress() as bar:
        task = bar.add_task("prepare", total=None)

        def track(items: Iterable[Any]) -> Iterable[Any]:
            return bar.track(items, total=asked.job.batches, description="batches")

        prepared = comparison_job.prepare(asked, convention, force=force)
        if dry_run:
            found = comparison_job.dry(asked, prepared)
        else:
            found = comparison_job.carry_out(
                asked, prepared, watch=lambda step: bar.update(task, description=step), track=track
            )
    if json:
        emit_json(found)
    elif dry_run:
        _print_dry(stdout(), found)
    else:
        _print(stdout(), found, convention)


def _print(console: Console, found: dict[str, Any], convention: str) -> None:
    _print_head(console, found)
    of = f", the largest of {found['sparsity_of']}" if found["sparsity_of"] else ""
    console.print(f"sparsity {found['sparsity']:.4f}{of}; {convention} convention\n", soft_wrap=True)
    table = plain_table("method", "parameters", "FLOPs", "activations", "achieved", "largest")
    for row in found["rows"]:
        largest = "-" if row["maximum"] is None else f"{row['maximum']:.4f}"
        if row["status"] != "ok":
            table.add_row(row["name"], row["status"], "", "", "", largest)
            continue
        costs = row["costs"][convention]
        table.add_row(
            row["name"], f"{costs['params']:,}", operations(costs["flops"]), size(costs["memory_bytes"]),
            f"{row['achieved']:.4f}", largest,
        )  # fmt: skip
    console.print(table)
    for row in found["rows"]:
        if row["reason"]:
            console.print(f"{row['name']}: {row['reason']}", soft_wrap=True, markup=False)
    if found["out"]:
        console.print(f"wrote {found['out']}", soft_wrap=True, markup=False)


def _print_dry(console: Console, found: dict[str, Any]) -> None:
    _print_head(console, found)
    console.print(f"dry run: would compare {', '.join(found['methods'])}", soft_wrap=True)


def _print_head(console: Console, found: dict[str, Any]) -> None:
    preset = f" ({found['preset']})" if found["preset"] else ""
    shapes = spell_all(found["input"])
    console.print(
        f"{found['model']}{preset}, batch {found['batch']} of {shapes}, scored on {found['batches']} batches of "
        f"{found['data']} by {found['method']}",
        soft_wrap=True,
        markup=False,
    )
