"""Reading what a page is about and writing the page, whole or not at all."""

from pathlib import Path

from ranp import runs
from ranp.errors import UsageError, words_of
from ranp.files import check_file_place, check_writable, read_json, whole_file
from ranp.pipeline._compare import FILE
from ranp.report import _pair as pair
from ranp.report import _single as single

NAME = "report.html"
_WRONG = (KeyError, TypeError, ValueError, AttributeError, IndexError)


def write_report(
    run: Path,
    other: Path | None = None,
    *,
    comparison: Path | None = None,
    out: Path | None = None,
    force: bool = False,
    dry_run: bool = False,
) -> Path:
    """Write the page of a run, or of two.

    Args:
        run: a run folder.
        other: a second one to compare it with.
        comparison: what `ranp compare --out` wrote; by default `compare.json` in the run folder, where there is one.
        out: the page; by default `report.html` in the run folder, for two `compare-OTHER.html` there. Those belong to
            the run and are replaced.
        force: whether an existing `out` is replaced.
        dry_run: do everything but write.

    Returns:
        Where the page is.

    Raises:
        UsageError: a folder is no run, a file is not what ranp wrote, or `out` exists or can't be written.
    """
    if other is not None and comparison is not None:
        raise UsageError(f"--compare {comparison}: shown for one run, and two are given")
    if out is not None:
        check_file_place(out, force=force)
    first = runs.read(run)
    path = out or run / (NAME if other is None else f"compare-{other.resolve().name}.html")
    if out is None:
        check_writable(run, str(path))
    if other is not None:
        second = runs.read(other)
        text = _page_of_two(first, second)
        second.check_hashes()
    else:
        text = _page_of_one(first, comparison)
    first.check_hashes()
    if not dry_run:
        with whole_file(path) as temporary:
            temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
    return path


def _page_of_one(run: runs.Run, comparison: Path | None) -> str:
    beside = run.path / FILE
    path = comparison or (beside if beside.is_file() else None)
    found = None if path is None else read_json(path, "--compare")
    try:
        single.page(run)
    except _WRONG as error:
        raise _not_ours(run.path / runs.REPORT, "report", error) from error
    try:
        return single.page(run, found)
    except _WRONG as error:
        assert path is not None
        raise _not_ours(path, "comparison", error) from error


def _page_of_two(first: runs.Run, second: runs.Run) -> str:
    try:
        return pair.page(first, second)
    except _WRONG as error:
        raise _not_ours(first.path / runs.REPORT, f"report, or that of {second.path} is none", error) from error


def _not_ours(path: Path, what: str, error: Exception) -> UsageError:
    reason = f"{error} is missing" if isinstance(error, KeyError) else words_of(error, 120)
    return UsageError(f"{path}: not a {what} of ranp: {reason}")
