"""What `ranp prune` asks for: its options, checked before anything takes long, carried out, and kept as a run."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from ranp import models, runs
from ranp.data import losses
from ranp.data.choice import Shape, choose_source, output_shape
from ranp.errors import UsageError, nearest
from ranp.figures import spell
from ranp.graph.build import trace
from ranp.inputs import check_device
from ranp.models.init import initialise_
from ranp.models.request import Request, read_request
from ranp.models.weights import load_weights_
from ranp.pipeline._prune import Result, costs_of, prune
from ranp.scores.method import Method, Reduce
from ranp.selection import check_options, select

Track = Callable[[Iterable[Any]], Iterable[Any]]


class Job(BaseModel):
    """The options of `ranp prune` under their names on the command line; what is None is decided by `resolved`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    preset: str | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    in_channels: int | None = None
    classes: int | None = None
    input: str | None = None
    weights: Path | None = None
    data: str = "phantom"
    images: tuple[Path, ...] = ()
    labels: tuple[Path, ...] = ()
    patch: str | None = None
    batches: int = 8
    batch_size: int = 1
    method: str | None = None
    reduce: str = "sum"
    rule: str = "global"
    weighting: str = "layer"
    reweight: str | None = None
    strength: float | None = None
    coupling: str = "paper"
    sparsity: float | None = None
    max_sparsity: bool = False
    min_width: int = 1
    align: int = 1
    published_transposed: bool = False
    freeze: tuple[str, ...] = ()
    init: str | None = None
    loss: str | None = None
    seed: int = 0
    device: str = "cpu"
    out: Path | None = None

    def request(self) -> Request:
        """Return the network and the inputs its costs are counted at: --input, else --patch, else its own.

        Raises:
            UsageError: as `read_request`.
        """
        return self._request(*((self.input, "--input") if self.input else (self.patch, "--patch")))

    def scored_request(self) -> Request:
        """Return the network and the inputs it is scored on: --patch, else --input, else its own.

        Raises:
            UsageError: as `read_request`.
        """
        return self._request(*((self.patch, "--patch") if self.patch else (self.input, "--input")))

    def resolved(self) -> "Job":
        """Return the same job with every choice made that was left open.

        Raises:
            UsageError: as `read_request`.
        """
        request, scored = self.request(), self.scored_request()
        published = models.preset(self.model, self.preset) if self.preset else None
        strength = published.strength if published and self.reweight and self.strength is None else self.strength
        return self.model_copy(
            update={
                "model": request.model,
                "settings": dict(request.settings),
                "input": _spelled(request),
                "patch": _spelled(scored),
                "method": self.method or ("snip" if self.rule == "snip" else "mpmg"),
                "strength": strength,
                "init": self.init or ("glorot" if request.model in models.names() and not self.weights else "keep"),
                "loss": self.loss or _loss_of(self.model, self.preset),
                "out": self.out or Path("runs") / _folder_name(self.model, self.preset),
            }
        )

    def config(self) -> dict[str, Any]:
        """Return plain values for config.yaml, without what was left out."""
        values = self.model_dump(mode="json")
        return {key: value for key, value in values.items() if value is not None and value != [] and value != {}}

    def selection(self) -> dict[str, Any]:
        """Return the options of `select`."""
        names = (
            "rule",
            "weighting",
            "reweight",
            "strength",
            "coupling",
            "sparsity",
            "max_sparsity",
            "min_width",
            "align",
            "published_transposed",
        )
        return {name: getattr(self, name) for name in names}

    def _request(self, size: str | None, option: str) -> Request:
        return read_request(
            self.model, preset=self.preset, settings=self.settings, in_channels=self.in_channels,
            classes=self.classes, size=size, batch=self.batch_size, size_option=option,
            batch_option="--batch-size",
        )  # fmt: skip


@dataclass(frozen=True)
class Prepared:
    """A job whose options are known to be good, and what it works on.

    Args:
        job: resolved.
        network: initialised, or with the weights that were given.
        inputs: its costs are counted at their shapes.
        batches: to score it on; None where nothing needs them.
        loss: of (outputs, target).
    """

    job: Job
    network: nn.Module
    inputs: tuple[Tensor, ...]
    batches: Iterable[Any] | None
    loss: losses.Loss


def prepare(job: Job, *, force: bool = False) -> Prepared:
    """Check everything that can be checked without work: options, output, network, weights, data.

    Args:
        job: what is asked for.
        force: whether an existing run folder will be replaced.

    Raises:
        UsageError: the first mistake that was found.
        MissingExtra: a reader of the data is not installed.
    """
    check_options(seed=job.seed, method=job.method, **job.selection())
    if Path(job.model, runs.PLAN).is_file():
        raise UsageError(f"MODEL {job.model}: is a run folder; a run is pruned from its full network, by its --config")
    job = job.resolved()
    assert job.out is not None
    runs.check_out(job.out, force=force)
    return ready(job)


