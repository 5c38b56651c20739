"""`ranp compare`: the paper's methods on one network at the same sparsity."""

from typing import Any

from rich.console import Console

from ranp.commands._command import command
from ranp.commands._console import emit_json, stdout, steps
from ranp.commands._tables import plain_table, print_head, print_table
from ranp.figures import amount, operations, size
from ranp.jobs.options import Compare
from ranp.reports import Comparison


@command(Compare, "ranp compare unet3d --classes 3 --patch 32 --batches 2 --sparsity 0.4", shared=True)
def compare(options: Compare) -> None:
    """Compare the paper's methods on MODEL, or a run, at one goal.

    At one sparsity, or under the same limits: full, random, layer-wise, SNIP, vanilla, weighted, RANP-m, RANP-f,
    uniform and profile, with the largest feasible sparsity of each.
    """
    from ranp.jobs.compare import carry_out, dry, prepare

    with steps("prepare", batches=options.batches) as (watch, track):
        asked = prepare(options)
        table = None if options.dry_run else carry_out(asked, watch=watch, track=track)
    if table is None:
        trial = dry(asked)
        emit_json(trial) if options.as_json else _print_trial(stdout(), trial)
    elif options.as_json:
        emit_json(table.to_dict())
    else:
        _print(stdout(), table, options.convention)


def _print(console: Console, table: Comparison, convention: str) -> None:
    print_head(console, table, f", scored on {table.batches} batches of {table.data} by {table.method}")
    console.print(f"{table.goal}; {convention} convention\n", soft_wrap=True)
    meters = list(table.rows[0].meters)
    names = [name.replace("_", " ") for name in meters]
    shown = plain_table("method", "parameters", "FLOPs", "activations", *names, "achieved", "largest")
    for row in table.rows:
        largest = "-" if row.maximum is None else f"{row.maximum:.4f}"
        if row.status != "ok":
            shown.add_row(row.name, row.status, "", "", *("" for _ in meters), "", largest)
            continue
        costs = row.costs[convention]
        shown.add_row(
            row.name, f"{costs.params:,}", operations(costs.flops), size(costs.memory_bytes),
            *(amount(name, row.meters[name]) for name in meters), f"{row.achieved:.4f}", largest,
        )  # fmt: skip
    print_table(console, shown)
    for row in table.rows:
        if row.reason:
            console.print(f"{row.name}: {row.reason}", soft_wrap=True, markup=False)
    if table.out:
        console.print(f"wrote {table.out}", soft_wrap=True, markup=False)


def _print_trial(console: Console, trial: dict[str, Any]) -> None:
    head = Comparison.model_construct(**trial)
    print_head(console, head, f", scored on {head.batches} batches of {head.data} by {head.method}")
    console.print(f"dry run: would compare {', '.join(trial['methods'])}", soft_wrap=True)
