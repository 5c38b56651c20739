"""`ranp refine`: sharpen the labels of a network's logits by minimising an MRF energy."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ranp.commands._console import command, emit_json, progress, stdout, tracked
from ranp.commands._options import Config, Debug, Device, DryRun, Force, Json

MEASURES = {"accuracy": "accuracy", "miou": "mIoU", "edge_f": "edge F"}


@command
def refine(
    logits: Annotated[
        Path,
        typer.Argument(metavar="LOGITS", help=".npy or .npz (channels first), or .nii, .nii.gz (channels last)."),
    ],
    out: Annotated[Path, typer.Option(help="The refined labels: .npy, .npz, .nii or .nii.gz.")],
    image: Annotated[Path | None, typer.Option(help="The image whose edges the labels should follow.")] = None,
    labels: Annotated[Path | None, typer.Option(help="The true labels, to measure before and after.")] = None,
    probabilities: Annotated[bool, typer.Option("--probabilities", help="LOGITS holds probabilities.")] = False,
    method: Annotated[str, typer.Option(help="trwp, isgmr, sgm, mean_field, trws or icm.")] = "trwp",
    strength: Annotated[float, typer.Option(help="Factor of the pairwise costs.")] = 1.0,
    pairwise: Annotated[
        str,
        typer.Option(help="potts, linear, truncated_linear, truncated_quadratic, cauchy or huber."),
    ] = "potts",
    scale: Annotated[float | None, typer.Option(help="Truncation or scale of the pairwise function.")] = None,
    directions: Annotated[
        int | None, typer.Option(help="4, 8, 16 for images; 6, 18, 26 for volumes.", show_default="4 or 6")
    ] = None,
    iterations: Annotated[int, typer.Option(help="How many iterations.")] = 5,
    rho: Annotated[float, typer.Option(help="TRWP's factor.")] = 0.5,
    edges: Annotated[str, typer.Option(help="How --image weighs the edges: contrast, canny or none.")] = "contrast",
    picture: Annotated[
        Path | None, typer.Option(help="Draw the slice that changed most, before and after (.png, .pdf, .svg).")
    ] = None,
    device: Device = "cpu",
    config: Config = None,
    dry_run: DryRun = False,
    force: Force = False,
    debug: Debug = False,
    json: Json = False,
) -> None:
    """Refine the labels of LOGITS along the edges of an image."""
    from ranp.adapters.mrf.case import load, on_device, report, save, summary
    from ranp.adapters.mrf.refinement import Refining
    from ranp.adapters.mrf.refinement import refine as run

    how = Refining(method, pairwise, scale, strength, directions, iterations, rho, edges)
    case = load(logits, out, image=image, labels=labels, picture=picture, force=force)
    scores, guide = on_device(case, device)
    found = summary(case, how)
    if not dry_run:
        with progress() as bar:
            refined = run(
                scores, how, guide, probabilities=probabilities, track=lambda counts: tracked(counts, bar, method)
            )
        save(case, refined)
        found |= report(case, refined)
    if json:
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
