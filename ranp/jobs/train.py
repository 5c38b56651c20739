"""What `ranp train` asks for, checked before anything takes long, carried out, and kept as a run.

A network that was not pruned is trained as a run whose plan keeps everything, so that all that takes runs takes it.
"""

import csv
import io
import json
import math
import resource
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ranp import processes, runs
from ranp.data import losses
from ranp.data.dataset import TRAINING, VALIDATION
from ranp.data.sources import Drawing, FromFiles, FromNumbers, Opened
from ranp.errors import CheckFailed, UsageError, named
from ranp.figures import spell
from ranp.inputs import Shape, check_device, flatten, generator_of
from ranp.jobs._source import folded, opened
from ranp.jobs._subject import names_run, refuse_full, refuse_known
from ranp.jobs._task import as_the_data, loss_of, maxdisp_of
from ranp.jobs.options import BatchSize, Cut, Files, Labelled, Patch, Source, Taught, Train
from ranp.models.init import initialise_
from ranp.models.outputs import output_shape
from ranp.models.request import read_request, read_size
from ranp.models.weights import load_weights_
from ranp.options import Training
from ranp.pipeline import prune
from ranp.reports import Report
from ranp.training import Distillation, Evaluation, History, Keep, Moment, Scores, evaluate, resolved, train_

_OF_A_RUN = ("preset", "settings", "in_channels", "classes", "init")  # what a run knows itself
_SAMPLES = 8  # generated batches that are validated on


@dataclass(frozen=True)
class Prepared:
    """A training whose options are known to be good.

    Args:
        options: with every choice made that was left open.
        network: with the weights that are begun with.
        shapes: of its inputs, (C, *spatial).
        base: the run it comes from, or None.
        config: of the run to be.
        loss: of (outputs, target).
        batches: to train on.
        validation: what it is measured on, or None.
        training: resolved options.
        per_epoch: steps in an epoch, None where there are none.
        trained_on: what the batches are drawn from, in words.
        learned: what the network has to know of its data, for `ranp predict`.
        teaching: the teacher, or None.
    """

    options: Train
    network: nn.Module
    shapes: tuple[Shape, ...]
    base: runs.Run | None
    config: dict[str, Any]
    loss: losses.Loss
    batches: Iterable[Any]
    validation: "Validation | None"
    training: Training
    per_epoch: float | None
    trained_on: str
    learned: dict[str, Any] = field(default_factory=dict)
    teaching: Distillation | None = None


@dataclass
class Validation:
    """Cases that a training is measured on, while it goes on.

    Args:
        source: of the cases.
        inputs: example inputs of the network.
        how: generated batches are drawn.
        split: of the cases.
        outputs: places of the outputs that count.
        device: where the network runs.
        said: what the cases are, in words.
        never: names of the classes that the latest measuring met neither in a truth nor in a prediction.
    """

    source: Opened
    inputs: tuple[Tensor, ...]
    how: Drawing
    split: str | None
    outputs: tuple[int, ...]
    device: str
    said: str
    never: tuple[str, ...] = ()

    def __call__(self, network: nn.Module) -> dict[str, float]:
        """Measure a network; what can't be measured is left out."""
        scores = self.scores(network)
        self.never = scores.never
        figures = {"score": scores.score, **scores.figures()}
        return {name: value for name, value in figures.items() if value == value}

    def scores(self, network: nn.Module) -> Scores:
        """Measure a network, without its surfaces, which takes long."""
        return evaluate(
            network, self.source, self.inputs, how=self.how, split=self.split, outputs=self.outputs, device=self.device,
            surfaces=False,
        )  # fmt: skip


def prepare(options: Train) -> Prepared:
    """Check everything that can be checked without work: options, output, network, weights, data.

    Raises:
        UsageError: the first mistake that was found.
        MissingExtra: a reader of the data is not installed.
    """
    training = _training(options)
    if not (options.resume and options.out.exists()):
        runs.check_out(options.out, force=options.force)
    return _prepared(options, training, opened(options))


def prepare_own(options: Train, build: Callable[[Opened], tuple[nn.Module, tuple[Shape, ...]]]) -> Prepared:
    """Check as `prepare` does, for who makes the network and keeps what comes of it.

    Args:
        options: but those of the network and of the run.
        build: from the data to what is trained, and the shapes of its inputs, (C, *spatial).

    Raises:
        UsageError: the first mistake that was found.
    """
    training, source = _training(options), opened(options)
    return _prepared(options, training, source, build(source))


def _training(options: Train) -> Training:
    """Return the resolved options of the training."""
    check_device(options.device)
    processes.share_of(options.batch_size)
    training = resolved(Training.read(options.only(Training)))
    if (training.steps is None) == (training.epochs is None):
        raise UsageError(f"give either {named('steps')} or {named('epochs')}")
    return training


