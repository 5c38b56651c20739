"""What the runs of adapters share: the network that they are made of, a run copied if it is one, and their folder."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch import Tensor, nn

from ranp import runs
from ranp.errors import UsageError, named
from ranp.files import whole_folder
from ranp.inputs import Shape, specs
from ranp.models.folders import kind_of
from ranp.models.request import read_request, read_size
from ranp.models.spec import resolve


def run_folder(word: str | None) -> Path | None:
    """Return the folder of a run that a word names, by itself or by the weights in it; None for another MODEL."""
    if word is None:
        return None
    path = Path(word)
    if path.name == runs.WEIGHTS and (path.parent / runs.PLAN).is_file():
        return path.parent
    return path if path.is_dir() else None


def copy_run(word: str | None, to: Path) -> None:
    """Copy the run that a word names, if it does, without what loading it does not read: pages, exports, tables."""
    source = run_folder(word)
    if source is not None:
        shutil.copytree(source, to, ignore=_not_needed)


def _not_needed(folder: str, names: list[str]) -> set[str]:
    pages = {"report.html", "compare.json", runs.METRICS, runs.TRAINING, runs.STATE, "decoder.svg"}
    return {name for name in names if name in pages or name.endswith((".onnx", ".data", ".pt2"))}


@dataclass(frozen=True)
class Part:
    """A network of one image that was asked for.

    Args:
        model: MODEL, of a run the folder.
        preset: of a built-in.
        settings: of its factory.
        shape: of its input, (C, *spatial).
    """

    model: str
    preset: str | None
    settings: dict[str, Any]
    shape: Shape

    @classmethod
    def kept_in(cls, folder: Path, name: str, report: Mapping[str, Any]) -> "Part":
        """Return the part that a run's report tells of, which is the run copied under that name if it was one.

        Raises:
            KeyError: the report is of something else; likewise TypeError, ValueError and IndexError.
        """
        known, copied = report[name], folder / name
        model = str(copied) if copied.is_dir() else str(known["model"])
        return cls(model, known["preset"], dict(known["settings"]), tuple(map(int, report["inputs"][0][1:])))

    def build(self, seed: int = 0, *, trusted: bool = True) -> nn.Module:
        """Build it; what a run holds is loaded with its weights.

        Raises:
            UsageError: as `resolve` and `ranp.load`.
        """
        if Path(self.model).is_dir() and ((kind := kind_of(self.model)) is None or not kind.factory):
            return runs.load(self.model)
        spec, settings = self.model, self.settings
        if Path(spec).is_dir():
            settings, spec = {"run": spec, **settings}, str(kind_of(spec).factory)  # type: ignore[union-attr]
        return resolve(spec, settings, preset=self.preset, seed=seed, trusted=trusted)

    @property
    def example(self) -> Tensor:
        """An image of its size."""
        return torch.zeros(1, *self.shape)


def read_part(
    model: str,
    name: str,
    *,
    preset: str | None,
    settings: Mapping[str, Any],
    in_channels: int | None,
    size: str | None,
    size_option: str,
    classes: int | None = None,
    channels: int | None = None,
) -> Part:
    """Return what a word asks for: MODEL, or the folder of a run.

    Args:
        model: the word.
        name: of its argument, for messages.
        preset: of a built-in.
        settings: of its factory.
        in_channels: that it is told.
        size: of its image.
        size_option: the option that named the size.
        classes: of a built-in.
        channels: of a built-in that is not told.

    Raises:
        UsageError: as `read_request`, or a network of several inputs.
    """
    kind = kind_of(model)
    own: dict[str, Any] = {}
    if Path(model).is_dir() and (kind is None or not kind.factory):
        for option, value in (("preset", preset), ("set", settings), ("classes", classes)):
            if value:
                raise UsageError(f"{named(option, value)}: {model} is a run and brings its own")
        preset = None
        shapes = tuple(spec.shape for spec in specs(runs.read(Path(model)).plan.inputs))
        if size and shapes:
            shapes = ((*shapes[0][:2], *read_size(size, len(shapes[0]) - 2, size_option)), *shapes[1:])
    else:
        built_in = kind is None and ":" not in model
        told = in_channels or preset or "in_channels" in settings
        request = read_request(
            model, preset=preset, settings=settings, in_channels=channels if built_in and not told else in_channels,
            classes=classes, size=size, size_option=size_option, trusted=True,
        )  # fmt: skip
        shapes, preset, own = request.shapes, request.preset, dict(request.settings)
        own.pop("run", None)
    if len(shapes) != 1 or len(shapes[0]) < 3:
        raise UsageError(f"{named(name, model)}: takes {len(shapes)} inputs; expected a network of one image")
    return Part(model, preset, own, tuple(shapes[0][1:]))


def save_run(
    place: Path,
    network: nn.Module,
    weights: str,
    config: Mapping[str, Any],
    report: Mapping[str, Any],
    parts: Mapping[str, str | None],
    more: Mapping[str, str] = MappingProxyType({}),
    *,
    force: bool,
) -> None:
    """Write the folder of a run, whole or not at all.

    Args:
        place: the folder.
        network: whose weights are kept.
        weights: the name of their file.
        config: every option.
        report: what came of it.
        parts: the words of the networks that it is made of, by the folder that a run among them is copied to.
        more: texts, by the name of their file.
        force: whether a run that is there is replaced.

    Raises:
        UsageError: the folder exists and `force` is not given.
    """
    with whole_folder(place, force=force) as folder:
        texts = {runs.CONFIG: yaml.safe_dump(dict(config), sort_keys=False)}
        texts |= {runs.REPORT: json.dumps(report, indent=2) + "\n", **more}
        for name, text in texts.items():
            (folder / name).write_text(text)
        save_model(network, str(folder / weights))
        (folder / weights).chmod((folder / runs.CONFIG).stat().st_mode)  # safetensors makes files private
        for name, word in parts.items():
            copy_run(word, folder / name)


def load_run_(network: nn.Module, weights: Path) -> None:
    """Load the weights of a run into its network.

    Raises:
        UsageError: no such file, or one of another network.
    """
    try:
        load_model(network, str(weights))
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise UsageError(f"{weights}: not the weights of this run ({str(error).splitlines()[0]})") from None
