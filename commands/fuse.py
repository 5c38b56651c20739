"""`ranp fuse`: join a segmentation network with superpixels, without changing what it says."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ranp.commands._console import command, emit_json, stdout
from ranp.commands._options import Config, Debug, Device, DryRun, Force, Json, Seed


@command
def fuse(
    a: Annotated[
        str,
        typer.Argument(metavar="A", help="The segmentation network, image -> logits: MODEL, or a run of `ranp prune`."),
    ],
    out: Annotated[Path, typer.Option(help="The run folder to write.")],
    b: Annotated[
        str | None,
        typer.Argument(metavar="[B]", help="The superpixel network, likewise; without it SLIC is embedded."),
    ] = None,
    model_a: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Repeats the MODEL of a run A; needed for a factory of your own, which a run's files never call.",
        ),
    ] = None,
    model_b: Annotated[str | None, typer.Option(metavar="MODEL", help="Likewise of a run B.")] = None,
    weights_a: Annotated[
        Path | None, typer.Option(help="Checkpoint of A: .safetensors, or a torch state dict.")
    ] = None,
    weights_b: Annotated[Path | None, typer.Option(help="Checkpoint of B.")] = None,
    preset_a: Annotated[str | None, typer.Option(help="Preset of A, a built-in.")] = None,
    preset_b: Annotated[str | None, typer.Option(help="Preset of B, a built-in.")] = None,
    set_a: Annotated[list[str] | None, typer.Option(help="key=value for the factory of A; repeat it.")] = None,
    set_b: Annotated[list[str] | None, typer.Option(help="key=value for the factory of B; repeat it.")] = None,
    in_channels: Annotated[int | None, typer.Option(help="Channels of the image.")] = None,
    classes: Annotated[int | None, typer.Option(help="Classes of A, a built-in.")] = None,
    input: Annotated[str | None, typer.Option(help="Size of the image A is tried on: 64, 128x160, 16x112x112.")] = None,
    interval: Annotated[
        int | None,
        typer.Option(help="Pixels between the grid cells that B scores.", show_default="16, none if B returns maps"),
    ] = None,
    segments: Annotated[int, typer.Option(help="SLIC superpixels per image.")] = 500,
    compactness: Annotated[float, typer.Option(help="SLIC's weight of positions.")] = 0.1,
    activation: Annotated[str | None, typer.Option(help="Between the stack's layers: relu, gelu, tanh, ...")] = None,
    widths: Annotated[str | None, typer.Option(help="Hidden widths of the stack, between commas: 64,64.")] = None,
    count: Annotated[int | None, typer.Option(help="Given superpixel maps hold labels below this number.")] = None,
    ignore: Annotated[int | None, typer.Option(help="Superpixel label of pixels that keep their logits.")] = None,
    seed: Seed = 0,
    device: Device = "cpu",
    config: Config = None,
    dry_run: DryRun = False,
    force: Force = False,
    debug: Debug = False,
    json: Json = False,
) -> None:
    """Join network A with superpixels, without changing what it says.

    Logits of A, a transparent stack, the mean over the superpixels of B.
    """
    from ranp.adapters.fusion import runs as fused_runs

    options = fused_runs.FusedOptions(
        a=a, b=b, model_a=model_a, model_b=model_b, preset_a=preset_a, preset_b=preset_b,
        set_a=tuple(set_a or ()), set_b=tuple(set_b or ()),
        weights_a=weights_a, weights_b=weights_b, in_channels=in_channels,
        classes=classes, input=input, interval=interval, segments=segments, compactness=compactness,
        activation=activation, widths=widths, count=count, ignore=ignore, seed=seed,
    )  # fmt: skip
    report = fused_runs.run(options, out, device=device, dry_run=dry_run, force=force)
    if json:
        emit_json(report)
    else:
        _print(report)


def _print(report: dict[str, Any]) -> None:
    console = stdout()
    for part, count in report["params"].items():
        console.print(f"{part:12s} {count:>12,} parameters")
    console.print("output       " + " x ".join(map(str, report["output"])))
    console.print(f"superpixels: {report['superpixels']}")
    verify = report["verify"]
    console.print(f"the stack changes the logits by {verify['max_rel_diff']:.1e} of the largest")
    if report["out"] is None:
        console.print("dry run: nothing written")
        return
    console.print(f"wrote {report['out']}", soft_wrap=True)
    console.print(f"prune it: ranp prune {report['out']} --sparsity 0.5", soft_wrap=True)