def _prepared(
    options: Train, training: Training, source: Opened, own: tuple[nn.Module, tuple[Shape, ...]] | None = None
) -> Prepared:
    base: runs.Run | None = None
    config: dict[str, Any] = {}
    if own is not None:
        network, shapes = own
    elif names_run(options.model):
        base, network, shapes, config = _of_run(options)
    else:
        options = as_the_data(options, source)
        network, shapes, config = _of_model(options)
    inputs = tuple(torch.empty(1, *shape, device="meta") for shape in shapes)
    given = output_shape(network, inputs, options.outputs)
    maxdisp = maxdisp_of(str(config.get("model")), config.get("preset"), runs.settings_of(config))
    word, loss = loss_of(options, str(config.get("model")), config.get("preset"), given, source, maxdisp, trusted=True)
    losses.check_channels(word, given[0] if given else 0)
    source, validation, split = _split(options, source)
    per_epoch = _per_epoch(source, options, training)
    steps = training.steps or _epochs(training, per_epoch)
    how = Drawing(
        steps * training.accumulate, options.batch_size, options.seed, options.workers, maxdisp, training=True,
        hold=options.hold, augment=options.augment,
    )  # fmt: skip
    batches = source.batches(shapes, given, how)
    measured = None
    if validation is not None:
        drawn = Drawing(_SAMPLES, options.batch_size, options.seed, 0, maxdisp)
        said = Evaluation(network, validation, inputs, drawn, split, options.outputs).said()  # refuses an empty set now
        measured = Validation(validation, inputs, drawn, split, options.outputs, options.device, said)
    teaching = _teaching(options, source, config, word, given, shapes, maxdisp)
    options = options.model_copy(update={"loss": word, "patch": spell(shapes[0][1:]), "data": source.word})
    training = training.model_copy(update={"steps": steps, "epochs": None})
    learned = source.learned(given[0] if given else 0) if isinstance(source, FromFiles) else {}
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
        source.said(),
        learned,
        teaching,
    )


def carry_out(prepared: Prepared, watch: Callable[[Moment], None] | None = None) -> dict[str, Any]:
    """Train, and keep the result as a run; a training that is stopped goes on with --resume.

    Of several processes the first alone reads and writes the run.

    Returns:
        `out`, and what `runs.TRAINING` holds but for the curve.

    Raises:
        UsageError: the folder can't be written, the training in it is done or was asked for otherwise.
        CheckFailed: the loss is not a number.
    """
    options, out = prepared.options, prepared.options.out
    processes.gather(None)  # all have looked at the folder before the first writes it
    going_on, base, network = options.resume and (out / runs.TRAINING).is_file(), None, prepared.network
    if processes.rank() == 0:
        base = runs.read(out) if going_on else _begun(prepared)
        network = base.slim(prepared.network if prepared.base is None else options.full)
    before = base.training if base is not None and going_on and runs.TRAINED in base.hashes else None
    if (done := processes.gather(before)[0]) is not None:  # it was stopped after its last step
        return _summary(out, done)
    keep = Keep(out / runs.STATE, options.save_every, options.resume, _asked(prepared))
    try:
        trained = train_(
            network, prepared.batches, prepared.loss, prepared.training, per_epoch=prepared.per_epoch,
            validate=prepared.validation, validate_every=options.val_every, keep=keep, teaching=prepared.teaching,
            device=options.device, seed=options.seed, watch=watch,
        )  # fmt: skip
    except CheckFailed as error:
        kept = f"{keep.path} keeps the state before" if keep.path.exists() else "nothing was kept before"
        raise CheckFailed(f"{error}; {kept}: a smaller {named('lr')}, or {named('clip')}, may help") from error

    def written() -> dict[str, Any]:
        assert base is not None
        said = _said(prepared, trained.history)
        weights = {runs.TRAINED: trained.best, runs.LAST: trained.last}
        runs.save_trained(out, base, weights, said, _table(trained.history), _words(said))
        return _summary(out, said)

    return processes.from_first(written)


def _summary(out: Path, said: Mapping[str, Any]) -> dict[str, Any]:
    return {"out": str(out), **{key: value for key, value in said.items() if key != "curve"}}


def plan_only(prepared: Prepared) -> dict[str, Any]:
    """Return what a dry run can say; nothing is trained or written."""
    return {"out": str(prepared.options.out), "dry_run": True, "steps": prepared.training.steps, **_what(prepared)}


def _of_run(options: Train) -> tuple[runs.Run, nn.Module, tuple[Shape, ...], dict[str, Any]]:
    """Return a run, its slim network, the shapes of its inputs and its config."""
    refuse_known(options, _OF_A_RUN, options.model)
    run = runs.read(options.model)
    network, _ = run.slim_with(options.weights, options.full)
    sizes = [tuple(tensor.shape[1:]) for tensor in flatten(run.plan.example_inputs())]
    if options.patch:
        sizes = [
            (*size[:1], *read_size(options.patch, len(size) - 1, "patch")) if len(size) > 1 else size for size in sizes
        ]
    return run, network, tuple(sizes), dict(run.config)


