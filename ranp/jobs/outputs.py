"""No output of a command destroys what it reads, a run, or a file that the command would never have written."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ranp.errors import UsageError, named
from ranp.files import check_replaces, same_place
from ranp.models.folders import check_output
from ranp.options import Options, listing


def check_outputs(options: Options) -> None:
    """Compare every output that options name with every input.

    Inputs are all other paths, and the words that name a network where they are a folder or a file of Python. A run
    folder may hold the --config it is repeated by.

    Raises:
        UsageError: an output is an input or a part of a run, two outputs are one, or --force would replace a file of
            another kind.
    """
    listed = listing(type(options))
    places = {entry.name: list(_paths(getattr(options, entry.name), entry.known)) for entry in listed}
    inputs = [(entry.name, path) for entry in listed if not entry.known["writes"] for path in places[entry.name]]
    taken: list[tuple[str, Path]] = []
    for entry in listed:
        kind = entry.known["writes"]
        for path in places[entry.name] if kind else ():
            read = [given for name, given in inputs if kind != "run" or name != "config"]
            check_output(path, entry.name, read, entry.flag)
            for other, place in taken:
                if same_place(path, place):
                    raise UsageError(f"{named(entry.name, path, entry.flag)}: {other} writes there")
            taken.append((named(entry.name, flag=entry.flag), path))
            if kind != "run" and getattr(options, "force", False):
                check_replaces(path, kind, entry.name)


def _paths(value: Any, known: dict[str, Any]) -> Iterator[Path]:
    if isinstance(value, Path):
        yield value
    elif isinstance(value, tuple):
        yield from (part for part in value if isinstance(part, Path))
    elif isinstance(value, str):
        where = Path(value.rpartition(":")[0] or value)  # path/to/file.py:factory, or a folder that is a MODEL
        if where.suffix == ".py" or (where.is_dir() and (known["complete"] == "model" or known["argument"])):
            yield where
