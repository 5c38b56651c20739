"""`ranp inspect`: which layers share which channels, and why some are frozen."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ranp.commands._console import command, emit_json, progress, stdout
from ranp.commands._options import (
    Classes,
    Config,
    Debug,
    Force,
    Full,
    InChannels,
    Input,
    Json,
    Model,
    Preset,
    Settings,
    given_model,
)
from ranp.commands._tables import plain_table

SHOWN = 3  # modules that a cell names
REST = 27  # what the columns without names need, and the gaps


@command
def inspect(
    model: Model = None,
    preset: Preset = None,
    settings: Settings = None,
    in_channels: InChannels = None,
    classes: Classes = None,
    input: Input = None,
    full: Full = None,
    module: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only what this module (or glob) touches, in full.")
    ] = None,
    freeze: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Modules whose channels stay; repeat it.")
    ] = None,
    dot: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the coupling as graphviz text.")] = None,
    svg: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the coupling.")] = None,
    config: Config = None,
    force: Force = False,
    debug: Debug = False,
    json: Json = False,
) -> None:
    """Show which layers share which channels, and why some stay.

    MODEL is a network, or a run folder for its slim network.
    """
    model = given_model(model)
    from ranp.files import check_absent, write_text
    from ranp.graph import couplings as inspection
    from ranp.graph.build import trace
    from ranp.jobs.subject import read_subject
    from ranp.report import drawing

    for option, path in (("--dot", dot), ("--svg", svg)):
        if path is not None:
            check_absent(path, force=force, option=option)
    subject = read_subject(
        model, full=full, preset=preset, settings=settings or (), in_channels=in_channels, classes=classes, size=input
    )
    with progress() as bar:
        bar.add_task("trace", total=None)
        graph = trace(subject.network, subject.inputs, freeze=freeze or ())
    found = inspection.couplings(graph)
    chosen = inspection.about(found, module) if module else found
    if dot is not None:
        write_text(dot, drawing.dot(chosen))
    if svg is not None:
        write_text(svg, drawing.svg(chosen, inspection.layers_in_order(graph)))
    report = {"model": model, **inspection.to_dict(graph, chosen)}
    if json:
        emit_json(report)
        return
    (_print_full if module else _print)(stdout(), report)
    for path in (dot, svg):
        if path is not None:
            stdout().print(f"wrote {path}", soft_wrap=True)


def _print(console: Console, report: dict[str, Any]) -> None:
    if _fits(console, report):
        console.print(_table(report), markup=False)
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
