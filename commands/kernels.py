"""`ranp kernels`: see and build the native libraries that the adapters run on."""

from dataclasses import asdict

import typer

from ranp.commands._command import add, command
from ranp.commands._console import emit_json, stdout
from ranp.jobs.options import BuildKernels, Printed

app = typer.Typer(help="See and build the native libraries.", no_args_is_help=True)


@command(Printed, "ranp kernels status")
def status(options: Printed) -> None:
    """Show which native libraries there are, what they run on, and why one is missing."""
    from ranp.kernels.native import KINDS, mode
    from ranp.kernels.status import status as look

    libraries = [look(kind) for kind in KINDS]
    if options.as_json:
        emit_json({"RANP_NATIVE": mode(), "libraries": list(map(asdict, libraries))})
        return
    stdout().print(f"RANP_NATIVE={mode()}")
    for library in libraries:
        details = [library.instruction_set, library.compiler, library.file, library.reason]
        state = f"{library.kind}: {library.state}"
        stdout().print(state, *filter(None, details), sep="\n  ", markup=False, soft_wrap=True)


@command(BuildKernels, "ranp kernels build cpu")
def build(options: BuildKernels) -> None:
    """Compile a native library into the cache, unless a good one is there."""
    from ranp.errors import UnsupportedError
    from ranp.kernels import native
    from ranp.kernels.compiling import BuildError

    try:
        file = native.build(options.kind, force=options.force)
    except BuildError as error:
        raise UnsupportedError(f"{options.kind}: {error}") from None
    if options.as_json:
        emit_json({"kind": options.kind, "file": str(file)})
    else:
        stdout().print(file, soft_wrap=True, markup=False)


add(app, status)
add(app, build)
