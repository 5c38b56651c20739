"""What `ranp train` asks for, checked before anything takes long, carried out, and kept as a run.

A network that was not pruned is trained as a run whose plan keeps everything, so that all that takes runs takes it.
"""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from ranp import data as batched
from ranp import processes, runs
from ranp.data import losses
from ranp.data.dataset import TRAINING, VALIDATION
from ranp.data.sources import Drawing, FromFiles, FromLoader, FromNumbers, Opened
from ranp.errors import CheckFailed, InfeasibleError, UsageError, listed, named, need
from ranp.figures import spell
from ranp.inputs import Shape, check_device, flatten, generator_of
from ranp.jobs import _kept as kept
from ranp.jobs._judging import as_learned, as_read
from ranp.jobs._source import folded, opened
from ranp.jobs._subject import names_run, refuse_full, refuse_known
from ranp.jobs._task import as_the_data, as_the_model, loss_of, maxdisp_of
from ranp.jobs.options import Train
from ranp.jobs.prepared import Prepared, Validation
from ranp.jobs.prune import method_of
from ranp.models.init import initialise_
from ranp.models.outputs import output_shape
from ranp.models.request import read_request, read_size
from ranp.models.weights import load_weights_
from ranp.modules import copy_with, tensors_of
from ranp.options import DATA_FREE, Selection, Training
from ranp.pipeline import Standing, check_rounds, prune_round, standing_of
from ranp.surgery import slim
from ranp.training import Distillation, Evaluation, Events, Keep, Moment, Trained, check_asked, resolved, train_

Watch = Callable[[Moment | str], None]
_OF_A_RUN = ("preset", "settings", "in_channels", "classes", "init")  # what a run knows itself
_SAMPLES = 8  # generated batches that are validated on


def prepare(options: Train) -> Prepared:
    """Check everything that can be checked without work: options, output, network, weights, data.

    Raises:
        UsageError: the first mistake that was found.
        MissingExtra: a reader of the data is not installed.
    """
    if not _goes_on(options):
        runs.check_out(options.out, force=options.force)
    options = _check_rounds(options)
    if options.tensorboard is not None:
        need("tensorboard", "tensorboard")
    prepared = ready(options)
    processes.share_of(prepared.options.samples)
    return prepared


