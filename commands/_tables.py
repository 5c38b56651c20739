"""The tables that `ranp prune` and `ranp verify` print for people."""

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from ranp.figures import at_most, operations, saved, seconds, share, size, spell_all
from ranp.reports import Head, Proof, Report, Search, Trial, Units, Verification, Width

SHOWN = 24  # groups that a table lists before it is cut in the middle


def plain_table(*columns: str) -> Table:
    """Return a table without lines: the first column to the left, the others to the right."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", overflow="fold")
    return table


def print_table(console: Console, table: Table) -> None:
    """Print a table as wide as its cells are: rich would break words to fit it into the terminal."""
    wide = Measurement.get(console, console.options.update(max_width=10_000), table).maximum
    own, console.width = console.width, max(console.width, wide)
    console.print(table, markup=False)
    console.width = own


def print_head(console: Console, head: Head, more: str = "") -> None:
    """Print what was worked on."""
    preset = f" ({head.preset})" if head.preset else ""
    shapes = spell_all(head.input or [])
    console.print(f"{head.model}{preset}, batch {head.batch} of {shapes}{more}", soft_wrap=True, markup=False)
    print_weights(console, head.weights)


def print_prune(console: Console, report: Report) -> None:
    """Print what a prune saved, the widths, the proof and where the run is."""
    print_head(console, report)
    _print_scored(console, report.scored_on)
    print_table(console, _costs(report))
    sparsity = report.sparsity
    console.print(
        f"\nsparsity: asked {at_most(sparsity.asked, 4)}, achieved {sparsity.achieved:.4f}, "
        f"largest feasible {at_most(sparsity.maximum, 4)}"
    )
    for line in report.found():
        console.print(line, soft_wrap=True, markup=False)
    _print_units(console, report.units)
    console.print()
    print_table(console, _widths(report.groups))
    console.print()
    print_verification(console, report.verify)
    console.print(seconds(report.seconds))
    for note in report.notes:
        console.print(f"note: {note}", soft_wrap=True, markup=False)
    console.print(f"wrote {report.out}", soft_wrap=True)


def print_search(console: Console, search: Search) -> None:
    """Print the candidates of a search, and why the winner won."""
    table = plain_table(*search.columns)
    for row in search.table():
        table.add_row(*row)
    print_table(console, table)
    for reason in search.reasons():
        console.print(reason, soft_wrap=True, markup=False)
    console.print(f"\n{search.why}; the run is of seed {search.seed}", soft_wrap=True, markup=False)


def print_trial(console: Console, trial: Trial) -> None:
    """Print what a dry run found."""
    print_head(console, trial)
    _print_scored(console, trial.scored_on)
    full = trial.full
    console.print(
        f"{full.params:,} parameters, {operations(full.flops)}FLOPs, {size(full.memory_bytes)} of activations"
    )
    _print_units(console, trial.units)
    console.print(f"dry run: would write {trial.out}", soft_wrap=True)


def print_weights(console: Console, weights: str) -> None:
    """Print where weights come from, in a line, if it is known."""
    if weights:
        line = weights if weights.startswith("untrained") else f"weights: {weights}"
        console.print(line, soft_wrap=True, markup=False)


def _print_scored(console: Console, scored_on: str) -> None:
    if scored_on:
        console.print(f"scored on {scored_on}", soft_wrap=True, markup=False)
    console.print()


def print_proof(console: Console, proof: Proof) -> None:
    """Print what `ranp verify` found."""
    for name in proof.hashes:
        console.print(f"{name}: as it was written")
    print_weights(console, proof.weights)
    print_frozen(console, proof.frozen)
    print_verification(console, proof)


def print_verification(console: Console, verify: Verification) -> None:
    """Print the verification in one line, and what could not be compared."""
    console.print(verify.words, style="green" if verify.passed else "red", soft_wrap=True)
    for name in verify.uncompared:
        console.print(f"not compared: {name}", soft_wrap=True)


def _costs(report: Report) -> Table:
    table = plain_table("", "full", "slim", "saved")
    full, slim = report.full, report.slim
    for name, before, after, write in (
        ("parameters", full.params, slim.params, "{:,}".format),
        ("FLOPs", full.flops, slim.flops, operations),
        ("activation memory", full.memory_bytes, slim.memory_bytes, size),
    ):
        table.add_row(name, write(before), write(after), saved(before, after))
    return table


def _print_units(console: Console, units: Units) -> None:
    console.print(
        f"units: {units.kept} of {units.total} kept" if units.kept != units.total else f"units: {units.total}"
    )
    print_frozen(console, units.frozen)


def print_frozen(console: Console, frozen: dict[str, int]) -> None:
    """Print how many units must stay for each reason."""
    for reason, count in frozen.items():
        console.print(f"frozen: {count} ({reason})", soft_wrap=True, markup=False)


def _widths(groups: list[Width]) -> Table:
    table = plain_table("group", "width", "slim", "kept", "frozen")
    half = SHOWN // 2
    cut = len(groups) > SHOWN + 1
    for index, group in enumerate(groups):
        if cut and half <= index < len(groups) - half:
            if index == half:
                table.add_row(f"... {len(groups) - SHOWN} more", "", "", "", "")
            continue
        stays = sum(group.frozen.values())
        kept = share(group.after / group.before)
        table.add_row(group.name, str(group.before), str(group.after), kept, str(stays or ""))
    return table
