"""What `ranp export` asks for: files of the core, and what adapters write for other programs."""

from typing import Any

from ranp import runs
from ranp.adapters.monai import export_bundle
from ranp.adapters.nnunet import Spending, export_plans
from ranp.errors import UsageError, named
from ranp.export import export_run, tensorrt_notes
from ranp.jobs.options import Export


def export(options: Export) -> dict[str, Any]:
    """Export a run, and return what was written: by the name of its option, each with `path` and `weights`.

    An ONNX file is written where nothing else is asked for; the notes on TensorRT, under "tensorrt", have no file.

    Raises:
        RanpError: as `export_run`, `export_plans` and `export_bundle`, or options without the one they belong to.
    """
    _check(options)
    run = runs.read(options.run)
    found: dict[str, Any] = {}
    of_the_core = options.onnx or options.torch_export or options.torchscript
    if of_the_core or not (options.nnunet or options.monai_bundle or options.tensorrt_notes):
        found |= export_run(
            run, onnx=options.onnx, torch_export=options.torch_export,
            torchscript=options.torchscript, opset=options.opset, dynamic=options.dynamic,
            model=options.model, weights=options.weights, seed=options.seed, force=options.force,
            dry_run=options.dry_run,
        )  # fmt: skip
    if options.tensorrt_notes and not options.dry_run:
        found["tensorrt"] = tensorrt_notes(
            run, opset=options.opset, dynamic=options.dynamic, model=options.model, weights=options.weights,
            seed=options.seed,
        )  # fmt: skip
    if options.nnunet:
        spending = Spending(options.spend, options.memory) if options.spend and options.memory else None
        plans = export_plans(
            run, options.nnunet, folder=options.nnunet_model, weights=options.weights, spending=spending,
            force=options.force, dry_run=options.dry_run,
        )  # fmt: skip
        found["nnunet"] = {"path": plans.pop("plans"), **plans}
    if options.monai_bundle:
        bundle = export_bundle(
            run, options.monai_bundle, source=options.from_bundle, weights=options.weights, force=options.force,
            dry_run=options.dry_run,
        )  # fmt: skip
        found["monai_bundle"] = {"path": str(options.monai_bundle), **bundle}
    return found


def _check(options: Export) -> None:
    """Refuse options that go with others, alone."""
    pairs = [
        ("nnunet_model", "nnunet"),
        ("spend", "nnunet"),
        ("spend", "memory"),
        ("memory", "spend"),
        ("from_bundle", "monai_bundle"),
    ]
    for option, with_option in pairs:
        if getattr(options, option) and not getattr(options, with_option):
            raise UsageError(f"{named(option, getattr(options, option))}: needs {named(with_option)}")
