"""`ranp fuse`: join a segmentation network with superpixels, without changing what it says."""

from typing import Any

from ranp.adapters.jobs.options import Fuse
from ranp.commands._command import command
from ranp.commands._console import emit_json, stdout


@command(Fuse, "ranp fuse unet2d --out runs/fused")
def fuse(options: Fuse) -> None:
    """Join network A with superpixels, without changing what it says.

    Logits of A, a transparent stack, the mean over the superpixels of B.
    """
    from ranp.adapters.jobs.fuse import run

    report = run(options)
    if options.as_json:
        emit_json(report)
    else:
        _print(report)


def _print(report: dict[str, Any]) -> None:
    console = stdout()
    for line in report.get("weights", ()):
        console.print(f"weights: {line}", soft_wrap=True, markup=False)
    for part, count in report["params"].items():
        console.print(f"{part:12s} {count:>12,} parameters")
    console.print("output       " + " x ".join(map(str, report["output"])))
    console.print(f"superpixels: {report['superpixels']}")
    console.print(f"the stack changes the logits by {report['verify']['max_rel_diff']:.1e} of the largest")
    if report["out"] is None:
        console.print("dry run: nothing written")
        return
    console.print(f"wrote {report['out']}", soft_wrap=True)
    console.print(f"prune it: ranp prune {report['out']} --sparsity 0.5", soft_wrap=True)
