"""The registry in plain values, for people and machines to read."""

import inspect
from typing import Any

from ranp.figures import spell_all
from ranp.models import built_in, full_settings, input_shapes, names
from ranp.models.registry import Preset


def describe_all() -> dict[str, Any]:
    """Return every built-in under `models`."""
    return {"models": [describe(name) for name in names()]}


def describe(name: str) -> dict[str, Any]:
    """Return what a built-in is: its summary, example input, settings with defaults, loss and presets.

    Raises:
        UsageError: no such built-in; the nearest is named.
    """
    entry = built_in(name)
    return {
        "name": name,
        "summary": (inspect.getdoc(entry.factory) or "").partition("\n")[0],
        "input": spell_all(input_shapes(name)),
        "settings": full_settings(name),
        "loss": entry.loss,
        "presets": [_preset(preset) for preset in entry.presets.values()],
    }


def _preset(preset: Preset) -> dict[str, Any]:
    return {
        "name": preset.name,
        "settings": dict(preset.settings),
        "input": spell_all(preset.shapes),
        "batch": preset.batch,
        "strength": preset.strength,
        "loss": preset.loss,
    }
