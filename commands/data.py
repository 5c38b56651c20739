"""`ranp data`: what a source of data holds."""

from collections.abc import Callable
from typing import Any

import typer
from rich.console import Console

from ranp.commands._command import command
from ranp.commands._console import emit_json, progress, stdout
from ranp.commands._tables import plain_table, print_table
from ranp.figures import share, spell
from ranp.jobs.options import Data

SHOWN = 4  # values that a line names


@command(Data, "ranp data Task09_Spleen --sheet spleen.png")
def data(options: Data) -> None:
    """Show what SOURCE holds, and what is wrong with it.

    Layout, cases, splits, shapes, spacings, channels and labels; exit with 1 if a case has a problem.
    """
    from ranp.jobs.data import look

    with progress() as bar:
        found = look(options, lambda cases: bar.track(cases, description="cases"))
    if options.as_json:
        emit_json(found)
    else:
        _print(stdout(), found)
    if found["problems"]:
        raise typer.Exit(1)


def _print(console: Console, found: dict[str, Any]) -> None:
    def line(name: str, text: str) -> None:
        if text:
            console.print(f"{name:10s}{text}", soft_wrap=True, markup=False)

    parts = [f"{number} {split}" for split, number in found["splits"].items()]
    parts += [f"{found['without_target']} without a target"] if found["without_target"] else []
    seen = f"; looked at {found['looked_at']}" if found["looked_at"] < found["cases"] else ""
    called = [{"value": name, "cases": 1} for name in found["class_names"]]
    line(found["layout"] or found["kind"], found["path"] or found["source"])
    line("task", found["task"] or "none that its shapes tell")
    line("cases" if found["path"] else "batches", f"{found['cases']}{': ' * bool(parts)}{', '.join(parts)}{seen}")
    line("channels", " and ".join(map(str, found["channels"])))
    line("classes", f"{found['classes'] or ''}{': ' * bool(called)}{_most(called, str)}")
    line("shape", _most(found["shapes"], spell))
    line("spacing", _most(found["spacings"], lambda sizes: "x".join(f"{size:g}" for size in sizes) + " mm"))
    line("axes", _most(found["axes"], str))
    if found["labels"]:
        names = any(each["name"] for each in found["labels"])
        table = plain_table("label", *["name"] * names, "count", "share", "cases")
        table.columns[names].justify = "left" if names else "right"
        for each in found["labels"]:
            part = "" if each["share"] is None else share(each["share"])
            cells = [f"{each['count']:,}", part, f"{each['cases']:,}"]
            table.add_row(str(each["value"]), *[each["name"]] * names, *cells)
        console.print()
        print_table(console, table)
    for each in found["problems"]:
        text = f"problem: {each['case']}: {each['problem']}"
        console.print(text, style="red", soft_wrap=True, markup=False)
    if found["sheet"]:
        console.print(f"wrote {found['sheet']}", soft_wrap=True, markup=False)


def _most(counted: list[dict[str, Any]], write: Callable[[Any], str]) -> str:
    """Name the most frequent values, and how many cases have each where that says something."""
    many = any(each["cases"] > 1 for each in counted) and len(counted) > 1
    words = [write(each["value"]) + f" ({each['cases']})" * many for each in counted[:SHOWN]]
    more = len(counted) - SHOWN
    return ", ".join(words) + (f" and {more} more" if more > 0 else "")
