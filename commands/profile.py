"""`ranp profile`: what a network costs."""

from typing import Any

from rich.console import Console

from ranp.commands._command import command
from ranp.commands._console import emit_json, stdout, steps
from ranp.commands._tables import plain_table, print_table, print_weights
from ranp.figures import operations, share, size, spell, spell_all
from ranp.jobs.options import Profile


@command(Profile, "ranp profile unet3d --in-channels 1 --classes 4 --input 64")
def profile(options: Profile) -> None:
    """Count parameters, FLOPs and activation memory of MODEL.

    MODEL is a network or a run folder.
    """
    from ranp.jobs.profile import profile_network

    with steps("profile"):
        found = profile_network(options)
    if options.as_json:
        emit_json(found)
    else:
        _print(stdout(), found, layers=options.layers)


def _print(console: Console, found: dict[str, Any], *, layers: bool) -> None:
    preset = f" ({found['preset']})" if found["preset"] else ""
    shapes = spell_all(found["input"])
    console.print(f"[bold]{found['model']}{preset}[/bold], batch {found['batch']} of {shapes}", soft_wrap=True)
    print_weights(console, found["weights"])
    console.print()
    if layers:
        print_table(console, _layers(found))
        console.print()
    print_table(console, _kinds(found))
    word = "2 a multiply-accumulate, every op" if found["convention"] == "standard" else "as the published tables"
    console.print(
        f"\n{found['params']:,} parameters, {operations(found['flops'])}FLOPs ({word}), "
        f"{size(found['memory_bytes'])} of activations",
        soft_wrap=True,
    )
    for note in found["notes"]:
        console.print(f"note: {note}", soft_wrap=True, markup=False)
    if "training" in found:
        _print_training(console, found["training"])
    if "fit" in found:
        _print_fit(console, found["fit"], found["batch"])
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
    names = ("parameters", "gradients", "optimizer", "inputs", "activations", "temporaries")
    parts = ", ".join(f"{name} {size(training[name])}" for name in names)
    where = f" in {training['module']}" if training["module"] else ""
    how = ", ".join([training["optimizer_name"], training["loss"], *([training["amp"]] * (training["amp"] != "off"))])
    console.print(
        f"training step ({how}): at least {size(training['peak'])}, in the {training['phase']} pass{where} ({parts}); "
        "a GPU library's workspace comes on top",
        soft_wrap=True,
        markup=False,
    )
    if "measured" in training:
        measured = training["measured"]
        text = f"measured on {measured['device']}: {size(measured['bytes'])} of {measured['of']}"
        if "workspace" in measured:
            text += f", {size(abs(measured['workspace']))} {'more' if measured['workspace'] >= 0 else 'less'}"
        console.print(text, soft_wrap=True)


def _print_fit(console: Console, found: dict[str, Any], batch: int) -> None:
    one, other = found["batch"], found["input"]
    texts = [
        f"a batch of {one['batch']} of this input ({size(one['peak'])})" if one else "no batch of this input",
        f"an input of {spell(other['size'])} in a batch of {batch} ({size(other['peak'])})" if other
        else "no other input of these proportions",
    ]  # fmt: skip
    console.print(f"into {size(found['limit'])} fits {' or '.join(texts)}, by prediction: leave room", soft_wrap=True)
