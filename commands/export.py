"""`ranp export`: a run's slim network for other programs, compared with the network before anything is kept."""

from typing import Any

from ranp.commands._command import command
from ranp.commands._console import emit_json, stdout
from ranp.commands._tables import plain_table, print_table, print_weights
from ranp.figures import size, spell, spell_all
from ranp.jobs.options import Export

KINDS = {"onnx": "onnxruntime", "torch_export": "torch.export", "torchscript": "TorchScript"}


@command(Export, "ranp export runs/small --onnx small.onnx --dynamic")
def export(options: Export) -> None:
    """Export RUN's slim network and prove the file."""
    from ranp.adapters.jobs.export import export as export_all

    found = export_all(options)
    if options.as_json:
        emit_json(found)
        return
    print_weights(stdout(), next((entry["weights"] for entry in found.values()), ""))
    for kind, entry in found.items():
        if kind == "tensorrt":
            _print_limits(entry)
        elif options.dry_run:
            stdout().print(f"dry run: would write {entry['path']}", soft_wrap=True)
        elif kind == "nnunet":
            _print_plans(entry)
        elif kind == "monai_bundle":
            _print_bundle(entry)
        else:
            _print(kind, entry)


def _print_plans(entry: dict[str, Any]) -> None:
    console = stdout()
    console.print(f"{entry['path']}: added {entry['configuration']}, {entry['network']}", soft_wrap=True)
    if entry["tied"]:
        console.print(f"features_per_stage {entry['features_per_stage']}", soft_wrap=True)
    else:
        console.print("widths of its own: ranp has to be installed where nnU-Net runs", soft_wrap=True)
    if spent := entry["spent"]:
        full, table = spent["full"], plain_table("", "full", "slim")
        table.add_row("patch", spell(full["patch_size"]), spell(spent["patch_size"]))
        table.add_row("batch", str(full["batch_size"]), str(spent["batch_size"]))
        table.add_row("training step", size(full["memory"]), size(spent["memory"]))
        table.add_row("nnU-Net's proxy", f"{full['proxy']:,}", f"{spent['proxy']:,}")
        print_table(console, table)
    console.print(f"agrees: to {entry['max_rel_diff']:.1e} of the largest output")
    console.print(f"nnUNetv2_train DATASET {entry['configuration']} FOLD", soft_wrap=True, highlight=False)
    if entry["model_folder"]:
        folder = entry["model_folder"]
        console.print(f"nnUNetv2_predict_from_modelfolder -m {folder} -f all -i IN -o OUT", soft_wrap=True)


def _print_bundle(entry: dict[str, Any]) -> None:
    console = stdout()
    needs = "" if entry["tied"] else ": ranp has to be installed where it runs"
    console.print(f"{entry['path']}: network_def {entry['network_def']['_target_']}{needs}", soft_wrap=True)
    console.print(f"agrees: to {entry['max_rel_diff']:.1e} of the largest output")
    run = "python -m monai.bundle run --config_file configs/train.json"
    console.print(f"cd {entry['path']} && {run}", soft_wrap=True, highlight=False)


def _print_limits(entry: dict[str, Any]) -> None:
    console = stdout()
    alike: dict[tuple[str, str, bool], list[str]] = {}
    for note in entry["notes"]:
        alike.setdefault((note["op"], note["limit"], note["refused"]), []).append(note["node"])
    if alike:
        table = plain_table("operator", "taken", "node", "limit")
        for column in table.columns:
            column.justify = "left"
        for (op, limit, refused), nodes in alike.items():
            more = f" and {len(nodes) - 1} more" if len(nodes) > 1 else ""
            table.add_row(op, "no" if refused else "with care", nodes[0] + more, limit)
        print_table(console, table)
    known = "no known limit of TensorRT" if not alike else f"{entry['refused']} refused"
    console.print(
        f"{known}, of {entry['nodes']} nodes at opset {entry['opset']} ({entry['source']}; not tried)", soft_wrap=True
    )


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
