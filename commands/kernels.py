"""`ranp kernels`: see and build the native libraries that the adapters run on."""

from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

import typer

from ranp.commands._console import command, emit_json, stdout
from ranp.commands._options import Debug, Force, Json

app = typer.Typer(help="See and build the native libraries.", no_args_is_help=True)


class Kind(StrEnum):
    """The libraries there are."""

    CPU = "cpu"
    CUDA = "cuda"


@app.command()
@command
def status(json: Json = False, debug: Debug = False) -> None:
    """Show which native libraries there are, what they run on, and why one is missing."""
    from ranp.kernels.native import mode
    from ranp.kernels.status import status as look

    chosen = mode()
    found = [look(kind.value) for kind in Kind]
    if json:
        emit_json({"RANP_NATIVE": chosen, "libraries": [asdict(one) for one in found]})
        return
    stdout().print(f"RANP_NATIVE={chosen}")
    for one in found:
        details = [one.instruction_set, one.compiler, one.file, one.reason]
        stdout().print(f"{one.kind}: {one.state}", *filter(None, details), sep="\n  ", markup=False, soft_wrap=True)


@app.command()
@command
def build(
    kind: Annotated[Kind, typer.Argument(help="The library to build.")] = Kind.CPU,
    force: Force = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Compile a native library into the cache, unless a good one is there."""
    from ranp.errors import UnsupportedError
    from ranp.kernels import native
    from ranp.kernels.compiling import BuildError

    try:
        file = native.build(kind.value, force=force)
    except BuildError as error:
        raise UnsupportedError(f"{kind.value}: {error}") from None
    if json:
        emit_json({"kind": kind.value, "file": str(file)})
    else:
        typer.echo(file)
