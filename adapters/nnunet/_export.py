"""A slim network of nnU-Net back into its plans, where nnU-Net trains, validates and predicts with it unmodified.

A configuration `NAME_ranp` is added that inherits everything from NAME but its architecture; inheritance is key by key,
so the architecture is whole. Where the class's own arguments can say the widths (`--tie stage`), it is the plain class;
otherwise `slim_network`, which has to be importable wherever nnU-Net trains or predicts.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ranp import runs
from ranp.adapters.nnunet._network import SLIM, network
from ranp.adapters.nnunet._plans import FACTORY, Configuration, read
from ranp.adapters.nnunet._spend import Spending, spend
from ranp.errors import CheckFailed, UsageError, named
from ranp.export import difference
from ranp.files import check_absent, whole_file, whole_folder
from ranp.modules import tensors_of

TOLERANCE = 1e-6  # of the largest output
FOLD = "fold_all"
CHECKPOINT = "checkpoint_final.pth"
_TRAINER = "nnUNetTrainer"


@dataclass(frozen=True)
class Exported:
    """What is written.

    Args:
        name: of the configuration.
        values: of it, as they stand in the plans.
        base: what it inherits from.
        weights: where they come from, in words.
        difference: largest between the network of the plans and the run's, of the largest output.
        spent: what freed memory was spent on, or None.
    """

    name: str
    values: dict[str, Any]
    base: Configuration
    weights: str
    difference: float
    spent: dict[str, Any] | None

    @property
    def tied(self) -> bool:
        """Whether it is a class of nnU-Net's own."""
        return bool(self.values["architecture"]["network_class_name"] != SLIM)

    def to_dict(self) -> dict[str, Any]:
        """Return it in plain values."""
        architecture = self.values["architecture"]
        return {
            "configuration": self.name, "inherits_from": self.base.name, "tied": self.tied,
            "network": architecture["network_class_name"],
            "features_per_stage": list(architecture["arch_kwargs"]["features_per_stage"]) if self.tied else None,
            "weights": self.weights, "max_rel_diff": self.difference, "spent": self.spent,
        }  # fmt: skip


def export_plans(
    run: runs.Run,
    plans: str,
    *,
    folder: Path | None = None,
    weights: Path | None = None,
    spending: Spending | None = None,
    force: bool = False,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Add a run's slim network to plans of nnU-Net, and write its weights for nnU-Net's predictor.

    Args:
        run: of a network that MODEL `nnunet:` named.
        plans: PLANS.json, or PLANS.json#CONFIGURATION; by itself, the configuration that has the run's architecture.
        folder: that `nnUNetv2_predict_from_modelfolder -f all` takes; its checkpoint is one of `-pretrained_weights`.
        weights: a checkpoint of the slim network, by default the run's own weights.
        spending: what freed memory is spent on.
        force: whether a configuration of that name, and a folder, are replaced.
        dry_run: check everything, write nothing.

    Returns:
        In plain values what was written: `plans`, `configuration`, `network`, `tied`, `max_rel_diff`, `spent`.

    Raises:
        UsageError: a run of another network, or plans without its configuration.
        CheckFailed: the network that the plans make does not do what the run's does.
        InfeasibleError: even the smallest training step takes more than the memory that is to be spent.
    """
    said = named("nnunet", plans)
    if run.config.get("model") != FACTORY:
        raise UsageError(f"{said}: {run.path} is a run of {run.config.get('model')}; expected one of nnunet:PLANS")
    if folder is not None:
        check_absent(folder, force=force, option="nnunet_model")
    slim, loaded = run.slim_with(weights)
    settings = runs.settings_of(run.config)
    base = _configuration(plans, settings, said)
    name = f"{base.name}_ranp"
    if name in base.plans["configurations"] and not force:
        raise UsageError(f"{said}: has a configuration {name} already; {named('force', True)} replaces it")
    architecture, apart = _architecture(settings, slim, run)
    spent = None if spending is None else spend(spending, slim, base, settings)
    values: dict[str, Any] = {"inherits_from": base.name, "architecture": architecture}
    values |= {} if spent is None else {"patch_size": spent["patch_size"], "batch_size": spent["batch_size"]}
    made = Exported(name, values, base, loaded, apart, spent)
    if not dry_run:
        _write(made, slim, folder, force)
    return {"plans": str(base.path), "model_folder": None if folder is None else str(folder), **made.to_dict()}


def _configuration(plans: str, settings: Mapping[str, Any], said: str) -> Configuration:
    """Return the configuration that is named, or the one that has the run's architecture."""
    path, _, name = plans.partition("#")
    if name:
        found = read(plans, said)
        if not _same(found, settings):
            raise UsageError(f"{said}: {name} has another architecture than the network that was pruned")
        return found
    try:
        names = list(json.loads(Path(path).expanduser().read_text())["configurations"])
    except (OSError, ValueError, KeyError, TypeError):
        return read(plans, said)  # which says what is wrong
    found_all = [read(f"{path}#{name}", said) for name in names]
    fitting = [found for found in found_all if _same(found, settings)]
    if not fitting:
        raise UsageError(f"{said}: no configuration has the architecture of the network that was pruned")
    return fitting[0]


def _same(found: Configuration, settings: Mapping[str, Any]) -> bool:
    own = found.settings
    keys = ("network_class_name", "arch_kwargs", "input_channels", "num_classes")
    plain = (json.dumps([each.get(key) for key in keys], sort_keys=True) for each in (own, settings))
    return len({*plain}) == 1


def _architecture(settings: Mapping[str, Any], slim: nn.Module, run: runs.Run) -> tuple[dict[str, Any], float]:
    """Return the architecture that makes a slim network, and how far what it makes is from that.

    Raises:
        CheckFailed: it makes another network.
    """
    kinds = [each for each in (_tied(settings, slim), _free(settings, slim)) if each is not None]
    for architecture in kinds:
        made = _build(settings, architecture)
        if _shapes(made) == _shapes(slim):
            break
    else:
        raise CheckFailed(f"{run.path}: no configuration of plans makes its network")
    made.load_state_dict(slim.state_dict())
    apart = difference(slim, made, run.plan.example_inputs())
    if not apart <= TOLERANCE:
        raise CheckFailed(f"{run.path}: the network that the plans make is {apart:.1e} of the largest output apart")
    return architecture, apart


def _build(settings: Mapping[str, Any], architecture: Mapping[str, Any]) -> nn.Module:
    return network(
        architecture["network_class_name"], architecture["arch_kwargs"], architecture["_kw_requires_import"],
        settings["input_channels"], settings["num_classes"], settings.get("deep_supervision", True),
    )  # fmt: skip


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors_of(module).items()}