def ready(job: Job, *, scored: bool = False, trusted: bool = True) -> Prepared:
    """Return what a resolved job works on: network, inputs, batches and loss; its output is not looked at.

    Args:
        job: resolved.
        scored: whether batches are needed whatever its rule and method.
        trusted: whether the user named the network; False for what a run's files name.

    Raises:
        UsageError: as `prepare`.
        MissingExtra: as `prepare`.
    """
    _check_scoring(job)
    check_device(job.device)
    loss = choose_loss(job)
    network = build(job, trusted=trusted)
    return Prepared(job, network, job.request().inputs(job.seed), _batches(job, network, scored), loss)


def build(job: Job, *, trusted: bool = True) -> nn.Module:
    """Return the network of a resolved job with the weights it is scored with.

    Raises:
        UsageError: no such network, weights that do not fit, an unknown initialisation.
    """
    network = job.request().network(job.seed, trusted=trusted)
    if job.weights is not None:
        load_weights_(network, job.weights)
    generator = torch.Generator().manual_seed(job.seed)
    initialise_(network, job.init, generator)  # type: ignore[arg-type]  # it refuses unknown words itself
    return network


def choose_loss(job: Job) -> losses.Loss:
    """Return the loss of a resolved job.

    Raises:
        UsageError: an unknown name.
    """
    assert job.loss is not None
    return losses.get(job.loss, **({"maxdisp": _maxdisp(job)} if job.loss == "stereo" else {}))


def plan_only(prepared: Prepared, watch: Callable[[str], None] | None = None) -> dict[str, Any]:
    """Return what a dry run can say: the full network's costs, what is frozen, and where the run would go."""
    if watch:
        watch("trace")
    graph = trace(prepared.network, prepared.inputs, freeze=prepared.job.freeze)
    whole = select(graph, None, rule="random", sparsity=0.0)
    return {
        **_head(prepared.job),
        "dry_run": True,
        "full": costs_of(graph, whole)["standard"]["full"],
        "units": whole.units(),
        "config": prepared.job.config(),
    }


def carry_out(
    prepared: Prepared, *, watch: Callable[[str], None] | None = None, track: Track | None = None
) -> tuple[Result, dict[str, Any]]:
    """Prune, and return the result with its report in plain values; nothing is written.

    Args:
        prepared: by `prepare`.
        watch: called with the name of each step as it begins.
        track: wraps the iteration over the batches.

    Raises:
        RanpError: as `ranp.prune`.
    """
    job = prepared.job
    batches = prepared.batches
    result = prune(
        prepared.network, prepared.inputs, batches=track(batches) if track and batches is not None else batches,
        loss=prepared.loss, method=job.method or "mpmg", reduce=job.reduce, freeze=job.freeze,
        zero_conv_biases=job.init in ("glorot", "orthogonal"), device=job.device, seed=job.seed, watch=watch,
        **job.selection(),
    )  # fmt: skip
    return result, {**_head(job), **result.report.to_dict()}


def keep(job: Job, result: Result, report: dict[str, Any], *, force: bool = False) -> dict[str, Any]:
    """Write the run folder and return the report as it stands there.

    Raises:
        UsageError: the folder exists or can't be written.
    """
    assert job.out is not None
    runs.save(job.out, result.slim, result.plan, report, job.config(), force=force)
    return runs.read(job.out).report


def _batches(job: Job, network: nn.Module, scored: bool) -> Iterable[Any] | None:
    needed = scored or (job.method != "l1" and job.rule != "random")
    if not needed and job.data == "phantom":
        return None
    shapes = job.scored_request().shapes
    return choose_source(
        job.data, [shape[1:] for shape in shapes], output_shape(network, shapes), images=job.images, labels=job.labels,
        classes=job.classes, batches=job.batches, batch_size=job.batch_size, seed=job.seed, maxdisp=_maxdisp(job),
    )  # fmt: skip


def _check_scoring(job: Job) -> None:
    for option, word, known in (("method", job.method, get_args(Method)), ("reduce", job.reduce, get_args(Reduce))):
        if word not in known:
            raise UsageError(f"--{option} {word}: expected {', '.join(known)}{nearest(str(word), known)}")
    if job.strength is not None and job.reweight is None:
        raise UsageError(f"--strength {job.strength:g}: needs --reweight flops or memory")


def _maxdisp(job: Job) -> int:
    known = models.full_settings(job.model, job.preset, job.settings) if job.model in models.names() else job.settings
    return int(known.get("maxdisp", 192))


def _head(job: Job) -> dict[str, Any]:
    shapes = job.request().shapes
    return {
        "model": job.model,
        "preset": job.preset,
        "input": [list(shape[1:]) for shape in shapes],
        "batch": shapes[0][0],
        "out": str(job.out),
    }


def _spelled(request: Request) -> str:
    spatial: Shape = request.shapes[0][2:]
    return spell(spatial)


def _loss_of(model: str, preset: str | None) -> str:
    """Return the `--loss` word of a built-in or preset; `ce` for every other network."""
    return models.default_loss(model, preset) if model in models.names() else "ce"


def _folder_name(model: str, preset: str | None) -> str:
    name = model.rpartition(":")[2].lower() if ":" in model else model
    return f"{name}-{preset}" if preset else name
