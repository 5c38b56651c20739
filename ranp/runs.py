"""A run folder: save() what a prune made, load() the slim network from it.

    RUN/config.yaml        every option, resolved
    RUN/plan.json          the plan
    RUN/slim.safetensors   weights
    RUN/report.json        what was saved, the verification, hashes of all four

Of a run that was trained too:

    RUN/trained.safetensors, RUN/last.safetensors   weights at the best validation, and after the last step
    RUN/training.json, RUN/metrics.csv              options, curves and validations
    RUN/samples.safetensors                         pictures of what it says of the first validation cases

A run is what was written or it is refused: every file's hash is compared before anything is built from it or shown.
Nothing in these files is executed. By itself `load` builds only built-ins and networks of MONAI; for any other factory
the caller gives the model again.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ranp import __version__
from ranp.errors import UsageError, check_type, named
from ranp.files import check_absent, check_writable, read_json, read_yaml, sha256, whole_file, whole_folder
from ranp.models.folders import PRUNED, kind_of
from ranp.models.spec import build_with, resolve
from ranp.models.weights import load_weights_
from ranp.modules import Module, all_names, check_values, copy_with, tensors_of, unwrapped
from ranp.plan import Plan
from ranp.reports import Report
from ranp.surgery import slim as slimmed
from ranp.surgery.transient import left_behind

CONFIG, PLAN, WEIGHTS, REPORT = "config.yaml", "plan.json", "slim.safetensors", "report.json"
TRAINED, LAST, TRAINING, METRICS = "trained.safetensors", "last.safetensors", "training.json", "metrics.csv"
SAMPLES = "samples.safetensors"
STATE = "state.safetensors"  # of a training that is not done
SEARCH = "search"  # a folder: the state of a search that is not done
HASHED = (CONFIG, PLAN, WEIGHTS)
_TRAINED = (TRAINED, LAST, TRAINING, METRICS, SAMPLES)  # of a training that is done
EXPORTS = ("onnx", "torch_export", "torchscript")  # what a report says of files for other programs
UNTRAINED = "untrained weights"
Model = nn.Module | str | Callable[..., nn.Module]


@dataclass(frozen=True)
class Run:
    """The files of a run, read but not yet built.

    Args:
        path: of the folder.
        config: the options it was made with.
        plan: its plan.
        values: what its report holds, as it stands there.
    """

    path: Path
    config: dict[str, Any]
    plan: Plan
    values: dict[str, Any]

    @cached_property
    def report(self) -> Report:
        """What it saved.

        Raises:
            UsageError: the file is no report of ranp.
        """
        report: Report = Report.read(self.values, self.path / REPORT, "report")
        return report

    @property
    def hashes(self) -> dict[str, str]:
        """The stored hash of each file, by name.

        Raises:
            UsageError: the report has none.
        """
        hashes = self.values.get("hashes")
        if not isinstance(hashes, dict):
            raise _changed(self.path / REPORT)
        return hashes

    def full(self, model: Model | None = None, settings: Mapping[str, Any] | None = None) -> nn.Module:
        """Return the full network's architecture: what the caller gives again, or built from the config if it may be.

        Args:
            model: the network, its factory, or MODEL as on the command line.
            settings: of the factory, where they are not the run's.

        Raises:
            UsageError: no such network, or the config names a factory that is never called from a file.
        """
        if isinstance(model, nn.Module):
            return unwrapped(model)
        settings = settings_of(self.config) if settings is None else settings
        if model is not None and not isinstance(model, str):
            return build_with(model, settings, getattr(model, "__name__", type(model).__name__))
        spec = self.config.get("model") if model is None else model
        if not isinstance(spec, str):
            raise UsageError(f"{self.path}: the run names no model: give it again ({named('model')})")
        preset = None if model and ":" in model else self.config.get("preset")  # which says something of a built-in
        return resolve(spec, settings, preset=preset, trusted=model is not None)

    def slim(self, model: Model | None = None) -> nn.Module:
        """Return the slim network with the run's weights.

        Args:
            model: as for `full`.

        Raises:
            UsageError: a file is damaged, or does not fit the model.
        """
        empty = slimmed(self.full(model), self.plan)
        return _with_weights(empty, self.weights(), self.path / self.weights_file, self.plan)

    def slim_with(self, weights: Path | None, model: Model | None = None) -> tuple[nn.Module, str]:
        """Return the slim network with trained weights of it, and where they come from in words.

        Args:
            weights: a checkpoint of the slim network; None for the run's own.
            model: as for `full`.

        Raises:
            UsageError: as `slim`, or as `load_weights_`.
        """
        network = self.slim(model)
        return network, self.weights_are if weights is None else load_weights_(network, weights)

    @property
    def weights_are(self) -> str:
        """Where the slim network's weights come from, in words; "" where the run does not say."""
        trained, init = self.values.get("trained"), self.config.get("init")
        if isinstance(trained, dict):
            return f"trained, {trained.get('loaded')}"
        if self.config.get("weights") and init == "keep":
            return f"what the pruning left of {Path(self.config['weights']).name}"
        if init == "keep":
            return f"{UNTRAINED}, unless the network's own factory loads trained ones"
        if self.values.get("transfer") and self.config.get("keep_weights"):
            return f"{UNTRAINED}, but for the tensors inherited in the transfer"
        return UNTRAINED if init or self.values.get("transfer") else ""

    @property
    def weights_file(self) -> str:
        """The name of the file of weights: the trained ones of a run that was trained."""
        return TRAINED if TRAINED in self.hashes else WEIGHTS

    @property
    def training(self) -> dict[str, Any]:
        """What the run's training says: options, curves, validations; nothing of a run that was not trained.

        Raises:
            UsageError: the file is damaged.
        """
        return read_json(self.path / TRAINING) if (self.path / TRAINING).is_file() else {}

    def weights(self) -> dict[str, Tensor]:
        """Return the weights by name, the trained ones of a run that was trained.

        Raises:
            UsageError: the file is missing or damaged.
        """
        self.check_hashes()
        file = self.path / self.weights_file
        try:
            return load_file(file)
        except (OSError, SafetensorError, ValueError) as error:
            raise UsageError(f"{file}: damaged: {' '.join(str(error).split())[:200]}") from None

    def enter(self, found: Mapping[str, Any]) -> None:
        """Put what was found out later (measured times) into the report on disk.

        Raises:
            UsageError: the folder can't be written.
        """
        with whole_file(self.path / REPORT) as temporary:
            temporary.write_text(self.report_with(found))

    def adopt(self, slim: nn.Module, found: Mapping[str, Any], without: Iterable[str] = ()) -> None:
        """Write the weights of a network that the plan makes in the place of the run's, whole or not at all.

        Args:
            slim: the network; every other file of the folder stays as it is.
            found: what its report holds from now on.
            without: what its report held of the former weights.

        Raises:
            UsageError: the folder can't be written, or a file of it was changed by others than ranp.
        """
        self.check_hashes()
        report = {key: value for key, value in self.values.items() if key not in set(without)}
        with whole_folder(self.path, force=True) as folder:
            shutil.copytree(self.path, folder, symlinks=True, dirs_exist_ok=True)
            write_weights(slim, folder / self.weights_file)
            hashes = {name: sha256(folder / name) for name in self.hashed}
            (folder / REPORT).write_text(_text({**report, **found, "hashes": hashes, "ranp": __version__}))

    def report_with(self, found: Mapping[str, Any]) -> str:
        """Return the text of the report that is on disk now, with more in it.

        Raises:
            UsageError: it was changed by others than ranp.
        """
        report = read_json(self.path / REPORT)
        _check_report(report, self.path / REPORT)
        return _text({**report, **found})

    @property
    def hashed(self) -> list[str]:
        """The names of the files whose hashes the report holds."""
        return [*HASHED, *(name for name in _TRAINED if name in self.hashes)]

    def check_hashes(self) -> None:
        """Compare the files with the hashes stored when they were written.

        Raises:
            UsageError: one differs.
        """
        for name in self.hashed:
            if not (self.path / name).is_file() or self.hashes.get(name) != sha256(self.path / name):
                raise _changed(self.path / name)
        _check_report(self.values, self.path / REPORT)


