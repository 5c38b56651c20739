"""`ranp prune`: slim a network, prove it, and keep the result as a run folder."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

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
from ranp.commands._tables import print_prune, print_prune_plan

STEPS = ("trace", "score", "select", "slim", "verify")


@command
def prune(
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
    rule: Annotated[str, typer.Option(help="global, layerwise, random or snip.")] = "global",
    weighting: Annotated[str, typer.Option(help="layer (Eq. 5.9), or none: the paper's vanilla.")] = "layer",
    reweight: Annotated[str | None, typer.Option(help="Favour layers that use little: flops or memory.")] = None,
    strength: Strength = None,
    coupling: Coupling = "paper",
    sparsity: Annotated[float | None, typer.Option(help="Share of the neurons to remove, in [0, 1).")] = None,
    max_sparsity: Annotated[bool, typer.Option("--max-sparsity", help="Remove as many as can be.")] = False,
    min_width: MinWidth = 1,
    align: Align = 1,
    published_transposed: Annotated[
        bool,
        typer.Option(
            "--published-transposed",
            help="Rank transposed convolutions by their inputs, keep their outputs, and count them as published.",
        ),
    ] = False,
    freeze: Freeze = None,
    init: Init = None,
    loss: Loss = None,
    out: Annotated[Path | None, typer.Option(help="The run folder to write.", show_default="runs/MODEL")] = None,
    seed: Seed = 0,
    device: Device = "cpu",
    config: Config = None,
    dry_run: DryRun = False,
    force: Force = False,
    debug: Debug = False,
    json: Json = False,
) -> None:
    """Slim MODEL: score, choose, build the smaller network, prove it.

    Neurons are scored from the gradients of a few batches; which stay follows from their scores, what their layers
    cost, and how far the network can go. The full network masked alike equals the slim one, in float64.
    """
    model = given_model(model)
    from ranp.jobs.prune import Job, carry_out, keep, plan_only, prepare
    from ranp.models.request import read_settings

    job = Job(
        model=model, preset=preset, settings=read_settings(settings or ()), in_channels=in_channels, classes=classes,
        input=input, weights=weights, data=data, images=tuple(images or ()), labels=tuple(labels or ()), patch=patch,
        batches=batches, batch_size=batch_size, method=method, reduce=reduce, rule=rule, weighting=weighting,
        reweight=reweight, strength=strength, coupling=coupling, sparsity=sparsity, max_sparsity=max_sparsity,
        min_width=min_width, align=align, published_transposed=published_transposed, freeze=tuple(freeze or ()),
        init=init, loss=loss, seed=seed, device=device, out=out,
    )  # fmt: skip
    with progress() as bar:
        task = bar.add_task("prepare", total=len(STEPS) + 1)

        def watch(step: str) -> None:
            bar.update(task, description=step, advance=1)

        def track(items: Iterable[Any]) -> Iterable[Any]:
            return bar.track(items, total=job.batches, description="batches")

        prepared = prepare(job, force=force)
        if dry_run:
            report = plan_only(prepared, watch)
        else:
            result, report = carry_out(prepared, watch=watch, track=track)
            report = keep(prepared.job, result, report, force=force)
    if json:
        emit_json(report)
    else:
        (print_prune_plan if dry_run else print_prune)(stdout(), report)