def ready(options: Train, build: Callable[[Opened], tuple[nn.Module, tuple[Shape, ...]]] | None = None) -> Prepared:
    """Return what options ask to train, and on what; their output is not looked at.

    Args:
        options: without those of the run; where there is `build`, without those of the network.
        build: from the data to what is trained, and the shapes of its inputs, (C, *spatial).

    Raises:
        UsageError: as `prepare`.
        MissingExtra: as `prepare`.
    """
    check_device(options.device)
    training = resolved(Training.read(options.only(Training)))
    if (training.steps is None) == (training.epochs is None):
        raise UsageError(f"give either {named('steps')} or {named('epochs')}")
    source = opened(options)
    if build is None and names_run(options.model):
        options = as_read(options, runs.read(options.model), source)
    options = as_the_model(options, source)
    base: runs.Run | None = None
    config: dict[str, Any] = {}
    if build is not None:
        network, shapes = build(source)
    elif names_run(options.model):
        base, network, shapes, config = _of_run(options)
        options = options.model_copy(update={"outputs": options.outputs or base.plan.outputs})
    else:
        options = as_the_data(options, source)
        network, shapes, config = of_model(options)
    inputs = tuple(torch.empty(1, *shape, device="meta") for shape in shapes)
    given = output_shape(network, inputs, options.outputs)
    maxdisp = maxdisp_of(str(config.get("model")), config.get("preset"), runs.settings_of(config))
    word, loss = loss_of(
        options, str(config.get("model")), config.get("preset"), given, source, maxdisp, trusted=True, training=True
    )
    losses.check_channels(word, given[0] if given else 0)
    source, validation, split = _split(options, source)
    per_epoch = _per_epoch(source, options, training)
    steps = training.steps or _epochs(training, per_epoch)
    learned = source.learned(given[0] if given else 0) if isinstance(source, FromFiles) else {}
    if isinstance(validation, FromFiles) and validation is not source:
        validation.dataset = as_learned(validation.dataset, learned)  # scaled as what is trained on
    how = Drawing(
        steps * training.accumulate * (options.rounds or 1), options.samples, options.seed, options.workers,
        maxdisp, training=True, hold=options.hold, augment=options.augment,
    )  # fmt: skip
    batches = source.batches(shapes, given, how)
    measured = None
    if validation is not None:
        drawn = Drawing(_SAMPLES, options.samples, options.seed, 0, maxdisp)
        said = Evaluation(network, validation, inputs, drawn, split, options.outputs).said()  # refuses an empty set now
        measured = Validation(validation, inputs, drawn, split, options.outputs, options.device, said)
    unseen = source.never(given[0]) if isinstance(source, FromFiles) and given else ()
    if unseen and processes.is_first():
        said = f"no training case has {listed(unseen, 'and')}, which the network can't learn"
        warnings.warn(f"{named('data', source.word)}: {said}", stacklevel=2)
    teaching = _teaching(options, source, config, word, given, shapes, maxdisp)
    rounds = None if options.rounds is None else _pruning(options, source, shapes, given, loss, maxdisp)
    options = options.model_copy(update={"loss": word, "patch": spell(shapes[0][1:]), "data": source.word})
    training = training.model_copy(update={"steps": steps, "epochs": None})
    return Prepared(
        options,
        network,
        shapes,
        base,
        config,
        loss,
        batches,
        measured,
        training,
        per_epoch,
        source,
        how,
        given,
        source.said(),
        learned,
        teaching,
        rounds,
        unseen,
    )


def _check_rounds(options: Train) -> Train:
    """Return the options with the method that scores, where rounds are asked for.

    Raises:
        UsageError: options of rounds without any, or that do not go together.
    """
    if options.rounds is None:
        for name in kept.ROUNDS:
            value = getattr(options, name)
            if value != type(options).model_fields[name].get_default():
                first = value[0] if isinstance(value, tuple) else value
                raise UsageError(f"{named(name, first)}: needs {named('rounds')}")
        return options
    check_rounds(options.rounds, options.sparsity_schedule, options.only(Selection))
    options = options.ruled(trained=True)
    options = options.model_copy(update={"method": options.method or method_of(options, options)})
    options.check(options.method, options.seed)
    return options


def _pruning(
    options: Train, source: Opened, shapes: tuple[Shape, ...], given: Shape, loss: losses.Loss, maxdisp: int
) -> dict[str, Any]:
    """Return the options of `prune_round` that are the same in every round."""
    batches = None
    if options.method not in DATA_FREE and options.rule != "random":
        how = Drawing(options.batches, options.samples, options.seed, options.workers, maxdisp)
        batches = source.batches(shapes, given, how)
    return {
        "schedule": options.sparsity_schedule, "batches": batches, "loss": loss, "method": options.method,
        "reduce": options.reduce, "dead_norms": options.dead_norms, "freeze": options.freeze, "device": options.device,
        "seed": options.seed, "verify_input": options.verify_input, **options.only(Selection),
    }  # fmt: skip


def carry_out(prepared: Prepared, watch: Watch | None = None) -> dict[str, Any]:
    """Train, in turn with pruning where rounds are asked for, and keep the result as a run.

    What is stopped goes on with --resume. Of several processes the first alone reads and writes the run.

    Args:
        prepared: by `prepare`.
        watch: called after every step with where the training stands, and with a line before each pruning.

    Returns:
        `out`, and what `runs.TRAINING` holds but for curves.

    Raises:
        UsageError: the folder can't be written, or the training in it was asked for otherwise.
        InfeasibleError: a round can't reach its goal.
        CheckFailed: the loss is not a number.
    """
    if prepared.options.tensorboard is not None and processes.is_first():
        with Events(prepared.options.tensorboard) as events:
            return _carried_out(prepared, lambda moment: _tell(moment, events, watch))
    return _carried_out(prepared, watch)


