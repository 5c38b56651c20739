"""`ranp refine`: sharpen the labels of a network's logits by minimising an MRF energy."""

from typing import Any

from ranp.adapters.jobs.options import Refine
from ranp.commands._command import command
from ranp.commands._console import emit_json, progress, stdout

MEASURES = {"accuracy": "accuracy", "miou": "mIoU", "edge_f": "edge F"}


@command(Refine, "ranp refine logits.npy --image image.png --out labels.npy")
def refine(options: Refine) -> None:
    """Refine the labels of LOGITS along the edges of an image."""
    from ranp.adapters.jobs.refine import run

    with progress() as bar:
        found = run(options, track=lambda counts: bar.track(counts, description=options.method))
    if options.as_json:
        emit_json(found)
    else:
        _print(found)


def _print(found: dict[str, Any]) -> None:
    """Print the result for people; a dry run has settings only."""
    console = stdout()
    size = " x ".join(map(str, found["shape"]))
    how = f"{found['method']}, {found['pairwise']} x {found['strength']:g}, edges {found['edges']}"
    console.print(f"{size}, {found['labels']} labels: {how}, {found['directions']} directions")
    if "energy" not in found:
        console.print(f"dry run: would write {found['out']}", soft_wrap=True)
        return
    energy = found["energy"]
    for count, value in enumerate([energy["before"], *energy["per_iteration"]]):
        console.print(f"  {'before' if count == 0 else f'iteration {count}':13s} energy {value:.6g}")
    share = found["changed"] / found["pixels"]
    console.print(f"changed {found['changed']} of {found['pixels']} labels ({share:.2%})")
    for when, metric in found.get("metrics", {}).items():
        dice = " ".join(_figure(value) for value in metric["dice"])
        shown = "  ".join(f"{name} {_figure(metric[key])}" for key, name in MEASURES.items())
        console.print(f"  {when:6s} {shown}  Dice {dice}", soft_wrap=True)
    console.print(f"wrote {found['out']}", soft_wrap=True)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
