"""`ranp verify`: prove a run folder again."""

from pathlib import Path
from typing import Annotated

import typer

from ranp.commands._console import command, emit_json, progress, stdout
from ranp.commands._options import Debug, Json, Seed, Settings
from ranp.commands._tables import print_proof
from ranp.commands._words import complete_model


@command
def verify(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder that `ranp prune` wrote.")],
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Repeats the run's MODEL; needed for a factory of your own, which a run's files never make ranp call.",
            autocompletion=complete_model,
        ),
    ] = None,
    settings: Settings = None,
    inputs: Annotated[int, typer.Option(help="Random inputs to compare on.")] = 2,
    seed: Seed = 0,
    debug: Debug = False,
    json: Json = False,
) -> None:
    """Prove RUN again: its hashes, and that slim equals masked.

    The full network is rebuilt, the slim weights are put into it, what reads removed units is zeroed, and both are
    compared in float64.
    """
    from ranp.jobs.verify import prove, report
    from ranp.models.request import read_settings

    with progress() as bar:
        bar.add_task("verify", total=None)
        found, checked = prove(
            run, model=model, settings=read_settings(settings) if settings else None, inputs=inputs, seed=seed
        )
    if json:
        emit_json(report(found, checked))
    else:
        print_proof(stdout(), report(found, checked))
    if not checked.passed:
        raise typer.Exit(1)
