"""What `ranp prune` asks for, checked before anything takes long, carried out, and kept as a run."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from ranp import models, runs
from ranp.data import losses
from ranp.data.choice import check_files, choose_source, output_shape
from ranp.data.volumes import channels_and_classes
from ranp.errors import UsageError, named
from ranp.figures import spell
from ranp.graph.build import trace
from ranp.inputs import check_device, generator_of, only_outputs
from ranp.jobs.options import Prune, Scored
from ranp.models import folders
from ranp.models.init import initialise_
from ranp.models.request import Request, read_request
from ranp.models.weights import load_weights_
from ranp.options import Selection
from ranp.pipeline import Result, costs_of, prune
from ranp.reports import Report, Trial
from ranp.selection import select

Track = Callable[[Iterable[Any]], Iterable[Any]]
Asked = TypeVar("Asked", bound=Scored)
STEPS = ("trace", "score", "select", "slim", "verify")


@dataclass(frozen=True)
class Prepared:
    """Options that are known to be good, and what they ask to work on.

    Args:
        options: with every choice made that was left open.
        request: the network, and the shapes its costs are counted at.
        network: initialised, or with the weights that were given.
        inputs: of these shapes.
        batches: to score it on; None where nothing needs them.
        loss: of (outputs, target).
        loaded: what was found in the checkpoint, in a line; "" without one.
    """

    options: Scored
    request: Request
    network: nn.Module
    inputs: tuple[Tensor, ...]
    batches: Iterable[Any] | None
    loss: losses.Loss
    loaded: str = ""

    def head(self) -> dict[str, Any]:
        """Return what every report begins with."""
        return {
            "model": self.options.model,
            "preset": self.options.preset,
            "input": [list(shape[1:]) for shape in self.request.shapes],
            "batch": self.request.batch,
            **({"weights": self.loaded} if self.loaded else {}),
        }

    def scored_on(self) -> str:
        """Say in words what the scores come from."""
        options = self.options
        if self.batches is None:
            return "no data"
        size = f"{options.batches} batches of {options.batch_size}, {options.patch}"
        if options.data == "phantom":
            return f"phantoms, which are generated, not your data ({size})"
        return f"{len(options.images)} NIfTI image{'s'[: len(options.images) != 1]} ({size})"


def prepare(options: Prune) -> Prepared:
    """Check everything that can be checked without work: options, output, network, weights, data.

    Raises:
        UsageError: the first mistake that was found.
        MissingExtra: a reader of the data is not installed.
    """
    options.check(options.method, options.seed)
    if options.strength is not None and options.reweight is None:
        raise UsageError(f"{named('strength', options.strength)}: needs {named('reweight')} flops or memory")
    if folders.kind_of(options.model) is folders.PRUNED:
        raise UsageError(
            f"{named('MODEL', options.model)}: is a run folder; a run is pruned from its full network, by its "
            f"{named('config')}"
        )
    out = options.out or Path("runs") / _folder_name(options.model, options.preset)
    runs.check_out(out, force=options.force)
    needs_batches = options.method != "l1" and options.rule != "random"
    return ready(options.model_copy(update={"out": out}), options, needs_batches=needs_batches)


def ready(options: Asked, selection: Selection, *, needs_batches: bool = True, trusted: bool = True) -> Prepared:
    """Return what options ask to work on: network, inputs, batches and loss; their output is not looked at.

    Args:
        options: of the network, the data and the scores.
        selection: what is chosen by.
        needs_batches: whether phantoms are drawn; a user's files are read in any case, so that mistakes are found.
        trusted: whether the user named the network; False for what a run's files name.

    Raises:
        UsageError: as `prepare`.
        MissingExtra: as `prepare`.
    """
    check_device(options.device)
    check_files(options.data, options.images, options.labels)
    if options.images and options.in_channels is None and trusted and ":" in options.model:
        options = _with_channels_of_images(options)
    request, scored = _requests(options, trusted)
    options = _resolved(options, selection, request, scored)
    known = models.full_settings(request.model, request.preset, request.settings) if request.built_in else {}
    maxdisp = int({**known, **options.settings}.get("maxdisp", 192))
    network = request.network(options.seed, trusted=trusted)
    given = output_shape(network, scored.shapes, options.outputs)
    word = options.loss or losses.for_channels(_loss_of(request.model, request.preset), _channels(given))
    if needs_batches:
        losses.check_channels(word, _channels(given))
    options = options.model_copy(update={"loss": word})
    loss = only_outputs(losses.get(word, **({"maxdisp": maxdisp} if word == "stereo" else {})), options.outputs)
    loaded = "" if options.weights is None else load_weights_(network, options.weights)
    assert options.init is not None
    initialise_(network, options.init, generator_of(options.seed))
    batches = None
    if needs_batches or options.data != "phantom" or options.images or options.labels:
        batches = choose_source(
            options.data, [shape[1:] for shape in scored.shapes], given,
            images=options.images, labels=options.labels, classes=options.classes, batches=options.batches,
            batch_size=options.batch_size, seed=options.seed, maxdisp=maxdisp,
        )  # fmt: skip
    return Prepared(options, request, network, request.inputs(options.seed), batches, loss, loaded)


def plan_only(prepared: Prepared, watch: Callable[[str], None] | None = None) -> Trial:
    """Return what a dry run can say: the full network's costs, what is frozen, and where the run would go."""
    if watch:
        watch("trace")
    options = prepared.options
    graph = trace(prepared.network, prepared.inputs, freeze=options.freeze, outputs=options.outputs)
    whole = select(graph, None, rule="random", sparsity=0.0)
    config = options.to_config()
    return Trial(
        **prepared.head(), out=config.get("out"), dry_run=True, full=costs_of(graph, whole)["standard"].full,
        units=whole.units(), config=config, scored_on=prepared.scored_on(),
    )  # fmt: skip


