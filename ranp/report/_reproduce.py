"""The command that repeats a run, from its config.yaml.

>>> command_line({"model": "unet3d", "sparsity": 0.5, "settings": {"depth": 3}, "max_sparsity": False, "out": "runs/a"})
'ranp prune unet3d --set depth=3 --sparsity 0.5 --out runs/a'
"""

import shlex
from collections.abc import Mapping
from typing import Any

from ranp.files import yaml_line

_FIRST = ("preset", "settings", "in_channels", "classes")
_LAST = ("seed", "device", "out")


def command_line(config: Mapping[str, Any]) -> str:
    """Return the command line: of `ranp transfer` where the config names the run it came from, else of `ranp prune`."""
    return " ".join(command_parts(config))


def command_parts(config: Mapping[str, Any], verb: str | None = None) -> list[str]:
    """Return the command line in parts, each an option with its value, quoted for a shell."""
    subject = "run" if "run" in config else "model"
    verb = verb or ("transfer" if subject == "run" else "prune")
    parts = [f"ranp {verb} {shlex.quote(str(config.get(subject, subject.upper())))}"]
    names = [name for name in config if name != subject]
    order = {
        name: index for index, name in enumerate((*_FIRST, *(n for n in names if n not in _FIRST + _LAST), *_LAST))
    }
    for name in sorted(names, key=order.__getitem__):
        parts += [" ".join(map(shlex.quote, option)) for option in _options(name, config[name])]
    return parts


def _options(name: str, value: Any) -> list[list[str]]:
    flag = "--model" if name == "full" else "--" + name.replace("_", "-")
    if value is None or value is False:
        return []
    if value is True:
        return [[flag]]
    if isinstance(value, dict):
        of_what = name.removesuffix("settings").rstrip("_")  # settings, loss_settings
        flag = f"--set-{of_what}" if of_what else "--set"
        return [[flag, f"{key}={yaml_line(part)}"] for key, part in value.items()]
    if isinstance(value, list):
        return [[flag, str(part)] for part in value]
    return [[flag, str(value)]]