def _tied(settings: Mapping[str, Any], slim: nn.Module) -> dict[str, Any] | None:
    """Return the architecture of the class itself with the widths that a slim network of it has, stage by stage."""
    if settings["network_class_name"] == SLIM:
        return None
    kwargs = dict(settings["arch_kwargs"])
    encoder: Any = slim.get_submodule("encoder")
    kwargs["features_per_stage"] = [_last_width(stage) for stage in encoder.stages]
    if getattr(encoder, "stem", None) is not None:
        stem = _last_width(encoder.stem)
        if stem != kwargs["features_per_stage"][0] or kwargs.get("stem_channels") is not None:
            kwargs["stem_channels"] = stem
    if kwargs.get("bottleneck_channels") is not None:
        kwargs["bottleneck_channels"] = [[_last_width(b.conv1) for b in stage.blocks] for stage in encoder.stages]
    return {
        "network_class_name": settings["network_class_name"], "arch_kwargs": kwargs,
        "_kw_requires_import": list(settings["requires_import"]),
    }  # fmt: skip


def _last_width(part: nn.Module) -> int:
    convolutions = [each for each in part.modules() if isinstance(each, nn.modules.conv._ConvNd)]
    return int(convolutions[-1].out_channels)


def _free(settings: Mapping[str, Any], slim: nn.Module) -> dict[str, Any]:
    """Return the architecture of `slim_network` for a slim network: every shape that its class makes larger."""
    kwargs, name = dict(settings["arch_kwargs"]), settings["network_class_name"]
    before = kwargs.pop("shapes", {})
    name = kwargs.pop("full_class_name", name)
    whole = {"network_class_name": name, "arch_kwargs": kwargs, "_kw_requires_import": settings["requires_import"]}
    full = _shapes(_build(settings, whole))
    shapes = {key: list(shape) for key, shape in _shapes(slim).items() if full.get(key) != shape}
    return {
        "network_class_name": SLIM, "arch_kwargs": {**kwargs, "full_class_name": name, "shapes": {**before, **shapes}},
        "_kw_requires_import": list(settings["requires_import"]),
    }  # fmt: skip


def _write(made: Exported, slim: nn.Module, folder: Path | None, force: bool) -> None:
    plans = {**made.base.plans, "configurations": {**made.base.plans["configurations"], made.name: made.values}}
    text = json.dumps(plans, indent=4) + "\n"
    if folder is not None:
        checkpoint = {
            "network_weights": {name: tensor.detach().cpu() for name, tensor in slim.state_dict().items()},
            "init_args": {"configuration": made.name, "fold": "all"}, "trainer_name": _TRAINER, "current_epoch": 0,
            "inference_allowed_mirroring_axes": tuple(range(len(made.base.patch))),
        }  # fmt: skip
        with whole_folder(folder, force=force) as temporary:
            (temporary / "plans.json").write_text(text)
            (temporary / "dataset.json").write_text(json.dumps(made.base.dataset, indent=4) + "\n")
            (temporary / FOLD).mkdir()
            torch.save(checkpoint, temporary / FOLD / CHECKPOINT)
    with whole_file(made.base.path) as file:
        file.write_text(text)
