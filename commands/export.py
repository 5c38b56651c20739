"""`ranp export`: a run's slim network as ONNX or torch.export, compared with the network before it is kept."""

from typing import Any

from ranp.commands._command import command
from ranp.commands._console import emit_json, stdout
from ranp.commands._tables import plain_table, print_table, print_weights
from ranp.figures import size, spell_all
from ranp.jobs.options import Export

KINDS = {"onnx": "onnxruntime", "torch_export": "torch.export"}


@command(Export, "ranp export runs/small --onnx small.onnx --dynamic")
def export(options: Export) -> None:
    """Export RUN's slim network and prove the file."""
    from ranp import runs
    from ranp.export import export_run

    found = export_run(
        runs.read(options.run), onnx=options.onnx, torch_export=options.torch_export, opset=options.opset,
        dynamic=options.dynamic, model=options.model, weights=options.weights, seed=options.seed, force=options.force,
        dry_run=options.dry_run,
    )  # fmt: skip
    if options.as_json:
        emit_json(found)
        return
    print_weights(stdout(), next(iter(found.values()))["weights"])
    for kind, entry in found.items():
        if options.dry_run:
            stdout().print(f"dry run: would write {entry['path']}", soft_wrap=True)
        else:
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
    print_table(console, table)
    tolerance = entry["tolerance"]
    limit = f"{tolerance['max_rel_diff']:.0e} of the largest output"
    console.print(f"agrees: tolerance {limit}, and {tolerance['agreement']:.2%} of the labels")