def _tell(moment: Moment | str, events: Events, watch: Watch | None) -> None:
    if isinstance(moment, Moment):
        events(moment)
    if watch is not None:
        watch(moment)


def _carried_out(prepared: Prepared, watch: Watch | None) -> dict[str, Any]:
    out = prepared.options.out
    processes.gather(None)  # all have looked at the folder before the first writes it
    base = processes.from_first(lambda: runs.read(out) if _goes_on(prepared.options) else None)
    told = processes.from_first(lambda: {} if base is None else base.training)
    if told and ("round" in told) != (prepared.rounds is not None):
        other = "prunes in rounds" if "round" in told else "does not prune"
        raise UsageError(f"{named('rounds', prepared.options.rounds)}: the training in {out} {other}")
    if told.get("done"):  # it was stopped after its last step
        said = told
    elif prepared.rounds is not None:
        said = _in_rounds(prepared, base, told, watch)
    else:
        base = base or processes.from_first(lambda: kept.begun(prepared))
        network = _network(prepared, base)
        trained = _trained(prepared, network, kept.asked(prepared), watch)
        said = processes.from_first(lambda: kept.trained(prepared, trained, network))
    return {"out": str(out), **kept.without_curves(said)}


def _in_rounds(prepared: Prepared, base: runs.Run | None, told: dict[str, Any], watch: Watch | None) -> dict[str, Any]:
    """Prune and train in turn from where the folder stands; return what `runs.TRAINING` says in the end."""
    options, full, asked = prepared.options, _full(prepared), kept.asked(prepared)
    if base is not None:
        check_asked(asked, told["asked"], options.out)
        plan, network = base.plan, _network(prepared, base)
    elif prepared.base is not None:
        plan, network = prepared.base.plan, prepared.network
    else:
        whole = kept.untouched(prepared)
        plan, network = whole.plan, whole.slim
    inputs, count = plan.example_inputs(), options.rounds or 1
    begun = Standing(**told["begun"]) if told else standing_of(full, plan, inputs)[0]
    for number in range(len(told.get("rounds", ())) + 1, count + 1):
        state = {"asked": asked, "begun": asdict(begun), "round": number, "rounds": told.get("rounds", [])}
        if told.get("round", 0) < number:
            if watch is not None:
                watch(f"prune, round {number} of {count}")
            try:
                result = prune_round(
                    full, plan, network, inputs, number=number, rounds=count, begun=begun,
                    zero_conv_biases=number == 1 and _drawn(prepared),
                    **(prepared.rounds or {}),
                )  # fmt: skip
            except InfeasibleError as error:
                left = f"; {options.out} holds the network of the round before" if number > 1 else ""
                raise InfeasibleError(f"round {number} of {count}: {error}{left}", error.closest) from error
            processes.from_first(partial(kept.pruned, prepared, result, state))
            plan, network = result.plan, result.slim
        part = f"round {number} of {count}"
        trained = _trained(prepared, network, {**asked, "round": number}, watch, part, number)
        told = processes.from_first(
            partial(kept.trained, prepared, trained, network, {**state, "done": number == count})
        )
        if number < count:
            network = _network(prepared, processes.from_first(partial(runs.read, options.out)))
    return told


