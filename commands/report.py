"""`ranp report`: one page about a run, or about two."""

from pathlib import Path
from typing import Annotated

import typer

from ranp.commands._console import command, emit_json, progress, stdout
from ranp.commands._options import Config, Debug, Device, DryRun, Force, Json
from ranp.commands._words import complete_model


@command
def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    other: Annotated[Path | None, typer.Argument(metavar="OTHER", help="A second one to compare it with.")] = None,
    compare: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What `ranp compare --out` wrote.", show_default="RUN/compare.json if any"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The page.", show_default="RUN/report.html, of two runs RUN/compare-OTHER.html"
        ),
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Time a forward of the full and the slim network, and keep it in RUN.")
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="For --measure: the factory, if the run's is your own.",
            autocompletion=complete_model,
        ),
    ] = None,
    device: Device = "cpu",
    config: Config = None,
    dry_run: DryRun = False,
    force: Force = False,
    debug: Debug = False,
    json: Json = False,
) -> None:
    """Write a page about RUN: what was saved, how, and the proof."""
    from ranp.report import enter_times, write_report

    if measure and not dry_run:
        with progress() as bar:
            bar.add_task("measure", total=None)
            for each in filter(None, (run, other)):
                enter_times(each, model, device)
    path = write_report(run, other, comparison=compare, out=out, force=force, dry_run=dry_run)
    if json:
        emit_json({"out": str(path), "dry_run": dry_run})
    else:
        word = "dry run: would write" if dry_run else "wrote"
        stdout().print(f"{word} {path}", soft_wrap=True, markup=False)
