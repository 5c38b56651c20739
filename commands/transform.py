"""`ranp transform`: turn strides into dilations, without training again."""

from typing import Any

from ranp.adapters.jobs.options import Transform
from ranp.commands._command import command
from ranp.commands._console import emit_json, stdout
from ranp.figures import spell_all


@command(Transform, "ranp transform deeplab --output-stride 8 --out runs/dense")
def transform(options: Transform) -> None:
    """Turn strides of MODEL into dilations.

    Its features get denser, with the same weights; both networks are compared at the positions there were before.
    """
    from ranp.adapters.jobs.transform import run

    report = run(options)
    if options.as_json:
        emit_json(report)
    else:
        _print(report)


def _print(report: dict[str, Any]) -> None:
    console, verify = stdout(), report["verify"]
    for line in report.get("weights", ()):
        console.print(f"weights  {line}", soft_wrap=True, markup=False)
    console.print(f"changed  {len(report['changed'])} layers, {report['params']:,} parameters as before")
    before, after = (spell_all(shapes) for shapes in report["outputs"].values())
    console.print(f"output   {before} -> {after}", soft_wrap=True)
    where = "the outputs" if verify["outputs"] else "the features that are resized to a given size"
    console.print(f"differs  by {verify['max_rel_diff']:.1e} of the largest value, in {where}", soft_wrap=True)
    if report["out"] is None:
        console.print("dry run: nothing written")
        return
    console.print(f"wrote    {report['out']}", soft_wrap=True)
    console.print(f"train it: ranp train {report['out']} --steps 2000 --out {report['out']}-trained", soft_wrap=True)
