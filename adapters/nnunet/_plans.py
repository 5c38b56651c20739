"""Plans of nnU-Net v2: which network, patch, batch, spacing and scales a configuration has.

    nnUNet_preprocessed/Dataset004_Hippocampus/nnUNetPlans.json   {"configurations": {"3d_fullres": {...}}, ...}
    nnUNet_preprocessed/Dataset004_Hippocampus/dataset.json       channels and labels

A configuration may inherit from another, key by key: an architecture is inherited whole. Written after
`plans_handler.py` of nnU-Net 2.8 (Isensee et al., Nature Methods 2021, https://github.com/MIC-DKFZ/nnUNet).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ranp.data.layouts.nnunet import IGNORE, read_labels
from ranp.errors import UsageError, listed, named, nearest
from ranp.files import read_json
from ranp.models.words import Recipe

FACTORY = "ranp.adapters.nnunet:network"
_CT = "CTNormalization"
_SCALES: dict[str, dict[str, float | None] | None] = {
    "ZScoreNormalization": None,
    "NoNormalization": {"mean": 0.0, "sd": 1.0, "low": None, "high": None},
}
"""How a scheme of nnU-Net scales a channel; None for the z-score of each case."""


@dataclass(frozen=True)
class Configuration:
    """A configuration of plans, with what it inherits.

    Args:
        path: of the plans.
        plans: as they stand in the file.
        name: of the configuration.
        values: its own over what it inherits.
        channels: of the network's input.
        classes: of its output.
        dataset: the dataset.json beside the plans.
    """

    path: Path
    plans: Mapping[str, Any]
    name: str
    values: Mapping[str, Any]
    channels: int
    classes: int
    dataset: Mapping[str, Any]

    @property
    def patch(self) -> tuple[int, ...]:
        """Size of a patch."""
        return tuple(map(int, self.values["patch_size"]))

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of `network`."""
        architecture = self.values["architecture"]
        return {
            "network_class_name": architecture["network_class_name"],
            "arch_kwargs": dict(architecture["arch_kwargs"]),
            "requires_import": list(architecture["_kw_requires_import"]),
            "input_channels": self.channels,
            "num_classes": self.classes,
        }


def read_word(rest: str, option: str = "MODEL") -> Recipe:
    """Return what `nnunet:PLANS#CONFIGURATION` says: network, patch, batch, spacing, axes and scales.

    The network has deep supervision, as nnU-Net trains it; where it is switched off again the lower heads stay.

    Args:
        rest: PLANS#CONFIGURATION.
        option: that holds it, for messages.

    Raises:
        UsageError: as `read`.
    """
    found = read(rest, named(option, f"nnunet:{rest}" if option == "MODEL" else rest))
    order = [int(axis) for axis in found.plans.get("transpose_forward", range(3))]
    dims = len(found.patch)
    axes = tuple(2 - axis for axis in order)  # files hold (x, y, z), nnU-Net reads (z, y, x)
    if dims == 2:  # it sees slices across the first of its axes
        axes = (*axes[1:], axes[0])
    cascade = "a cascade takes the labels that its first stage predicts as channels, and ranp has none"
    return Recipe(
        FACTORY, found.settings, (found.channels, *found.patch), int(found.values.get("batch_size", 2)),
        spacing=tuple(map(float, found.values.get("spacing", ()))),
        axes=axes,
        scales=_scales(found),
        unread=cascade if found.values.get("previous_stage") else "",
    )  # fmt: skip


def read(rest: str, said: str) -> Configuration:
    """Read a configuration of plans and the dataset.json beside them.

    Args:
        rest: PLANS#CONFIGURATION; the configuration may be left out where there is one.
        said: how messages begin.

    Raises:
        UsageError: a file that is missing or no plans of nnU-Net v2, or no such configuration.
    """
    where, _, name = rest.partition("#")
    path = Path(where).expanduser()
    if path.suffix == ".pkl":
        raise UsageError(f"{said}: a pickle, as nnU-Net v1 wrote its plans; expected plans.json of nnU-Net v2")
    if not path.is_file():
        raise UsageError(f"{said}: no file {path}; expected nnunet:PLANS.json#CONFIGURATION")
    plans = read_json(path)
    if "plans_per_stage" in plans:
        raise UsageError(f"{said}: plans of nnU-Net v1; expected those of v2, which nnUNetv2_plan_experiment writes")
    configurations = plans.get("configurations")
    if not isinstance(configurations, dict) or not configurations:
        raise UsageError(f'{said}: {path} holds no "configurations"; expected plans of nnU-Net v2')
    if not name and len(configurations) == 1:
        (name,) = configurations
    if name not in configurations:
        known = listed(configurations)
        what = f"{path} has no configuration {name!r}" if name else f"{path} has several configurations"
        raise UsageError(f"{said}: {what}; expected #{known}{nearest(name, configurations)}")
    values = inherited(configurations, name, said)
    _check(values, name, said)
    dataset = _dataset(path, said)
    channels, classes, foreground = _channels_and_classes(dataset, f"{said}: {path.with_name('dataset.json')}")
    if values.get("previous_stage"):  # a cascade: the labels of the stage before come as further channels
        channels += foreground
    return Configuration(path, plans, name, values, channels, classes, dataset)


