"""What ranp finds on this machine: versions, devices, optional packages, and where it may write."""

import importlib.metadata
import os
import platform
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from ranp import __version__

_REQUIREMENT = re.compile(r"(?P<name>[\w.-]+?)(?:>=(?P<least>[\w.]+))?(?:; extra == ['\"](?P<extra>\w+)['\"])?")


def diagnose(folders: Mapping[str, Path]) -> dict[str, Any]:
    """Look at this machine; nothing is changed.

    Args:
        folders: places that are written to, by what they are for.

    Returns:
        Plain values: `ranp`, `python`, `system`, `devices`, `packages` (needed ones), `extras` (their packages),
        `folders`, and `problems`, one line for each thing that is needed and broken.
    """
    needed, extras = _requirements(importlib.metadata.requires("ranp") or [])
    packages = {name: _package(name, least) for name, least in needed.items()}
    return {
        "ranp": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "devices": devices(),
        "packages": packages,
        "extras": {
            extra: {name: _package(name, least) for name, least in sorted(names.items())}
            for extra, names in sorted(extras.items())
        },
        "folders": {name: {"path": str(path), "writable": writable(path)} for name, path in folders.items()},
        "problems": [f"{name}: {each['problem']}" for name, each in packages.items() if each["problem"]],
    }


def devices() -> list[str]:
    """Return the devices torch can run on, as --device takes them, each with its name."""
    found = [f"cpu: {torch.get_num_threads()} threads"]
    found += [f"cuda:{index}: {torch.cuda.get_device_name(index)}" for index in range(torch.cuda.device_count())]
    return found + (["mps"] if torch.backends.mps.is_available() else [])


def writable(path: Path) -> bool:
    """Return whether a folder can be written, or made where it is not there yet."""
    there = next((each for each in (path.absolute(), *path.absolute().parents) if each.exists()), None)
    return there is not None and there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def _requirements(lines: Iterable[str]) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """Split the requirements of the installed package into needed ones and extras; versions are the least ones."""
    needed: dict[str, str] = {}
    extras: dict[str, dict[str, str]] = {}
    for line in lines:
        found = _REQUIREMENT.fullmatch(line.strip())
        if found is None:  # one extra naming others
            continue
        into = extras.setdefault(found["extra"], {}) if found["extra"] else needed
        into[found["name"]] = found["least"] or "0"
    extras.pop("dev", None)
    return needed, extras


def _package(name: str, least: str) -> dict[str, str | None]:
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return {"version": None, "problem": f"not installed, {least} or later is needed"}
    old = _numbers(version) < _numbers(least)
    return {"version": version, "problem": f"{version} is older than {least}" if old else None}


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3])