def _trained(
    prepared: Prepared,
    network: nn.Module,
    asked: Mapping[str, Any],
    watch: Watch | None,
    part: str = "",
    number: int = 1,
) -> Trained:
    """Train a network; of several rounds each goes on with the batches after those of the round before."""
    options = prepared.options
    keep = Keep(options.out / runs.STATE, options.save_every, options.resume, asked)
    batches, before = prepared.batches, (number - 1) * (prepared.training.steps or 1)
    if before and isinstance(batches, batched.Source):
        batches = _Later(batches, before * prepared.training.accumulate)
    try:
        return train_(
            network, batches, prepared.loss, prepared.training, per_epoch=prepared.per_epoch,
            validate=prepared.validation, validate_every=options.val_every, keep=keep, teaching=prepared.teaching,
            device=options.device, seed=options.seed,
            watch=None if watch is None else lambda moment: watch(replace(moment, part=part, before=before)),
        )  # fmt: skip
    except CheckFailed as error:
        kept_state = f"{keep.path} keeps the state before" if keep.path.exists() else "nothing was kept before"
        raise CheckFailed(f"{error}; {kept_state}: a smaller {named('lr')}, or {named('clip')}, may help") from error


@dataclass(frozen=True)
class _Later:
    """The batches of a source from one on."""

    source: batched.Source
    first: int

    def since(self, number: int) -> Iterator[Any]:
        """Go on from a batch, counted from the first."""
        return self.source.since(self.first + number)

    def __iter__(self) -> Iterator[Any]:
        return self.since(0)


def _full(prepared: Prepared) -> nn.Module:
    """Return the full network, for its architecture."""
    return prepared.network if prepared.base is None else prepared.base.full(prepared.options.full)


def _network(prepared: Prepared, base: runs.Run) -> nn.Module:
    """Return the network of the run in the folder, whose weights the first process alone reads."""
    full = _full(prepared)
    own = base.slim(full) if processes.is_first() else None
    weights = processes.from_first(lambda: {} if own is None else tensors_of(own))
    if own is not None:
        return own
    return copy_with(slim(full, base.plan), lambda name, tensor: weights.get(name, tensor), private=False)


def _drawn(prepared: Prepared) -> bool:
    """Whether the weights that are begun with are drawn, and not trained."""
    return prepared.base is None and prepared.config["init"] in ("glorot", "orthogonal")


def _goes_on(options: Train) -> bool:
    return options.resume and (options.out / runs.TRAINING).is_file()


def plan_only(prepared: Prepared) -> dict[str, Any]:
    """Return what a dry run can say; nothing is trained or written."""
    rounds = {"rounds": prepared.options.rounds} if prepared.rounds is not None else {}
    told = {"dry_run": True, "steps": prepared.training.steps, **rounds, **kept.what(prepared)}
    return {"out": str(prepared.options.out), **told}


def _of_run(options: Train) -> tuple[runs.Run, nn.Module, tuple[Shape, ...], dict[str, Any]]:
    """Return a run, its slim network, the shapes of its inputs and its config."""
    refuse_known(options, _OF_A_RUN, options.model)
    if options.weights is not None:
        raise UsageError(f"{named('weights', options.weights)}: put them into the run first, by `ranp adopt`")
    run = runs.read(options.model)
    network = run.slim(options.full)
    sizes = [tuple(tensor.shape[1:]) for tensor in flatten(run.plan.example_inputs())]
    if options.patch:
        sizes = [
            (*size[:1], *read_size(options.patch, len(size) - 1, "patch")) if len(size) > 1 else size for size in sizes
        ]
    return run, network, tuple(sizes), dict(run.config)


def of_model(options: Train) -> tuple[nn.Module, tuple[Shape, ...], dict[str, Any]]:
    """Return a network that is built, the shapes of its inputs and the config of the run to be."""
    refuse_full(options.full, options.model)
    request = read_request(
        options.model, preset=options.preset, settings=options.settings, in_channels=options.in_channels,
        classes=options.classes, size=options.patch, batch=options.batch_size, size_option="patch",
        batch_option="batch_size", trusted=True,
    )  # fmt: skip
    network = request.network(options.seed, trusted=True)
    request = request.fitted(network)
    if options.weights is not None:
        load_weights_(network, options.weights)
    init = options.init or ("glorot" if request.built_in and not options.weights else "keep")
    initialise_(network, init, generator_of(options.seed))
    config: dict[str, Any] = {
        "model": request.model, "preset": request.preset, "settings": dict(request.settings), "init": init,
        "input": spell(request.shapes[0][2:]), "seed": options.seed,
        "weights": None if options.weights is None else str(options.weights),
    }  # fmt: skip
    shapes = tuple(shape[1:] for shape in request.shapes)
    return network, shapes, {key: value for key, value in config.items() if value is not None}


