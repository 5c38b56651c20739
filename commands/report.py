"""`ranp report`: one page about a run, or about two."""

from ranp.commands._command import command
from ranp.commands._console import emit_json, stdout, steps
from ranp.jobs.options import Report


@command(Report, "ranp report runs/small --out small.html")
def report(options: Report) -> None:
    """Write a page about RUN: what was saved, how, and the proof."""
    from ranp.report import enter_times, write_report

    if options.measure and not options.dry_run:
        with steps("measure"):
            for run in filter(None, (options.run, options.other)):
                enter_times(run, options.model, options.device)
    path = write_report(
        options.run, options.other, comparison=options.compare, out=options.out, force=options.force,
        dry_run=options.dry_run,
    )  # fmt: skip
    if options.as_json:
        emit_json({"out": str(path), "dry_run": options.dry_run})
    else:
        word = "dry run: would write" if options.dry_run else "wrote"
        stdout().print(f"{word} {path}", soft_wrap=True, markup=False)
