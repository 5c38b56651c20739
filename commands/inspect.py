"""`ranp inspect`: which layers share which channels, and why some are frozen."""

from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.table import Table

from ranp.commands._command import command
from ranp.commands._console import emit_json, stdout, steps
from ranp.commands._tables import plain_table, print_table
from ranp.jobs.options import Inspect

SHOWN = 3  # modules that a cell names
REST = 27  # what the columns without names need, and the gaps


@command(Inspect, "ranp inspect unet3d --input 32 --svg coupling.svg")
def inspect(options: Inspect) -> None:
    """Show which layers share which channels, and why some stay.

    MODEL is a network, or a run folder for its slim network.
    """
    from ranp.jobs.inspect import look

    with steps("trace"):
        report = look(options)
    if options.as_json:
        emit_json(report)
        return
    (_print_full if options.module else _print)(stdout(), report)
    for path in filter(None, (options.dot, options.svg)):
        stdout().print(f"wrote {path}", soft_wrap=True)


def _print(console: Console, report: dict[str, Any]) -> None:
    if _fits(console, report):
        print_table(console, _table(report))
    else:
        _print_groups(console, report, _few)
    console.print(f"\n{report['layers']} layers, {report['units']} units in {len(report['groups'])} groups")
    for note in report["notes"]:
        console.print(f"note: {note}", soft_wrap=True, markup=False)


def _table(report: dict[str, Any]) -> Table:
    table = plain_table("group", "width", "made by", "read by", "frozen")
    for column in table.columns[2:]:
        column.justify = "left"
    for each in report["groups"]:
        frozen = "; ".join(_reason(count, reason, each["width"]) for reason, count in each["frozen"].items())
        table.add_row(each["name"], str(each["width"]), _few(each["makes"]), _few(each["reads"]), frozen)
    return table


def _fits(console: Console, report: dict[str, Any]) -> bool:
    """Whether a table in this console breaks no name."""
    groups = report["groups"]
    columns = [[each["name"] for each in groups]]
    columns += [[f"{name}," for each in groups for name in each[key][:SHOWN]] for key in ("makes", "reads")]
    widest = sum(max(map(len, column), default=0) for column in columns)
    return widest + REST <= console.width


def _print_full(console: Console, report: dict[str, Any]) -> None:
    _print_groups(console, report, ", ".join)


def _print_groups(console: Console, report: dict[str, Any], names: Callable[[list[str]], str]) -> None:
    for each in report["groups"]:
        console.print(f"{each['name']}: {each['width']} channels", style="bold", soft_wrap=True, markup=False)
        for word, key in (("made by", "makes"), ("carried by", "carries"), ("read by", "reads")):
            if each[key]:
                console.print(f"  {word:11s}{names(each[key])}", soft_wrap=True, markup=False)
        for reason, count in each["frozen"].items():
            console.print(f"  frozen     {_reason(count, reason, each['width'])}", soft_wrap=True, markup=False)


def _few(names: list[str]) -> str:
    more = f" +{len(names) - SHOWN}" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _reason(count: int, reason: str, width: int) -> str:
    return reason if count == width else f"{count}: {reason}"