def carry_out(prepared: Prepared, *, watch: Callable[[str], None] | None = None, track: Track | None = None) -> Result:
    """Prune, and return the result; its report says what was worked on, and nothing is written.

    Args:
        prepared: by `prepare`.
        watch: called with the name of each step as it begins.
        track: wraps the iteration over the batches.

    Raises:
        RanpError: as `ranp.prune`.
    """
    options, batches = prepared.options, prepared.batches
    assert isinstance(options, Prune)
    assert options.method is not None
    result = prune(
        prepared.network, prepared.inputs, batches=batches,
        loss=prepared.loss, method=options.method, reduce=options.reduce, freeze=options.freeze,
        outputs=options.outputs,
        dead_norms=options.dead_norms,
        zero_conv_biases=options.init in ("glorot", "orthogonal"), device=options.device, seed=options.seed,
        verify_input=options.verify_input, watch=watch, progress=track or False, **options.only(Selection),
    )  # fmt: skip
    head = {**prepared.head(), "scored_on": prepared.scored_on(), "out": str(options.out)}
    return replace(result, report=Report(**head, **result.report.to_dict()))


def keep(prepared: Prepared, result: Result) -> Report:
    """Write the run folder and return the report as it stands there.

    Raises:
        UsageError: the folder exists or can't be written.
    """
    options = prepared.options
    assert isinstance(options, Prune)
    assert options.out is not None
    runs.save(options.out, result.slim, result.plan, result.report, options.to_config(), force=options.force)
    return runs.read(options.out).report


def _requests(options: Scored, trusted: bool) -> tuple[Request, Request]:
    """Return the network with the inputs its costs are counted at, and with those it is scored on."""
    size, option = (options.input, "input") if options.input else (options.patch, "patch")
    request = read_request(
        options.model, preset=options.preset, settings=options.settings, in_channels=options.in_channels,
        classes=options.classes, size=size, batch=options.batch_size, size_option=option, batch_option="batch_size",
        trusted=trusted,
    )  # fmt: skip
    return request, request.sized(options.patch, "patch") if options.input and options.patch else request


def _with_channels_of_images(options: Asked) -> Asked:
    """Return the options with the channels of the images, where those are what an own network takes.

    Where it does not run on them, its factory and its first convolution say what it takes, and the images are refused.
    """
    channels = channels_and_classes(options.images, options.labels)[0]
    found = options.model_copy(update={"in_channels": channels})
    request, scored = _requests(found, trusted=True)
    with suppress(UsageError):
        output_shape(request.network(options.seed), scored.shapes, options.outputs)
        return found
    return options


def _resolved(options: Asked, selection: Selection, request: Request, scored: Request) -> Asked:
    """Return the same options with every choice made that was left open."""
    published = models.preset(options.model, options.preset) if options.preset else None
    strength = getattr(options, "strength", None)
    drawn = request.built_in and not options.weights
    update: dict[str, Any] = {
        "model": request.model,
        "settings": dict(request.settings),
        "input": spell(request.shapes[0][2:]),
        "patch": spell(scored.shapes[0][2:]),
        "method": options.method or ("snip" if selection.rule == "snip" else "mpmg"),
        "strength": published.strength if published and selection.reweight and strength is None else strength,
        "init": options.init or ("glorot" if drawn else "keep"),
    }
    return options.model_copy(update=update)


def _loss_of(model: str, preset: str | None) -> str:
    """Return the `--loss` word of a built-in or preset; `ce` for every other network."""
    return models.default_loss(model, preset) if model in models.names() else "ce"


def _channels(output: tuple[int, ...]) -> int:
    """Return how many scores an output has for each voxel or sample; 0 where it has no dimension for them."""
    return output[0] if output else 0


def _folder_name(model: str, preset: str | None) -> str:
    name = model.rpartition(":")[2].lower() if ":" in model else model
    return f"{name}-{preset}" if preset else name
