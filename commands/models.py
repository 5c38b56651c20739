"""`ranp models`: the built-in networks, their settings and presets."""

from json import dumps
from typing import Any

from rich.console import Console

from ranp.commands._command import command
from ranp.commands._console import emit_json, stdout
from ranp.commands._tables import plain_table, print_table
from ranp.jobs.options import Models


@command(Models, "ranp models unet3d")
def models(options: Models) -> None:
    """List the built-in networks, or show the --set of one."""
    from ranp.models.describe import describe, describe_all

    if options.name is None:
        found = describe_all()
        emit_json(found) if options.as_json else _print_all(stdout(), found)
    else:
        one = describe(options.name)
        emit_json(one) if options.as_json else _print_one(stdout(), one)


def _print_all(console: Console, found: dict[str, Any]) -> None:
    table = plain_table("model", "input", "presets")
    table.columns[1].justify = table.columns[2].justify = "left"
    for each in found["models"]:
        table.add_row(each["name"], each["input"], ", ".join(preset["name"] for preset in each["presets"]))
    print_table(console, table)
    console.print("\none of them in detail: ranp models unet3d")


def _print_one(console: Console, one: dict[str, Any]) -> None:
    console.print(f"{one['name']}: {one['summary']}", soft_wrap=True, markup=False)
    console.print(f"input {one['input']}, loss {one['loss']}\n", markup=False)
    for key, value in one["settings"].items():
        console.print(f"  --set {key}={_value(value)}", markup=False)
    for preset in one["presets"]:
        settings = " ".join(f"{key}={_value(value)}" for key, value in preset["settings"].items())
        console.print(
            f"\n  --preset {preset['name']}\n      {settings or 'the defaults'}\n"
            f"      batch {preset['batch']} of {preset['input']}, lambda {preset['strength']:g}, loss {preset['loss']}",
            markup=False,
        )


def _value(value: Any) -> str:
    """Write a setting as --set takes it."""
    return dumps(value, separators=(",", ":")).strip('"')
