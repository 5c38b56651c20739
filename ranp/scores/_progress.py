"""A bar that counts batches, for who calls the library."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

Track = Callable[[Iterable[Any]], Iterable[Any]]


def tracked(batches: Iterable[Any], progress: bool | Track | None) -> Iterable[Any]:
    """Return batches that are counted as they are read.

    Args:
        batches: any iterable; where it has a length, the bar knows its end.
        progress: None draws a bar on stderr where that is a terminal, True in any case (in a notebook too), False none;
            a function is given the batches and returns what is iterated over, such as `tqdm.tqdm`.
    """
    if callable(progress):
        return progress(batches)
    return batches if progress is False else _counted(batches, shown=progress)


def _counted(batches: Iterable[Any], *, shown: bool | None) -> Iterator[Any]:
    console = Console(stderr=True)
    if not (console.is_terminal if shown is None else shown):
        yield from batches
        return
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    try:
        total: int | None = len(batches)  # type: ignore[arg-type]
    except TypeError:
        total = None
    with Progress(*columns, console=console, transient=console.is_terminal) as bar:
        yield from bar.track(batches, total=total, description="batches")
