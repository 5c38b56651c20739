"""What `ranp prune` asks for, checked before anything takes long, carried out, and kept as a run."""

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from ranp import models, processes, runs
from ranp.cost import Step
from ranp.data import losses
from ranp.data.sources import Drawing, Opened
from ranp.errors import CheckFailed, UsageError, named
from ranp.figures import spell
from ranp.graph.build import trace
from ranp.inputs import check_device, generator_of
from ranp.jobs._source import opened
from ranp.jobs._step import refuse_step, step_of
from ranp.jobs._subject import refuse_known
from ranp.jobs._task import as_the_data, as_the_model, asks_values, loss_of, maxdisp_of
from ranp.jobs.options import Compare, Images, Prune, Scored, Source, Suggest
from ranp.models import folders
from ranp.models.constructors import Constructor
from ranp.models.init import initialise_
from ranp.models.outputs import output_shape
from ranp.models.request import Request, read_request
from ranp.models.weights import load_weights_
from ranp.models.words import recipe_of
from ranp.options import DATA_FREE, PATTERNS, Optimizing, Selection
from ranp.pipeline import Result, costs_of, prune, prune_again
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
        source: what the batches are drawn from.
        run: whose slim network this is, or None.
        full: its full network.
    """

    options: Scored
    request: Request
    network: nn.Module
    inputs: tuple[Tensor, ...] | dict[str, Tensor]
    batches: Iterable[Any] | None
    loss: losses.Loss
    loaded: str = ""
    source: Opened | None = None
    run: runs.Run | None = None
    full: nn.Module | None = None

    def head(self) -> dict[str, Any]:
        """Return what every report begins with."""
        return {
            "model": self.options.model,
            "preset": self.options.preset,
            "input": [list(shape[1:]) for shape in self.request.shapes],
            "batch": self.request.batch,
            **({"weights": self.loaded} if self.loaded else {}),
        }

    def step(self) -> Step | None:
        """Return the training step whose memory is limited, or None."""
        options = self.options
        assert isinstance(options, Prune | Suggest | Compare)
        if options.train_memory is None:
            return None
        assert options.loss is not None
        return step_of(options, options.loss, self.loss, self.network, self.inputs)[1]

    def scored_on(self) -> str:
        """Say in words what the scores come from."""
        options = self.options
        if self.batches is None or self.source is None:
            return "no data"
        size = options.patch or " ".join(options.input)
        return f"{self.source.said()} ({options.batches} batches of {options.batch_size}, {size})"


def prepare(options: Prune) -> Prepared:
    """Check everything that can be checked without work: options, output, network, weights, data.

    Raises:
        UsageError: the first mistake that was found.
        MissingExtra: a reader of the data is not installed.
    """
    again = folders.kind_of(options.model) is folders.PRUNED
    options = options.ruled(trained=again or options.weights is not None)
    options.check(options.method, options.seed)
    check_step(options)
    if options.strength is not None and options.reweight is None:
        raise UsageError(f"{named('strength', options.strength)}: needs {named('reweight')} flops, memory or latency")
    run, name = None, _folder_name(options.model, options.preset)
    if again:
        run = runs.read(options.model)
        options, name = _of_run(run, options), f"{run.path.name}-again"
    elif options.full is not None:
        of_use = f"only of use where MODEL is a run, and {options.model} is none"
        raise UsageError(f"{named('model', options.full)}: {of_use}")
    if options.draws > 1 and (options.init == "keep" or options.weights or options.rule == "random"):
        drawn = f"weights that are drawn, {named('init')} glorot or orthogonal, and scores"
        raise UsageError(f"{named('draws', options.draws)}: needs {drawn}")
    options = options.model_copy(update={"method": options.method or method_of(options, options)})
    out = options.out or Path("runs") / name
    runs.check_out(out, force=options.force)
    needs_batches = options.method not in DATA_FREE and options.rule != "random"
    trusted = run is None or options.full is not None
    options = options.model_copy(update={"out": out})
    return ready(
        options, options, needs_batches=needs_batches, trusted=trusted, trusted_loss=True, run=run,
    )  # fmt: skip


def check_step(options: Prune | Suggest | Compare) -> None:
    """Refuse options of a training step where no memory of one is limited.

    Raises:
        UsageError: the first that is given.
    """
    if options.train_memory is None:
        refuse_step(options, (*Optimizing.model_fields, "checkpoint"), named("train_memory"))


def _of_run(run: runs.Run, options: Prune) -> Prune:
    """Return the options that prune a run's slim network: its full one is built as the run says.

    Raises:
        UsageError: options that a run knows were given.
    """
    refuse_known(options, ("preset", "settings", "in_channels", "classes", "init", "outputs"), run.path)
    model = options.full or run.config.get("model")
    if not isinstance(model, str):
        raise UsageError(f"{run.path}: the run names no model: give it again ({named('model')})")
    sizes: dict[str, Any] = (
        {} if options.input or options.patch else {k: run.config[k] for k in ("input", "patch") if k in run.config}
    )
    if isinstance(sizes.get("input"), str):
        sizes["input"] = (sizes["input"],)
    return options.model_copy(
        update={
            "model": model, "preset": run.config.get("preset"), "settings": runs.settings_of(run.config),
            "init": "keep", "outputs": run.plan.outputs, "weights": options.weights or run.path / run.weights_file,
            **sizes,
        }
    )  # fmt: skip


def ready(
    options: Asked,
    selection: Selection,
    *,
    needs_batches: bool = True,
    trusted: bool = True,
    trusted_loss: bool = False,
    run: runs.Run | None = None,
) -> Prepared:
    """Return what options ask to work on: network, inputs, batches and loss; their output is not looked at.

    Args:
        options: of the network, the data and the scores.
        selection: what is chosen by.
        needs_batches: whether batches are drawn where none are of the user's own.
        trusted: whether the user named the network; False for what a run's files name.
        trusted_loss: whether the user named the loss where a run's files name the network.
        run: whose slim network is worked on; the options are those of its full one, and the weights the slim one's.

    Raises:
        UsageError: as `prepare`.
        MissingExtra: as `prepare`.
    """
    check_device(options.device)
    source = opened(options, trusted=trusted or run is not None)  # who names a run names the data
    options = as_the_data(as_the_model(options, source), source)
    own = ":" in options.model and recipe_of(options.model) is None
    if source.task is not None and options.in_channels is None and trusted and own:
        options = _with_channels_of(source, options)
    request, scored = _requests(options, trusted)
    options = _resolved(options, selection, request, scored)
    maxdisp = maxdisp_of(request.model, request.preset, request.settings)
    network = request.network(options.seed, trusted=trusted)
    request, scored = request.fitted(network), scored.fitted(network)
    full = None
    if run is not None:
        full, network = network, run.slim(network)
    given = output_shape(network, scored.inputs(device="meta"), options.outputs)
    word, loss = loss_of(
        options, request.model, request.preset, given, source, maxdisp, trusted=trusted or trusted_loss
    )
    if needs_batches:
        losses.check_channels(word, given[0] if given else 0)
    options = options.model_copy(update={"loss": word})
    loaded = "" if options.weights is None else load_weights_(network, options.weights)
    assert options.init is not None
    initialise_(network, options.init, generator_of(options.seed))
    batches = None
    if needs_batches or source.task is not None:  # files are read in any case, so that mistakes are found
        how = Drawing(
            options.batches, options.samples, options.seed, options.workers, maxdisp, scored.below,
            scored.names, scored.dtypes, asks_values(word, request.model, request.preset),
        )  # fmt: skip
        batches = source.batches([shape[1:] for shape in scored.shapes], given, how)
    return Prepared(options, request, network, request.inputs(options.seed), batches, loss, loaded, source, run, full)


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
    asked: dict[str, Any] = {
        "batches": batches, "loss": prepared.loss, "method": options.method, "reduce": options.reduce,
        "freeze": options.freeze, "dead_norms": options.dead_norms,
        "zero_conv_biases": options.init in ("glorot", "orthogonal"), "device": options.device, "seed": options.seed,
        "verify_input": options.verify_input, "step": prepared.step(), "watch": watch,
        "progress": track or False, **options.only(Selection),
    }  # fmt: skip
    constructor = None
    if prepared.run is None:
        redrawn, request = _redrawn(prepared, options), prepared.request
        constructor = Constructor.of(request.model, request.settings) if options.tie else None
        ties = constructor.ties() if constructor else ()
        result = prune(prepared.network, prepared.inputs, outputs=options.outputs, redrawn=redrawn, ties=ties, **asked)
    else:
        assert prepared.full is not None
        result = prune_again(prepared.full, prepared.run.plan, prepared.network, prepared.inputs, **asked)
    head = {**prepared.head(), "scored_on": prepared.scored_on(), "out": str(options.out)}
    values = result.report.to_dict()
    if constructor is not None:
        values["notes"] = [*values["notes"], _said_by(constructor, result.slim)]
    if options.rule != "random":
        values["notes"] = [*values["notes"], *generated(options)]
    return replace(result, report=Report(**head, **values))


def _said_by(constructor: Constructor, slim: nn.Module) -> str:
    """Return a note with the call that makes a slim network, or why there is none."""
    try:
        return f"the same network without ranp: {constructor.spelled(constructor.narrowed(slim))}"
    except CheckFailed as error:  # MONAI leaves out a projection where two widths are equal
        return f"{error}; another sparsity or limit gives other widths"


def generated(options: Scored) -> list[str]:
    """Return a note where scores are taken on data that is made up."""
    if options.method in DATA_FREE or options.images or options.data not in (None, "phantom", "noise"):
        return []
    return ["scores are of generated data, which knows nothing of yours: --data names what they should be taken on"]


def _redrawn(prepared: Prepared, options: Prune) -> Iterator[nn.Module]:
    """Yield the network with the weights of further seeds."""
    assert options.init is not None
    for draw in range(1, options.draws):
        other = copy.deepcopy(prepared.network)
        initialise_(other, options.init, generator_of(options.seed + draw))
        yield other


def keep(prepared: Prepared, result: Result) -> Report:
    """Write the run folder and return the report as it stands there; of several processes the first alone writes.

    Raises:
        UsageError: the folder exists or can't be written.
    """
    options = prepared.options
    assert isinstance(options, Prune)
    assert options.out is not None
    processes.gather(None)  # all have looked at the folder before the first writes it
    if not processes.is_first():
        return result.report
    runs.save(options.out, result.slim, result.plan, result.report, options.to_config(), force=options.force)
    return runs.read(options.out).report


def _requests(options: Scored, trusted: bool) -> tuple[Request, Request]:
    """Return the network with the inputs its costs are counted at, and with those it is scored on."""
    size, option = (options.input or options.patch), "input" if options.input else "patch"
    request = read_request(
        options.model, preset=options.preset, settings=options.settings, in_channels=options.in_channels,
        classes=options.classes, size=size, batch=options.batch_size, size_option=option, batch_option="batch_size",
        trusted=trusted,
    )  # fmt: skip
    return request, request.sized(options.patch, "patch") if options.input and options.patch else request


def _with_channels_of(source: Opened, options: Asked) -> Asked:
    """Return the options with the channels of the data's images, where those are what an own network takes.

    Where it does not run on them, its factory and its first convolution say what it takes, and the images are refused.
    """
    if len(source.channels()) != 1:
        return options
    asked = options.model_copy(update={"in_channels": source.channels()[0]})
    with suppress(UsageError):  # also of inputs that are said in full, with their channels
        request, scored = _requests(asked, trusted=True)
        network = request.network(options.seed)
        output_shape(network, scored.fitted(network).inputs(device="meta"), options.outputs)
        return asked
    return options


def _resolved(options: Asked, selection: Selection, request: Request, scored: Request) -> Asked:
    """Return the same options with every choice made that was left open."""
    published = models.preset(options.model, options.preset) if options.preset else None
    strength = getattr(options, "strength", None)
    drawn = request.built_in and not options.weights
    update: dict[str, Any] = {
        "model": request.model,
        "settings": dict(request.settings),
        "input": options.input if request.kinds else (spell(request.shapes[0][2:]),),
        "patch": options.patch if request.kinds else spell(scored.shapes[0][2:]),
        "method": options.method or method_of(options, selection),
        "strength": published.strength if published and selection.reweight and strength is None else strength,
        "init": options.init or ("glorot" if drawn else "keep"),
    }
    return options.model_copy(update=update)


def method_of(options: Source, selection: Selection) -> str:
    """Return what scores by where nothing says so: patterns without data take the magnitude of weights."""
    without = options.data is None and not (isinstance(options, Images) and options.images)
    patterned = selection.rule in PATTERNS and without
    return "snip" if selection.rule == "snip" else "l1" if patterned else "mpmg"


def _folder_name(model: str, preset: str | None) -> str:
    name = model.rpartition(":")[2].lower() if ":" in model else model
    return f"{name}-{preset}" if preset else name