def _of_model(options: Train) -> tuple[nn.Module, tuple[Shape, ...], dict[str, Any]]:
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
        teacher = _of_model(as_the_data(asked, source))[0]
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
        return source, opened(options.model_copy(update={"data": options.val, "images": (), "labels": ()})), None
    if isinstance(source, FromFiles):
        if options.fold is not None:
            source = folded(source, options.fold)
        return source, source if source.dataset.of(VALIDATION) else None, VALIDATION
    if options.fold is not None:
        raise UsageError(f"{named('fold', options.fold)}: needs cases on the disk, not {source.word}")
    return source, source if isinstance(source, FromNumbers) else None, None


def _per_epoch(source: Opened, options: Train, training: Training) -> float | None:
    """Return how many steps pass over the training cases once; None where there is no such thing."""
    if not isinstance(source, FromFiles):
        return None
    return len(source.dataset.of(TRAINING)) / (options.batch_size * training.accumulate)


def _epochs(training: Training, per_epoch: float | None) -> int:
    assert training.epochs is not None
    if per_epoch is None:
        raise UsageError(f"{named('epochs', training.epochs)}: the data have no end; give {named('steps')}")
    return max(1, math.ceil(training.epochs * per_epoch))


def _begun(prepared: Prepared) -> runs.Run:
    """Write the folder of a training that is not done, and return it as a run."""
    options, base = prepared.options, prepared.base
    if base is None:
        inputs = tuple(torch.zeros(1, *shape) for shape in prepared.shapes)
        result = prune(
            prepared.network, inputs, rule="random", sparsity=0.0, outputs=options.outputs, seed=options.seed
        )
        head: dict[str, Any] = {
            "model": options.model, "preset": options.preset, "input": [list(shape) for shape in prepared.shapes],
            "batch": 1, "scored_on": "no data", "out": str(options.out),
        }  # fmt: skip
        report = Report(**{**result.report.to_dict(), **head})
        runs.save(options.out, result.slim, result.plan, report, prepared.config, force=options.force or options.resume)
        base = runs.read(options.out)
    elif options.weights is not None:
        raise UsageError(f"{named('weights', options.weights)}: put them into the run first, by `ranp adopt`")
    runs.save_trained(options.out, base, {}, {"done": False, **_what(prepared)}, "", "")
    return runs.read(options.out)


def _asked(prepared: Prepared) -> dict[str, Any]:
    """Return what a training that goes on has to be asked for again."""
    what = _what(prepared)
    data = {**what["data"], **what.get("teacher", {}), "seed": prepared.options.seed, "loss": prepared.options.loss}
    free = ("workers", "hold")  # which change no batch
    asked = {**prepared.training.model_dump(mode="json"), **{k: v for k, v in data.items() if k not in free}}
    return dict(json.loads(json.dumps(asked)))


def _what(prepared: Prepared) -> dict[str, Any]:
    """Return what is known before the first step: options, data, loss and task."""
    options = prepared.options
    groups = (Source, Files, Labelled, Patch, BatchSize, Cut)
    names = [name for group in groups for name in group.model_fields]
    config = options.to_config()
    data = {name: config[name] for name in [*dict.fromkeys(names), "val", "fold", "augment"] if name in config}
    taught = {name: config[name] for name in Taught.model_fields if name in config}
    measured = prepared.validation
    return {
        "options": prepared.training.model_dump(mode="json"),
        "data": data,
        **({"teacher": taught} if options.teacher else {}),
        "loss": options.loss,
        "seed": options.seed,
        "trained_on": prepared.trained_on,
        "validated_on": None if measured is None else measured.said,
    }


def _said(prepared: Prepared, history: History) -> dict[str, Any]:
    """Return what `runs.TRAINING` says of a training that is done."""
    options, steps = prepared.options, prepared.training.steps or 1
    return {
        "done": True,
        **_what(prepared),
        "learned": prepared.learned,
        "steps": steps,
        "best": history.best,
        "validations": history.validations,
        "never": list(prepared.validation.never) if prepared.validation is not None else [],
        "seconds_per_step": history.seconds / steps,
        "samples_per_second": history.samples / history.seconds,
        "peak_memory": _peak_memory(options.device),
        "curve": history.curve,
    }


def _peak_memory(device: str) -> dict[str, Any]:
    """Return the most bytes that were taken: on a card by tensors, on the CPU by the whole process."""
    if torch.device(device).type == "cuda":
        return {"bytes": torch.cuda.max_memory_allocated(device), "of": "tensors on the device"}
    unit = 1 if sys.platform == "darwin" else 1024
    return {"bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, "of": "the process"}


def _words(said: Mapping[str, Any]) -> str:
    """Say in a line how the weights came about."""
    best = said["best"]
    which = f"; those of step {best['step']} scored best, {best['score']:.4f}" if best else ""
    return f"{said['steps']} steps on {said['data'].get('data')}{which}"


def _table(history: History) -> str:
    """Return the curve and the validations as CSV, a row for each step that has either."""
    rows: dict[float, dict[str, float]] = {}
    for point in [*history.curve, *history.validations]:
        rows.setdefault(point["step"], {}).update(point)
    names = list(dict.fromkeys(name for step in sorted(rows) for name in rows[step]))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows[step] for step in sorted(rows))
    return text.getvalue()
