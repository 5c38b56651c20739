"""The tables that `ranp prune` and `ranp verify` print for people."""

from typing import Any

from rich.console import Console
from rich.table import Table

from ranp.figures import at_most, operations, saved, seconds, share, size, spell_all

SHOWN = 24  # groups that a table lists before it is cut in the middle


def plain_table(*columns: str) -> Table:
    """Return a table without lines: the first column to the left, the others to the right."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", overflow="fold")
    return table


def print_prune(console: Console, report: dict[str, Any]) -> None:
    """Print what a prune saved, the widths, the proof and where the run is."""
    _print_head(console, report)
    console.print(_costs(report))
    sparsity = report["sparsity"]
    console.print(
        f"\nsparsity: asked {at_most(sparsity['asked'], 4)}, achieved {sparsity['achieved']:.4f}, "
        f"largest feasible {at_most(sparsity['maximum'], 4)}"
    )
    _print_units(console, report["units"])
    console.print()
    console.print(_widths(report["groups"]))
    console.print()
    print_verification(console, report["verify"])
    console.print(seconds(report["seconds"]))
    for note in report["notes"]:
        console.print(f"note: {note}", soft_wrap=True)
    console.print(f"wrote {report['out']}", soft_wrap=True)


def print_prune_plan(console: Console, report: dict[str, Any]) -> None:
    """Print what a dry run found."""
    _print_head(console, report)
    full = report["full"]
    console.print(
        f"{full['params']:,} parameters, {operations(full['flops'])}FLOPs, {size(full['memory_bytes'])} of activations"
    )
    _print_units(console, report["units"])
    console.print(f"dry run: would write {report['out']}", soft_wrap=True)


def print_proof(console: Console, report: dict[str, Any]) -> None:
    """Print what `ranp verify` found."""
    for name in report["hashes"]:
        console.print(f"{name}: as it was written")
    print_frozen(console, report["frozen"])
    print_verification(console, report)


def print_verification(console: Console, verify: dict[str, Any]) -> None:
    """Print the verification in one line, and what could not be compared."""
    word = "verified" if verify["passed"] else "FAILED"
    console.print(
        f"{word}: slim = masked to {verify['max_rel_diff']:.1e} of the largest output "
        f"({verify['inputs']} inputs, float64)",
        style="green" if verify["passed"] else "red",
    )
    for name in verify["uncompared"]:
        console.print(f"not compared: {name}", soft_wrap=True)


def _print_head(console: Console, report: dict[str, Any]) -> None:
    preset = f" ({report['preset']})" if report["preset"] else ""
    shapes = spell_all(report["input"])
    console.print(f"{report['model']}{preset}, batch {report['batch']} of {shapes}\n", soft_wrap=True, markup=False)


def _costs(report: dict[str, Any]) -> Table:
    table = plain_table("", "full", "slim", "saved")
    full, slim = report["full"], report["slim"]
    for name, key, write in (
        ("parameters", "params", "{:,}".format),
        ("FLOPs", "flops", operations),
        ("activation memory", "memory_bytes", size),
    ):
        table.add_row(name, write(full[key]), write(slim[key]), saved(full[key], slim[key]))
    return table


def _print_units(console: Console, units: dict[str, Any]) -> None:
    kept = f"{units['kept']} of {units['total']} kept" if units["kept"] != units["total"] else f"{units['total']}"
    console.print(f"units: {kept}")
    print_frozen(console, units["frozen"])


def print_frozen(console: Console, frozen: dict[str, int]) -> None:
    """Print how many units must stay for each reason."""
    for reason, count in frozen.items():
        console.print(f"frozen: {count} ({reason})", soft_wrap=True, markup=False)


def _widths(groups: list[dict[str, Any]]) -> Table:
    table = plain_table("group", "width", "slim", "kept", "frozen")
    for group in _abbreviated(groups):
        if group is None:
            table.add_row(f"... {len(groups) - SHOWN} more", "", "", "", "")
            continue
        before, after, frozen = group["before"], group["after"], sum(group["frozen"].values())
        table.add_row(group["name"], str(before), str(after), share(after / before), str(frozen or ""))
    return table


def _abbreviated(groups: list[dict[str, Any]]) -> list[dict[str, Any] | None]:
    if len(groups) <= SHOWN + 1:
        return list(groups)
    half = SHOWN // 2
    return [*groups[:half], None, *groups[-half:]]