def inherited(configurations: Mapping[str, Any], name: str, said: str) -> dict[str, Any]:
    """Return the values of a configuration over those that it inherits.

    Raises:
        UsageError: it inherits from what is not there, or from itself.
    """
    chain, values = [name], dict(configurations[name])
    while (parent := configurations[chain[-1]].get("inherits_from")) is not None:
        if parent in chain or parent not in configurations:
            what = "which inherits from itself" if parent in chain else "which is not there"
            raise UsageError(f"{said}: {chain[-1]} inherits from {parent!r}, {what}")
        chain.append(parent)
        values = {**configurations[parent], **values}
    return values


def _check(values: Mapping[str, Any], name: str, said: str) -> None:
    architecture = values.get("architecture")
    if architecture is None:
        raise UsageError(
            f"{said}: {name} has no architecture, as plans had before nnU-Net 2.5; run nnUNetv2_plan_experiment again"
        )
    parts = ("network_class_name", "arch_kwargs", "_kw_requires_import")
    lacking = next((part for part in parts if not isinstance(architecture, dict) or part not in architecture), None)
    if lacking is not None or not isinstance(architecture["arch_kwargs"], dict):
        raise UsageError(f"{said}: the architecture of {name} has no {lacking or 'arch_kwargs'}")
    patch = values.get("patch_size")
    if not isinstance(patch, list) or len(patch) not in (2, 3) or not all(isinstance(s, int) and s > 0 for s in patch):
        raise UsageError(f"{said}: {name} has the patch_size {patch!r}; expected two or three whole numbers")


def _dataset(path: Path, said: str) -> dict[str, Any]:
    beside = path.with_name("dataset.json")
    if not beside.is_file():
        raise UsageError(
            f"{said}: no {beside}; expected it beside the plans: it says what channels and labels there are"
        )
    return read_json(beside)


def _channels_and_classes(dataset: Mapping[str, Any], where: str) -> tuple[int, int, int]:
    """Return the channels of the images, the outputs of the network, and the labels that are no background."""
    channels, labels = dataset.get("channel_names") or dataset.get("modality"), dataset.get("labels")
    if not isinstance(channels, dict) or not isinstance(labels, dict):
        raise UsageError(f'{where}: expected "channel_names" and "labels", found {listed(dataset, "and")}')
    known = read_labels(labels, where)
    foreground = len([name for name in labels if name != IGNORE]) - 1
    return len(channels), known.count() or foreground + 1, foreground


def _scales(found: Configuration) -> tuple[Mapping[str, float | None] | None, ...]:
    """Return how each channel is scaled; () where a scheme is none that ranp knows, or takes the foreground alone."""
    schemes = [str(name) for name in found.values.get("normalization_schemes", ())]
    if any(found.values.get("use_mask_for_norm", ())) or not {*schemes} <= {_CT, *_SCALES}:
        return ()
    measured = found.plans.get("foreground_intensity_properties_per_channel", {})

    def of(number: int, scheme: str) -> Mapping[str, float | None] | None:
        if scheme != _CT:
            return _SCALES[scheme]
        own = measured[str(number)]
        keys = {"mean": "mean", "sd": "std", "low": "percentile_00_5", "high": "percentile_99_5"}
        return {ours: float(own[theirs]) for ours, theirs in keys.items()}

    if any(scheme == _CT and str(number) not in measured for number, scheme in enumerate(schemes)):
        return ()
    return tuple(of(number, scheme) for number, scheme in enumerate(schemes))
