"""The program `ranp`: one verb, one file beside this one. Nothing here imports torch."""

from typing import Annotated

import typer

from ranp import __version__
from ranp.commands import kernels
from ranp.commands._command import add
from ranp.commands._console import OneLineErrors
from ranp.commands.adopt import adopt
from ranp.commands.bench import bench
from ranp.commands.compare import compare
from ranp.commands.connect import connect
from ranp.commands.data import data
from ranp.commands.doctor import doctor
from ranp.commands.evaluate import evaluate
from ranp.commands.export import export
from ranp.commands.fuse import fuse
from ranp.commands.inspect import inspect
from ranp.commands.models import models
from ranp.commands.predict import predict
from ranp.commands.profile import profile
from ranp.commands.prune import prune
from ranp.commands.refine import refine
from ranp.commands.report import report
from ranp.commands.search import search
from ranp.commands.suggest import suggest
from ranp.commands.train import train
from ranp.commands.transfer import transfer
from ranp.commands.transform import transform
from ranp.commands.verify import verify

app = typer.Typer(
    cls=OneLineErrors,
    help="Fit a network to the machine before training it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(show: bool) -> None:
    if show:
        typer.echo(f"ranp {__version__}")
        raise typer.Exit


@app.callback()
def ranp(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Fit a network to the machine before training it."""


@app.command("help", hidden=True)
def show_help(
    context: typer.Context,
    words: Annotated[list[str] | None, typer.Argument(metavar="COMMAND", help="A command.", show_default=False)] = None,
) -> None:
    """Show the help of a command, or of all."""
    assert context.parent is not None
    context.parent.command.main([*(words or []), "--help"], prog_name=context.parent.info_name)


add(app, models)
add(app, data)
add(app, inspect)
add(app, profile)
add(app, suggest)
add(app, bench)
add(app, prune)
add(app, verify)
add(app, search)
add(app, train)
add(app, adopt)
add(app, transfer)
add(app, export)
add(app, evaluate)
add(app, predict)
add(app, compare)
add(app, refine)
add(app, report)
add(app, fuse)
add(app, connect)
add(app, transform)
add(app, doctor)
app.add_typer(kernels.app, name="kernels")
