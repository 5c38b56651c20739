"""Folders that are a MODEL: of which kind one is, and who builds its network.

A kind is known by a file in the folder. Pruned runs are this package's own; other packages announce theirs as entry
points of the group "ranp.folders", each the name of a `Kind`, so that nothing here names them.
"""

import functools
import importlib.metadata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ranp.errors import UsageError, named
from ranp.files import same_place


@dataclass(frozen=True)
class Kind:
    """A kind of folder.

    Args:
        name: in a word.
        marker: the file that every folder of the kind holds.
        factory: `package.module:function` that makes its network from the folder, its setting `run`; "" for pruned
            runs, which are loaded by `ranp.runs`.
        former: names the factory had in earlier versions, which configs still hold.
        made_by: the command that writes it.
        files: what every folder of the kind is made of, beside the marker.
    """

    name: str
    marker: str
    factory: str
    former: tuple[str, ...] = ()
    made_by: str = ""
    files: tuple[str, ...] = ("config.yaml", "report.json")


PRUNED = Kind("pruned", "plan.json", "", made_by="ranp prune", files=("config.yaml", "slim.safetensors", "report.json"))


@functools.cache
def kinds() -> tuple[Kind, ...]:
    """Return every kind there is, pruned runs first."""
    announced = importlib.metadata.entry_points(group="ranp.folders")
    return (PRUNED, *(entry.load() for entry in sorted(announced, key=lambda entry: entry.name)))


def kind_of(path: Path | str) -> Kind | None:
    """Return the kind of a folder; None for what is no such folder."""
    return next((kind for kind in kinds() if Path(path, kind.marker).is_file()), None)


def factory_of(spec: str) -> str | None:
    """Return the factory that MODEL names if it is one of a kind of folder, under today's name; None for another."""
    return next((kind.factory for kind in kinds() if kind.factory and spec in (kind.factory, *kind.former)), None)


def check_output(path: Path, option: str, inputs: Iterable[Path] = (), flag: str | None = None) -> None:
    """Refuse an output that would destroy what a command reads, or a part of a run; `--force` is no leave for that.

    Args:
        path: of the output, a file or a folder.
        option: that named it, for messages.
        inputs: files and folders that the command reads.
        flag: how the command line calls the option, where that is not `--` and its name.

    Raises:
        UsageError: the output is an input, holds one, or is a file that a run is made of.
    """
    real, said = path.resolve(), named(option, path, flag)
    for given in inputs:
        if not given.exists():
            continue
        if same_place(path, given):
            raise UsageError(f"{said}: is the input {given}; name another output")
        if real.is_dir() and real in given.resolve().parents:
            raise UsageError(f"{said}: holds the input {given}; name another output")
        kind = kind_of(given) if given.is_dir() else None
        for name in (kind.marker, *kind.files) if kind else ():
            if same_place(path, given / name):
                raise UsageError(f"{said}: is {name} of the run {given}; name another output")
    for folder in real.parents[:3]:
        kind = kind_of(folder)
        if kind is not None and real.relative_to(folder).parts[0] in (kind.marker, *kind.files):
            raise UsageError(f"{said}: is {real.name} of a run; name another output")
