"""A slim network as a bundle of MONAI: configs, metadata, weights without TorchScript.

Where one call of MONAI's class makes the network (`--tie stage`), `network_def` is that call; otherwise it is
`slim_network` with the plan beside the weights, and ranp has to be installed where the bundle runs. The other configs
are those of a bundle that is given, or plain ones to begin with: Dice and cross-entropy on a folder of images and
labels, and inference by a sliding window.
"""

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import monai
import numpy as np
import torch
from torch import nn

from ranp import __version__, runs
from ranp.adapters.monai._reading import NAMES, NETS, SLIM
from ranp.errors import CheckFailed, UsageError, named
from ranp.export import difference
from ranp.files import check_absent, read_json, whole_folder
from ranp.inputs import flatten
from ranp.models.constructors import Constructor
from ranp.models.spec import resolve
from ranp.plan import Plan
from ranp.surgery import slim

TOLERANCE = 1e-6  # of the largest output
PLAN = "models/plan.json"


def slim_network(network: str, settings: Mapping[str, Any], plan: str) -> nn.Module:
    """Build a network of MONAI with the widths of a plan, with new weights; for the `network_def` of a bundle.

    Args:
        network: the class.
        settings: its arguments.
        plan: plan.json.

    Raises:
        UsageError: no such class of MONAI, or a plan of another network.
    """
    return slim(resolve(f"{NETS}:{network}", settings, trusted=False), Plan.read(Path(plan)))


def export_bundle(
    run: runs.Run,
    folder: Path,
    *,
    source: Path | None = None,
    weights: Path | None = None,
    force: bool = False,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Write a run's slim network as a bundle.

    Args:
        run: of a network of MONAI.
        folder: of the bundle.
        source: a bundle whose configs are taken, with another `network_def`; None for plain ones.
        weights: a checkpoint of the slim network, by default the run's own.
        force: whether a folder is replaced.
        dry_run: check everything, write nothing.

    Returns:
        In plain values: `tied`, `network_def`, `weights`, `max_rel_diff`.

    Raises:
        UsageError: a run of another network, or a source that is no bundle.
        CheckFailed: what `network_def` builds does not do what the run's network does.
    """
    spec = str(run.config.get("model"))
    where, _, name = spec.rpartition(":")
    if where != NETS:
        raise UsageError(f"{named('monai_bundle', folder)}: {run.path} is a run of {spec}; expected one of {NETS}")
    check_absent(folder, force=force, option="monai_bundle")
    slim_one, loaded = run.slim_with(weights)
    settings = runs.settings_of(run.config)
    definition = _definition(name, settings, slim_one)
    apart = _checked(name, settings, definition, slim_one, run)
    configs = _configs(folder, source, definition, run)
    if not dry_run:
        with whole_folder(folder, force=force) as temporary:
            (temporary / "configs").mkdir()
            (temporary / "models").mkdir()
            for file, values in configs.items():
                (temporary / "configs" / file).write_text(json.dumps(values, indent=2) + "\n")
            if "plan" in definition:
                (temporary / PLAN).write_text(run.plan.to_json())
            torch.save(slim_one.state_dict(), temporary / "models" / "model.pt")
    return {"tied": "plan" not in definition, "network_def": definition, "weights": loaded, "max_rel_diff": apart}


def _definition(name: str, settings: Mapping[str, Any], slim_one: nn.Module) -> dict[str, Any]:
    """Return a `network_def`: a call of the class where there is one, else `slim_network`."""
    constructor = Constructor.of(f"{NETS}:{name}", settings)
    try:
        if constructor is not None:
            return {"_target_": name, **constructor.narrowed(slim_one)}
    except CheckFailed:  # its widths are what no call says
        pass
    path = f"$@bundle_root + '/{PLAN}'"
    return {"_target_": SLIM, "network": name, "settings": dict(settings), "plan": path}


def _checked(
    name: str, settings: Mapping[str, Any], definition: Mapping[str, Any], slim_one: nn.Module, run: runs.Run
) -> float:
    """Build what a `network_def` says, with the run's weights, and return how far its outputs are from the run's.

    Raises:
        CheckFailed: further than `TOLERANCE`.
    """
    if "plan" in definition:
        made = slim_network(name, settings, str(run.path / runs.PLAN))
    else:
        given = {key: value for key, value in definition.items() if key != "_target_"}
        made = resolve(f"{NETS}:{name}", given, trusted=False)
    made.load_state_dict(slim_one.state_dict())
    apart = difference(slim_one, made, run.plan.example_inputs())
    if not apart <= TOLERANCE:
        raise CheckFailed(f"{run.path}: what network_def builds is {apart:.1e} of the largest output apart")
    return apart


def _configs(
    folder: Path, source: Path | None, definition: Mapping[str, Any], run: runs.Run
) -> dict[str, dict[str, Any]]:
    """Return the configs of a bundle by the names of their files.

    Raises:
        UsageError: a source without configs of networks.
    """
    (image,) = flatten(run.plan.example_inputs())[:1]
    if source is None:
        home = files("ranp.adapters.monai") / "configs"
        found = {f"{name}.json": json.loads((home / f"{name}.json").read_text()) for name in (*NAMES, "metadata")}
        for name in NAMES:
            found[f"{name}.json"]["patch"] = list(image.shape[2:])
    else:
        found = {path.name: read_json(path) for path in sorted((source / "configs").glob("*.json"))}
    if not any("network_def" in values for values in found.values()):
        raise UsageError(f"{named('from_bundle', source)}: no .json in its configs has a network_def")
    for values in found.values():
        if "network_def" in values:
            values["network_def"] = dict(definition)
    metadata = found.setdefault("metadata.json", {})
    metadata.setdefault("name", folder.name)
    metadata["changelog"] = {**metadata.get("changelog", {}), f"ranp {__version__}": f"pruned: {run.path.name}"}
    if source is None:
        inputs = {"type": "image", "format": "magnitude", "num_channels": image.shape[1], "dtype": "float32"}
        inputs |= {"spatial_shape": list(image.shape[2:]), "is_patch_data": True, "channel_def": {"0": "image"}}
        metadata["network_data_format"] = {"inputs": {"image": inputs}, "outputs": {}}
        versions = {"monai_version": monai.__version__, "pytorch_version": torch.__version__.partition("+")[0]}
        metadata |= {**versions, "numpy_version": np.__version__}
    return found
