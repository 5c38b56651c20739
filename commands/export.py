"""`ranp export`: a run's slim network as ONNX or torch.export, compared with the network before it is kept."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ranp.commands._console import command, emit_json, stdout
from ranp.commands._options import Config, Debug, DryRun, Force, Json, RunModel, Seed
from ranp.commands._tables import plain_table
from ranp.figures import size, spell_all

KINDS = {"onnx": "onnxruntime", "torch_export": "torch.export"}


@command
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    onnx: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The ONNX file.", show_default="RUN/slim.onnx")
    ] = None,
    torch_export: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A file of torch.export (.pt2); alone, no ONNX is written.")
    ] = None,
    opset: Annotated[int, typer.Option(help="Of the ONNX file; from 21 on group norm is one operator.")] = 20,
    dynamic: Annotated[bool, typer.Option("--dynamic", help="Leave batch and spatial sizes free.")] = False,
    model: RunModel = None,
    seed: Seed = 0,
    config: Config = None,
    dry_run: DryRun = False,
    force: Force = False,
    debug: Debug = False,
    json: Json = False,
) -> None:
    """Export RUN's slim network and prove the file."""
    from ranp import runs
    from ranp.export import export_run

    found = export_run(
        runs.read(run), onnx=onnx, torch_export=torch_export, opset=opset, dynamic=dynamic, model=model, seed=seed,
        force=force, dry_run=dry_run,
    )  # fmt: skip
    if json:
        emit_json(found)
    elif dry_run:
        for entry in found.values():
            stdout().print(f"dry run: would write {entry['path']}", soft_wrap=True)
    else:
        for kind, entry in found.items():
            _print(kind, entry)


def _print(kind: str, entry: dict[str, Any]) -> None:
    console = stdout()
    free = ", ".join(f"{name} {rule}" for name, rule in entry["sizes"].items())
    sizes = f"free sizes: {free}" if free else "one size"
    console.print(f"{entry['path']}: {size(entry['bytes'])}, {sizes}", soft_wrap=True)
    if entry["note"]:
        console.print(f"note: {entry['note']}", soft_wrap=True)
    table = plain_table(f"{KINDS[kind]} on", "difference", "relative", "same labels")
    for case in entry["parity"]:
        shapes = spell_all(case["shapes"])
        agreement = "-" if case["agreement"] is None else f"{case['agreement']:.2%}"
        table.add_row(shapes, f"{case['max_abs_diff']:.1e}", f"{case['max_rel_diff']:.1e}", agreement)
    console.print(table)
    tolerance = entry["tolerance"]
    limit = f"{tolerance['max_rel_diff']:.0e} of the largest output"
    console.print(f"agrees: tolerance {limit}, and {tolerance['agreement']:.2%} of the labels")
