"""Reading what a page is about and writing the page, whole or not at all."""

from pathlib import Path

from ranp import runs
from ranp.errors import UsageError, named
from ranp.files import check_file_place, check_replaces, check_writable, read_json, whole_file
from ranp.models.folders import check_output
from ranp.pipeline import FILE
from ranp.report import _pair as pair
from ranp.report import _single as single
from ranp.reports import Comparison

NAME = "report.html"


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
        raise UsageError(f"{named('compare', comparison)}: shown for one run, and two are given")
    if out is not None:
        check_output(out, "out", filter(None, [run, other, comparison]))
        check_file_place(out, force=force)
        check_replaces(out, "page", "out")
    first = runs.read(run)
    path = out or run / (NAME if other is None else f"compare-{other.resolve().name}.html")
    if out is None:
        check_writable(run, str(path))
    both = [first] if other is None else [first, runs.read(other)]
    for read in both:
        _ = read.report  # that it is one is said first
        read.check_hashes()
    if other is None:
        beside = run / FILE
        table = comparison or (beside if beside.is_file() else None)
        shown = None if table is None else Comparison.read(read_json(table, "compare"), table, "comparison")
        text = single.page(first, shown)
    else:
        text = pair.page(*both)
    if not dry_run:
        with whole_file(path) as temporary:
            temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
    return path