def _teaching(
    options: Train, source: Opened, config: Mapping[str, Any], word: str, given: Shape, shapes: tuple[Shape, ...],
    maxdisp: int,
) -> Distillation | None:  # fmt: skip
    """Return the teacher that options name, with its weights; the full network of a run is built as the run says.

    Raises:
        UsageError: it has no weights, does not load them, or gives another output than the network.
    """
    if options.teacher is None:
        if options.teacher_weights is not None:
            raise UsageError(f"{named('teacher_weights', options.teacher_weights)}: needs {named('teacher')}")
        return None
    said = named("teacher", options.teacher)
    update: dict[str, Any] = {
        "model": options.teacher,
        "weights": options.teacher_weights,
        "init": "keep",
        "full": None,
    }
    if options.teacher == config.get("model"):
        update |= {"settings": runs.settings_of(config), "preset": config.get("preset")}
    asked = options.model_copy(update=update)
    if names_run(options.teacher):
        teacher = runs.read(options.teacher).slim_with(options.teacher_weights, None)[0]
    elif options.teacher_weights is None:
        raise UsageError(f"{said}: has learned nothing; give {named('teacher_weights')}, or a run that was trained")
    else:
        teacher = of_model(as_the_data(asked, source))[0]
    gives = output_shape(teacher, tuple(torch.empty(1, *shape, device="meta") for shape in shapes), options.outputs)
    if gives != given:
        raise UsageError(f"{said}: gives {spell(gives)}; expected {spell(given)}, as the network that learns")
    sigmoid = source.task == "regions" or word in ("bce", "bce-dice") or given[0] == 1
    values = source.task == "stereo" or word in ("stereo", "mse", "l1")
    term = "values" if values else "sigmoid" if sigmoid else "softmax"
    limit = maxdisp if word == "stereo" else math.inf
    strength, temperature = options.teacher_strength, options.temperature
    return Distillation(teacher, term, strength, temperature, options.outputs, limit)


def _split(options: Train, source: Opened) -> tuple[Opened, Opened | None, str | None]:
    """Return what is trained on, what is validated on, and which split of that."""
    if options.val is not None and options.fold is not None:
        raise UsageError(
            f"{named('val', options.val)}: {named('fold', options.fold)} validates on cases of {named('data')}"
        )
    if options.val is not None:
        try:
            return source, opened(options.model_copy(update={"data": options.val, "images": (), "labels": ()})), None
        except UsageError as error:
            message = str(error).replace(named("data", options.val), named("val", options.val))
            raise UsageError(message) from None
    if isinstance(source, FromFiles):
        if options.fold is not None:
            source = folded(source, options.fold)
        return source, source if source.dataset.of(VALIDATION) else None, VALIDATION
    if options.fold is not None:
        raise UsageError(f"{named('fold', options.fold)}: needs cases on the disk, not {source.word}")
    return source, source if isinstance(source, FromNumbers) else None, None


def _per_epoch(source: Opened, options: Train, training: Training) -> float | None:
    """Return how many steps pass over the training cases once; None where there is no such thing."""
    if isinstance(source, FromLoader):
        count = source.count()
        return None if count is None else count / training.accumulate
    if not isinstance(source, FromFiles):
        return None
    return len(source.dataset.of(TRAINING)) / (options.samples * training.accumulate)


def _epochs(training: Training, per_epoch: float | None) -> int:
    assert training.epochs is not None
    if per_epoch is None:
        said = "the data do not say how many they are"
        raise UsageError(f"{named('epochs', training.epochs)}: {said}; give {named('steps')}")
    return max(1, math.ceil(training.epochs * per_epoch))
