"""What MODEL names where it is run on data: the network, and how the data of its training were read."""

import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from ranp import runs
from ranp.data.dataset import Dataset
from ranp.data.sources import GENERATORS, FromFiles, Opened, open_source
from ranp.data.volumes import Scale, Volumes
from ranp.errors import RanpError
from ranp.inputs import Inputs, check_device, flatten, map_tensors
from ranp.jobs._source import reading_of
from ranp.jobs._subject import read_subject
from ranp.jobs._task import check_slices, maxdisp_of
from ranp.jobs.options import BatchSize, Labelled, Network, Outputs, Patch, Voxels, Weights
from ranp.models.folders import PRUNED, kind_of
from ranp.models.words import is_known_factory
from ranp.options import Options

Given = TypeVar("Given", bound=Options)
_MEANINGS = ("label_map", "regions")  # of which one is given


@dataclass(frozen=True)
class Subject:
    """A network that is run on data.

    Args:
        network: with its weights.
        inputs: examples of what it takes, without data.
        weights: where they come from, in words.
        outputs: places of the outputs that count.
        maxdisp: of a stereo network.
    """

    network: nn.Module
    inputs: Inputs
    weights: str
    outputs: tuple[int, ...]
    maxdisp: int


def run_of(model: str) -> runs.Run | None:
    """Return the run that MODEL names; None where it names a network.

    Raises:
        UsageError: as `runs.read`.
    """
    return runs.read(Path(model)) if kind_of(model) is PRUNED else None


def as_read(options: Given, run: runs.Run, source: Opened) -> Given:
    """Return options with how volumes were read when the run was made, where they do not say; of plans the batch, too.

    The volumes of `source` are then read so. What labels mean belongs to data, and these may be others.
    """
    planned = is_known_factory(str(run.config.get("model")))
    options = _with(options, run, BatchSize.model_fields if planned else ())
    if not isinstance(source, FromFiles) or not isinstance(source.dataset, Volumes):
        return options
    check_slices(source.dataset, flatten(run.plan.example_inputs())[0].dim() - 2)
    if source.dataset.prepared:
        return options
    options = _with(options, run, Voxels.model_fields)
    source.dataset = replace(source.dataset, sampling=reading_of(options).sampling)
    return options


def as_trained(options: Given, run: runs.Run | None) -> Given:
    """Return options with those of the run's training, or of the run, in the place of those that are not given."""
    if run is None:
        return options
    groups = [group for group in (Labelled, Voxels, Patch, Outputs) if isinstance(options, group)]
    return _with(options, run, {name for group in groups for name in group.model_fields} | {"data_settings", "keys"})


def _with(options: Given, run: runs.Run, names: Collection[str]) -> Given:
    """Return options with those of a run that are of these names, where they are not given."""
    known = {**run.config, **dict(run.training.get("data") or {})}
    if isinstance(options, Voxels) and options.intensity != "auto":
        known.pop("scales", None)
    said = any(getattr(options, name, None) for name in _MEANINGS)
    update: dict[str, Any] = {}
    for name, field in type(options).model_fields.items():
        if name not in names or name not in known or (said and name in _MEANINGS):
            continue
        if getattr(options, name) == field.get_default():
            update[name] = known[name]
    if not update:
        return options
    return type(options).read(
        {**{n: v for n in type(options).model_fields if (v := getattr(options, n)) is not None}, **update}
    )


def subject_of(options: Options, run: runs.Run | None, seed: int = 0) -> Subject:
    """Build what MODEL names, at the size of --patch.

    Args:
        options: with the groups `Network`, `Full`, `Weights`, `Patch`, `Outputs` and `Device`.
        run: that MODEL names, if it does.
        seed: of initial weights.

    Raises:
        UsageError: as `read_subject`, or a network without weights that were trained.
    """
    assert isinstance(options, Network)
    assert isinstance(options, Weights)
    assert isinstance(options, Patch)
    assert isinstance(options, Outputs)
    check_device(getattr(options, "device", "cpu"))
    size = (options.patch,) if options.patch else ()
    words = options.only(Network)
    found = read_subject(
        words, full=getattr(options, "full", None), size=size, batch=1, seed=seed, weights=options.weights
    )
    inputs: Inputs = map_tensors(found.inputs, lambda tensor: torch.empty_like(tensor, device="meta"))
    outputs = options.outputs or (run.plan.outputs if run else ())
    weights = found.weights or "untrained weights"
    known: dict[str, Any] = (
        run.config if run else {"model": options.model, "preset": options.preset, "settings": options.settings}
    )
    maxdisp = maxdisp_of(str(known.get("model")), known.get("preset"), runs.settings_of(known))
    return Subject(found.network, inputs, weights, tuple(outputs), maxdisp)


def learned_by(run: runs.Run | None, options: Options, channels: int) -> dict[str, Any]:
    """Return what the training of a run knew of its data: what it says, or what its data say if they are still there.

    Args:
        run: that MODEL names, if it does.
        options: as `as_trained` returned them.
        channels: of the network's output.
    """
    if run is None:
        return {}
    told = run.training.get("learned")
    if isinstance(told, dict):
        return told
    known = {**run.config, **dict(run.training.get("data") or {})}
    word = known.get("data")
    if not isinstance(word, str) or word in GENERATORS or not channels:
        return {}
    images, labels = (tuple(map(Path, known.get(name) or ())) for name in ("images", "labels"))
    try:
        source = open_source(
            word, images, labels, settings=known.get("data_settings") or {}, reading=reading_of(options), trusted=False
        )
        return source.learned(channels) if isinstance(source, FromFiles) else {}
    except RanpError as error:
        text = "how its data are scaled, and which values its classes are, is taken from the options alone"
        warnings.warn(f"{run.path}: the data of its run can't be read ({error}); {text}", stacklevel=2)
        return {}


def as_learned(dataset: Dataset[Any], learned: Mapping[str, Any]) -> Dataset[Any]:
    """Return cases as the network's training scaled its own, and with what its values of labels stood for."""
    values, scales = learned.get("values") or [], learned.get("scales")
    if not isinstance(dataset, Volumes):
        return dataset
    if dataset.labels.count() is None and values != [*range(len(values))]:  # 0 and 255, of which one may lack here
        classes = {value: number for number, value in enumerate(values)}
        dataset = replace(dataset, labels=replace(dataset.labels, classes=classes))
    if not scales:
        return dataset
    known = tuple(None if each is None else Scale.of_plain(each) for each in scales)
    return replace(dataset, sampling=replace(dataset.sampling, scales=known))
