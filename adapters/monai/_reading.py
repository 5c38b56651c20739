"""A bundle as MODEL: what its `network_def` builds, its weights, and how its volumes are resampled.

    BUNDLE/configs/inference.json (or train.json, .yaml)   "network_def": {"_target_": "UNet", "channels": [...], ...}
    BUNDLE/configs/metadata.json                           "network_data_format": what the network takes
    BUNDLE/models/model.pt                                 weights

Configs may hold Python between `$` and the end of a string. None is run: references to plain values (`@spatial_dims`)
are followed, anything else in a `network_def` is refused.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ranp.errors import UsageError, listed, named
from ranp.files import read_json, read_yaml
from ranp.models.words import Recipe

NETS = "monai.networks.nets"
SLIM = "ranp.adapters.monai.slim_network"
NAMES = ("inference", "train")
_ENDINGS = (".json", ".yaml", ".yml")
_TYPICAL = 64  # voxels a side, where the metadata leave it open


def read_word(rest: str) -> Recipe:
    """Return what `bundle:FOLDER` says.

    Args:
        rest: FOLDER.

    Raises:
        UsageError: no bundle, or a network that is not one of MONAI.
    """
    root, said = Path(rest).expanduser(), named("MODEL", f"bundle:{rest}")
    config = read_config(root, said)
    definition = dict(_plain(config["network_def"], config, said))
    target = str(definition.pop("_target_", ""))
    where, _, name = target.rpartition(".")
    if where not in ("", NETS) or not name:
        own = f"name it as MODEL {where}:{name}, its arguments by --set" if where else "expected a class of MONAI"
        raise UsageError(f"{said}: network_def is {target or 'without _target_'}; {own}")
    channels, size = _image(root, definition)
    weights = root / "models" / "model.pt"
    return Recipe(
        f"{NETS}:{name}", definition, (channels, *size), spacing=_spacing(config),
        weights=weights if weights.is_file() else None,
    )  # fmt: skip


def read_config(root: Path, said: str) -> dict[str, Any]:
    """Return the first config of a bundle that defines a network.

    Raises:
        UsageError: there is none.
    """
    for name in NAMES:
        for ending in _ENDINGS:
            path = root / "configs" / f"{name}{ending}"
            if path.is_file():
                config = read_json(path) if ending == ".json" else read_yaml(path)
                if isinstance(config.get("network_def"), dict):
                    return config
    raise UsageError(f"{said}: no configs/{listed([f'{name}.json' for name in NAMES])} with a network_def in {root}")


def _plain(value: Any, config: Mapping[str, Any], said: str, depth: int = 0) -> Any:
    """Return a value with references to plain values followed."""
    if isinstance(value, Mapping):
        return {key: _plain(inner, config, said, depth) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner, config, said, depth) for inner in value]
    if not isinstance(value, str) or value[:1] not in ("$", "@", "%"):
        return value
    if value[0] != "@" or depth > len(config):
        raise UsageError(f"{said}: network_def holds {value!r}, which is not run; write the value into the config")
    found: Any = config
    for key in re.split(r"::|#", value[1:]):
        index = int(key) if isinstance(found, list) and key.isdigit() else key
        try:
            found = found[index]
        except (KeyError, IndexError, TypeError):
            raise UsageError(f"{said}: network_def refers to {value}, which is not there") from None
    return _plain(found, config, said, depth + 1)


def _image(root: Path, definition: Mapping[str, Any]) -> tuple[int, tuple[int, ...]]:
    """Return the channels and the size of an image, as far as the metadata say."""
    path, image = root / "configs" / "metadata.json", {}
    if path.is_file():
        inputs = read_json(path).get("network_data_format", {}).get("inputs", {})
        image = next((each for each in inputs.values() if isinstance(each, dict)), {})
    channels = definition.get("in_channels") or image.get("num_channels") or 1
    dims = definition.get("spatial_dims", 3)
    shape = image.get("spatial_shape")
    sizes = shape if isinstance(shape, list) and shape else [_TYPICAL] * int(dims)
    return int(channels), tuple(map(_side, sizes))


def _side(told: Any) -> int:
    """Return a length: as it is told, or of "16*n" the least multiple that is typical.

    >>> _side(96), _side("24*n"), _side("*")
    (96, 72, 64)
    """
    if isinstance(told, int):
        return told
    step = re.fullmatch(r"\s*(\d+)\s*\*\s*n\s*", str(told))
    return -(-_TYPICAL // int(step[1])) * int(step[1]) if step else _TYPICAL


def _spacing(config: Mapping[str, Any]) -> tuple[float, ...]:
    """Return the millimetres that the pre-processing resamples to; () where it does not."""
    for place in (config.get("preprocessing"), config.get("train", {}).get("preprocessing")):
        for step in (place or {}).get("transforms", ()) if isinstance(place, dict) else ():
            pixdim = step.get("pixdim") if isinstance(step, dict) and step.get("_target_") == "Spacingd" else None
            if isinstance(pixdim, list) and all(isinstance(each, int | float) and each > 0 for each in pixdim):
                return tuple(map(float, pixdim))
    return ()
