"""Folders that are a MODEL: of which kind one is, and who builds its network.

A kind is known by a file in the folder. Pruned runs are this package's own; other packages announce theirs as entry
points of the group "ranp.folders", each the name of a `Kind`, so that nothing here names them.
"""

import functools
import importlib.metadata
from dataclasses import dataclass
from pathlib import Path


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
    """

    name: str
    marker: str
    factory: str
    former: tuple[str, ...] = ()
    made_by: str = ""


PRUNED = Kind("pruned", "plan.json", "", made_by="ranp prune")


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
