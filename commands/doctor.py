"""`ranp doctor`: what ranp finds on this machine."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from ranp.commands._command import command
from ranp.commands._console import emit_json, ended, stdout
from ranp.jobs.options import Doctor


@command(Doctor, "ranp doctor")
def doctor(options: Doctor) -> None:
    """Show what ranp finds on this machine, and what is broken.

    Versions, devices, native kernels, extras and folders; exit with 1 if something needed is broken.
    """
    from ranp.jobs.doctor import diagnose
    from ranp.kernels.native import KINDS, cache_folder
    from ranp.kernels.status import status

    found = diagnose({"working folder": Path.cwd(), "kernel cache": cache_folder()})
    try:
        found["kernels"] = [asdict(status(kind)) for kind in KINDS]
    except ValueError as error:
        found["kernels"] = []
        found["problems"].append(str(error))
    if options.as_json:
        emit_json(found)
    else:
        _print(stdout(), found)
    ended(not found["problems"])


def _print(console: Console, found: dict[str, Any]) -> None:
    def line(name: str, text: str) -> None:
        console.print(f"{name:16s}{text}", soft_wrap=True, markup=False)

    line("ranp", f"{found['ranp']}, Python {found['python']}, {found['system']}")
    for device in found["devices"]:
        line("device", device)
    line("packages", _versions(found["packages"]))
    for extra, packages in found["extras"].items():
        absent = any(each["problem"] for each in packages.values())
        line(f"[{extra}]", _versions(packages) + (f"; pip install 'ranp[{extra}]'" if absent else ""))
    for each in found["kernels"]:
        details = [each[key] for key in ("instruction_set", "compiler", "reason") if each[key]]
        line(f"{each['kind']} kernels", "; ".join([each["state"], *details]))
    for name, folder in found["folders"].items():
        line(name, f"{folder['path']} ({'writable' if folder['writable'] else 'READ-ONLY'})")
    for problem in found["problems"]:
        console.print(f"problem: {problem}", style="red", soft_wrap=True, markup=False)
    if not found["problems"]:
        console.print("everything that is needed is here")


def _versions(packages: dict[str, dict[str, str | None]]) -> str:
    return ", ".join(f"{name} {each['version'] or 'MISSING'}" for name, each in packages.items())
