"""What `ranp kernels status` reports: which libraries there are, why not, and what they run on."""

import ctypes
from dataclasses import dataclass
from pathlib import Path

from ranp.kernels import native
from ranp.kernels.compiling import BuildError


@dataclass(frozen=True)
class Status:
    """The state of one library; nothing is compiled to find out.

    Args:
        kind: `cpu` or `cuda`.
        state: `ready`; `unbuilt`: compiled on first use; `off`: `RANP_NATIVE=off`; `unavailable`: for the reason given.
        file: the library, or where it will be.
        compiler: its version.
        instruction_set: what the loaded library chose to run on.
        reason: why there is none.
    """

    kind: str
    state: str
    file: str | None = None
    compiler: str | None = None
    instruction_set: str | None = None
    reason: str | None = None


def status(kind: str) -> Status:
    """Look at the library of one kind."""
    if native.mode() == "off":
        return Status(kind, "off", reason="RANP_NATIVE=off")
    try:
        recipe = native.recipe(kind)
    except BuildError as error:
        return Status(kind, "unavailable", reason=str(error))
    file, lines = native.target_of(recipe), recipe.compiler.splitlines()
    compiler = next((line for line in lines if "release" in line), lines[0])  # nvcc's is not its first line
    if not native.is_whole(file):
        return Status(kind, "unbuilt", str(file), compiler)
    return _loaded(kind, file, compiler)


def _loaded(kind: str, file: Path, compiler: str) -> Status:
    try:
        name = native.load(file).ranp_isa
    except OSError as error:
        return Status(kind, "unavailable", str(file), compiler, reason=str(error))
    name.argtypes, name.restype = [], ctypes.c_char_p
    return Status(kind, "ready", str(file), compiler, name().decode())
