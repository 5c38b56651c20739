"""`ranp profile`: what a network costs."""

from typing import Annotated, Any

import typer
from rich.console import Console

from ranp.commands._console import command, emit_json, progress, stdout
from ranp.commands._options import (
    Classes,
    Config,
    Debug,
    Device,
    Full,
    InChannels,
    Input,
    Json,
    Model,
    Preset,
    Seed,
    Settings,
    given_model,
)
from ranp.commands._tables import plain_table
from ranp.figures import operations, share, size, spell_all


@command
def profile(
    model: Model = None,
    preset: Preset = None,
    settings: Settings = None,
    in_channels: InChannels = None,
    classes: Classes = None,
    input: Input = None,
    batch: Annotated[int | None, typer.Option(help="Samples in a batch.", show_default="the preset's, else 1")] = None,
    full: Full = None,
    convention: Annotated[
        str, typer.Option(help="standard (every op, 2 FLOPs a multiply-accumulate) or paper (the published tables').")
    ] = "standard",
    layers: Annotated[bool, typer.Option("--layers", help="List every convolution and linear layer.")] = False,
    training: Annotated[
        bool, typer.Option("--training", help="Predict the least memory a training step takes.")
    ] = False,
    measure: Annotated[bool, typer.Option("--measure", help="Measure the time of a forward on --device.")] = False,
    cross_check: Annotated[
        bool, typer.Option("--cross-check", help="Count multiply-accumulates with fvcore too.")
    ] = False,
    seed: Seed = 0,
    device: Device = "cpu",
    config: Config = None,
    debug: Debug = False,
    json: Json = False,
) -> None:
    """Count parameters, FLOPs and activation memory of MODEL.

    MODEL is a network or a run folder.
    """
    from ranp.jobs.profile import profile_network
    from ranp.jobs.subject import read_subject

    subject = read_subject(
        given_model(model), full=full, preset=preset, settings=settings or (), in_channels=in_channels,
        classes=classes, size=input, batch=batch, seed=seed,
    )  # fmt: skip
    with progress() as bar:
        bar.add_task("profile", total=None)
        found = profile_network(
            subject, convention, training=training, measure=measure, cross_check=cross_check, device=device
        )
    if json:
        emit_json(found)
    else:
        _print(stdout(), found, layers=layers)


def _print(console: Console, found: dict[str, Any], *, layers: bool) -> None:
    preset = f" ({found['preset']})" if found["preset"] else ""
    shapes = spell_all(found["input"])
    console.print(f"[bold]{found['model']}{preset}[/bold], batch {found['batch']} of {shapes}\n", soft_wrap=True)
    if layers:
        console.print(_layers(found))
        console.print()
    console.print(_kinds(found))
    word = "2 a multiply-accumulate, every op" if found["convention"] == "standard" else "as the published tables"
    console.print(
        f"\n{found['params']:,} parameters, {operations(found['flops'])}FLOPs ({word}), "
        f"{size(found['memory_bytes'])} of activations",
        soft_wrap=True,
    )
    if "training" in found:
        _print_training(console, found["training"])
    if "latency" in found:
        took = found["latency"]
        console.print(
            f"forward on {took['device']}: median {took['median_ms']:.2f} ms, fastest {took['fastest_ms']:.2f} ms "
            f"of {took['runs']} runs"
        )
    if "cross_check" in found:
        both = found["cross_check"]
        word = "agrees" if both["agree"] else f"counts {operations(both['fvcore'])}"
        console.print(f"convolutions and products: {operations(both['ranp'])}MAC; fvcore {word}")


def _layers(found: dict[str, Any]) -> Any:
    table = plain_table("layer", "kind", "in", "out", "params", "FLOPs", "activations")
    for row in found["layers"]:
        table.add_row(
            row["name"] or "(itself)", row["kind"], str(row["inputs"]), str(row["outputs"]), f"{row['params']:,}",
            operations(row["flops"]), size(row["memory_bytes"]),
        )  # fmt: skip
    return table


def _kinds(found: dict[str, Any]) -> Any:
    table = plain_table("modules", "number", "params", "FLOPs", "share", "activations", "share")
    for row in found["kinds"]:
        table.add_row(
            row["kind"], str(row["modules"]), f"{row['params']:,}",
            operations(row["flops"]), share(row["flops"] / found["flops"]) if found["flops"] else "-",
            size(row["memory_bytes"]), share(row["memory_bytes"] / found["memory_bytes"]),
        )  # fmt: skip
    return table


def _print_training(console: Console, training: dict[str, Any]) -> None:
    parts = ", ".join(
        f"{name} {size(training[name])}" for name in ("parameters", "gradients", "optimizer", "activations")
    )
    console.print(
        f"training step ({training['optimizer_name']}): at least {size(training['peak'])} ({parts}); "
        "a GPU library's workspace comes on top",
        soft_wrap=True,
    )
