"""`ranp transfer`: a run's slim architecture for other channels, classes or input sizes."""

from ranp.commands._command import command
from ranp.commands._console import emit_json, ended, stdout
from ranp.commands._tables import print_prune
from ranp.figures import spell_all
from ranp.jobs.options import Transfer
from ranp.reports import Report


@command(Transfer, "ranp transfer runs/small --in-channels 4 --classes 5 --out runs/small-4")
def transfer(options: Transfer) -> None:
    """Carry RUN's slim architecture to other data, and prove it.

    The network is built for other channels, classes or sizes and slimmed by RUN's plan.
    """
    from ranp.jobs.transfer import carry_out, keep, prepare

    prepared = prepare(options)
    result = carry_out(prepared)
    report = result.report if options.dry_run else keep(prepared, result)
    if options.as_json:
        emit_json(report.to_dict())
    else:
        _print(report, options.dry_run)
    ended(report.verify.passed)


def _print(report: Report, dry_run: bool) -> None:
    console, moved = stdout(), report.transfer
    assert moved is not None
    before, inherited = spell_all(moved.input_before), len(moved.inherited)
    console.print(f"widths of {moved.origin} (input {before}), {inherited} tensors inherited", soft_wrap=True)
    if dry_run:
        console.print(f"the plan fits; dry run: would write {report.out}", soft_wrap=True)
    else:
        print_prune(console, report)