def sealed(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return a report with the hash of its own values beside those of the other files.

    Args:
        report: plain values; "hashes" has the SHA-256 of each file of `HASHED`.
    """
    return {**report, "hashes": {**report["hashes"], REPORT: _digest(report)}}


def _digest(report: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a report's values, whatever their order and spacing; its hashes are left out."""
    values = json.loads(json.dumps({key: value for key, value in report.items() if key != "hashes"}))
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _check_report(report: Mapping[str, Any], path: Path) -> None:
    hashes = report.get("hashes")
    if not isinstance(hashes, dict) or hashes.get(REPORT) != _digest(report):
        raise _changed(path)


def _changed(path: Path) -> UsageError:
    return UsageError(f"{path}: changed since it was written (its hash differs)")


def _text(report: Mapping[str, Any]) -> str:
    return _plain(sealed(report))


def _plain(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=2, allow_nan=False) + "\n"


def settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the factory arguments of a run's config, of the option `--set` and its shorthands.

    Raises:
        UsageError: they are not a mapping.
    """
    settings = config.get("settings") or {}
    if not isinstance(settings, dict):
        raise UsageError(f"config: settings {settings!r}: expected a mapping")
    return settings


def check_out(
    path: Path, *, force: bool = False, known_by: str = PLAN, option: str = "out", keeps: bool = False
) -> None:
    """Refuse a place where a run can't be written: something is there already, or the folder is read-only.

    Args:
        path: of the run folder to be.
        force: whether a run that is there may be replaced; nothing but a run or an empty folder ever is.
        known_by: what every run of this kind holds.
        option: that named it, for messages.
        keeps: whether what else is in the folder stays there.

    Raises:
        UsageError: naming what is in the way.
    """
    check_absent(path, force=force, option=option)
    if path.exists() and not ((path / known_by).exists() or (path.is_dir() and not any(path.iterdir()))):
        if kind := kind_of(path):
            other = f"a run of `{kind.made_by}`"
            raise UsageError(f"{named(option, path)}: {other}, so {named('force', True)} does not replace it")
        raise UsageError(f"{named(option, path)}: not a run folder, so {named('force', True)} does not replace it")
    if path.exists() and not keeps and (foreign := _foreign(path)):
        kept = f"so {named('force', True)} does not replace it"
        raise UsageError(f"{named(option, path)}: holds {foreign[0]}, which is not of the run, {kept}")
    check_place(path, option)


def check_place(path: Path, option: str = "out") -> None:
    """Refuse a place where a folder can't be written: one that is worked in, or below what is read-only or no folder.

    Raises:
        UsageError: naming what is in the way.
    """
    path, given = path.resolve(), path
    said = named(option, given)
    if path in (here := Path.cwd(), *here.parents):
        raise UsageError(f"{said}: the working folder is in it; name another, or work from outside of it")
    above = next(folder for folder in path.parents if folder.exists())
    if not above.is_dir():
        raise UsageError(f"{said}: {above} is not a folder")
    check_writable(above, said)


def _foreign(path: Path) -> list[str]:
    """Return the names in a run folder of what no command of ranp wrote there."""
    kind = kind_of(path)
    own = {kind.marker, *kind.files, TRAINED, LAST, TRAINING, METRICS, SAMPLES, STATE, SEARCH} if kind else {SEARCH}
    with suppress(UsageError):  # a report that can't be read names no exported files
        report = read_json(path / REPORT)
        entries = [report.get(name) for name in EXPORTS]
        own |= {str(entry.get("file")) for entry in entries if isinstance(entry, dict)}
    made = re.compile(r"report\.html|compare\.json|compare-.*\.html|.*\.onnx(\.\w{8}\.data)?|\..*\.ranp-.*|\.DS_Store")
    return sorted(entry.name for entry in path.iterdir() if entry.name not in own and not made.fullmatch(entry.name))


def save(
    path: Path | str,
    slim: nn.Module,
    plan: Plan,
    report: Report | Mapping[str, Any],
    config: Mapping[str, Any] | None = None,
    *,
    training: Mapping[str, Any] | None = None,
    force: bool = False,
) -> Path:
    """Write a run folder, whole or not at all.

    Args:
        path: of the folder.
        slim: the network whose weights are kept, as `slim` returned it, or trained since; of a wrapper that inside.
            What a forward left in it and does not read is not kept.
        plan: its plan.
        report: of a prune, or plain values; hashes and version are added.
        config: the options, so that the run can be repeated: `model` and `settings` rebuild the network.
        training: what `TRAINING` holds of a training that is not done, if the run is to be trained.
        force: whether an existing folder is replaced.

    Raises:
        UsageError: the folder exists, or can't be written; `slim` is not what the plan makes.
    """
    check_type("path", path, isinstance(path, str | Path), "the name of a folder")
    check_type("slim", slim, isinstance(slim, nn.Module), "a torch.nn.Module")
    check_type("plan", plan, isinstance(plan, Plan), "a ranp.Plan")
    check_type("report", report, isinstance(report, Report | Mapping), "a ranp.Report, or a dict")
    check_type("config", config, config is None or isinstance(config, Mapping), "a dict")
    path, slim = Path(path), unwrapped(slim)
    plan.check_made(slim)
    check_values(slim)
    check_out(path, force=force)
    left = left_behind(slim, plan.example_inputs())
    with whole_folder(path, force=force) as folder:
        (folder / CONFIG).write_text(yaml.safe_dump(dict(config or {}), sort_keys=True))
        (folder / PLAN).write_text(plan.to_json())
        write_weights(slim, folder / WEIGHTS, without=left)
        hashes = {name: sha256(folder / name) for name in HASHED}
        values = report.to_dict() if isinstance(report, Report) else report
        if training is not None:
            (folder / TRAINING).write_text(_plain(training))
        (folder / REPORT).write_text(_text({**values, "hashes": hashes, "ranp": __version__}))
    return path


def save_trained(
    path: Path,
    base: Run,
    weights: Mapping[str, Mapping[str, Tensor]],
    training: Mapping[str, Any],
    metrics: str,
    loaded: str,
    samples: bytes | None = None,
) -> None:
    """Write the folder of a run that was trained, whole or not at all; what was exported before is not of it.

    Args:
        path: of the folder, which may be there.
        base: the run whose plan and options it keeps, and the weights the training began with.
        weights: by the name of their file, `TRAINED` and `LAST`; none while the training is not done.
        training: what `TRAINING` holds.
        metrics: what `METRICS` holds.
        loaded: how the weights came about, in a line, for the report.
        samples: what `SAMPLES` holds, if anything.

    Raises:
        UsageError: the folder can't be written, or a file of the base was changed.
    """
    base.check_hashes()
    report = {
        key: value
        for key, value in base.values.items()
        if key not in ("onnx", "torch_export", "torchscript", "trained")
    }
    with whole_folder(path, force=path.exists()) as folder:
        for name in (CONFIG, PLAN):
            shutil.copyfile(base.path / name, folder / name)
        shutil.copyfile(base.path / base.weights_file, folder / WEIGHTS)
        for name, tensors in weights.items():
            save_file(dict(tensors), folder / name)
        (folder / TRAINING).write_text(_plain(training))
        (folder / METRICS).write_text(metrics)
        if samples is not None:
            (folder / SAMPLES).write_bytes(samples)
        done = [name for name in _TRAINED if weights and (folder / name).is_file()]
        hashes = {name: sha256(folder / name) for name in (*HASHED, *done)}
        trained = {"file": TRAINED, "sha256": hashes[TRAINED], "loaded": loaded} if TRAINED in hashes else None
        values = {**report, **({"trained": trained} if trained else {}), "hashes": hashes, "ranp": __version__}
        (folder / REPORT).write_text(_text(values))


def write_weights(model: nn.Module, path: Path, without: Collection[str] = ()) -> None:
    """Write every parameter, buffer and tensor attribute of a module to a safetensors file, but for some names."""
    tensors = {name: tensor for name, tensor in tensors_of(model).items() if name not in without}
    save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, path)


def read(path: Path | str) -> Run:
    """Read the files of a run folder; nothing is built.

    Raises:
        UsageError: a file is missing or is not what it should be.
    """
    check_type("path", path, isinstance(path, str | Path), "the name of a run folder")
    path = Path(path)
    if not path.is_dir():
        raise UsageError(f"{path}: no such run folder")
    kind = kind_of(path)
    if kind not in (None, PRUNED):
        assert kind is not None
        raise UsageError(
            f"{path}: a run of `{kind.made_by}`, which has no plan; `ranp prune {path}` makes one that has"
        )
    for name in (CONFIG, PLAN, WEIGHTS, REPORT):
        if not (path / name).is_file() or (path / name).is_symlink():
            raise UsageError(f"{path}: not a run folder: {name} is missing")
    return Run(path, read_yaml(path / CONFIG), Plan.read(path / PLAN), read_json(path / REPORT))


def load(path: Path | str, model: Model | None = None) -> nn.Module:
    """Return the slim network of a run folder, with its weights.

    Args:
        path: of the folder.
        model: for a run whose factory is neither a built-in nor a network of MONAI: the full network, its factory
            (called with the run's settings), or MODEL as on the command line, such as "file.py:factory".

    Raises:
        UsageError: a file is missing or damaged, or the model can't be built from a file.
    """
    return read(path).slim(model)


def _with_weights(model: Module, weights: Mapping[str, Tensor], path: Path, plan: Plan) -> Module:
    registered = {name for name, _ in [*model.named_parameters(), *model.named_buffers()]}
    apart = {name for name, own in tensors_of(model).items() if name not in weights or weights[name].shape != own.shape}
    left = left_behind(model, plan.example_inputs()) if apart else frozenset()

    def stored(name: str, own: Tensor) -> Tensor:
        if name in left or (name not in weights and name not in registered):  # made by a forward
            return own
        if name not in weights:
            raise UsageError(f"{path}: no weights for {name}")
        if weights[name].shape != own.shape:
            raise UsageError(f"{path}: {name} is {tuple(weights[name].shape)}; the plan makes it {tuple(own.shape)}")
        return weights[name]

    loaded = copy_with(model, stored, private=False)
    known = {name for name, _ in all_names(loaded)}
    for name in weights.keys() - known:  # what a forward took from its first input, and a new module does not have yet
        owner, key = dict(loaded.named_modules()).get(name.rpartition(".")[0]), name.rpartition(".")[2]
        if owner is None or getattr(owner, key, None) is not None:
            raise UsageError(f"{path}: {name} has no place in the network")
        setattr(owner, key, weights[name])
    return loaded


__all__ = [
    "CONFIG",
    "PLAN",
    "REPORT",
    "WEIGHTS",
    "Run",
    "check_out",
    "load",
    "read",
    "save",
    "sealed",
    "settings_of",
    "write_weights",
]
