"""`ranp connect`: search on the data which of an encoder's features a decoder should join, and keep both as a run."""

from typing import Any

from ranp.adapters.jobs.options import Connect
from ranp.commands._command import command
from ranp.commands._console import emit_json, stdout
from ranp.commands._tables import plain_table, print_table
from ranp.commands.train import display
from ranp.figures import operations, size


@command(Connect, "ranp connect unet2d --data Task09_Spleen --classes 2 --steps 2000 --out runs/joined")
def connect(options: Connect) -> None:
    """Search which features of ENCODER a decoder joins.

    Gates on all connections learn on the data, with the weights, and are driven to 0 or 1; what stays is kept as a run.
    """
    from ranp.adapters.jobs.connect import gap_said, run

    with display("search") as watch:
        report = run(options, watch)
    if options.as_json:
        emit_json(report)
    else:
        _print(report, gap_said(report))


def _print(report: dict[str, Any], gap: str) -> None:
    console = stdout()
    edges, names = report["edges"], report["features"]
    console.print(f"features     {', '.join(reversed(names))}", soft_wrap=True, markup=False)
    table = plain_table("stage", "takes")
    table.columns[1].justify = "left"
    for stage, sources in report["connections"].items():
        table.add_row(f"{stage} at {names[int(stage)]}", ", ".join(sources))
    print_table(console, table)
    console.print(f"connections  {edges['kept']} of {edges['searched']} kept; {gap}", soft_wrap=True)
    for edge in report["fallback"]:
        console.print(f"kept although its gate is under the threshold: {edge}; the output had no input", soft_wrap=True)
    costs = plain_table("decoder", "params", "MACs", "upsampling", "activations")
    for name, cost in report["decoders"].items():
        costs.add_row(
            name, f"{cost['params']:,}", operations(cost["macs"]), operations(cost["upsampling"]),
            size(4 * cost["activations"]),
        )  # fmt: skip
    print_table(console, costs)
    for name, scores in (("search", (report.get("validations") or [None])[-1]), ("slim", report.get("inherited"))):
        if scores:
            console.print(f"{name:13s}score {scores['score']:.4f}")
    if report["out"] is None:
        console.print("dry run: nothing written")
        return
    console.print(f"wrote        {report['out']}", soft_wrap=True)
    console.print(f"train it: ranp train {report['out']} --steps 2000 --out {report['out']}-trained", soft_wrap=True)
