"""What `ranp search` asks for: a network, data to train on, limits and candidates; the winner is kept as a run."""

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ranp import models, processes, runs
from ranp.cost import Step
from ranp.errors import UsageError, listed, named
from ranp.jobs import _kept as kept
from ranp.jobs import train
from ranp.jobs._step import step_of
from ranp.jobs._subject import names_run
from ranp.jobs.options import Prune, Search, Train, Trained
from ranp.jobs.prepared import Prepared as Training
from ranp.options import Budget, Optimizing, Selection, Shared
from ranp.pipeline import CANDIDATES, Candidate, Found, Underway, candidates, rounds, search
from ranp.reports import Report
from ranp.reports import Search as Table
from ranp.training import Keep


@dataclass(frozen=True)
class Prepared:
    """A search whose options are known to be good.

    Args:
        options: as they were given.
        training: of the last round, with the first seed.
        contenders: the candidates, the simpler first.
    """

    options: Search
    training: Training
    contenders: list[Candidate]

    @property
    def place(self) -> Path:
        """The folder of the search's state, inside of the run folder that is being built."""
        return self.options.out / runs.SEARCH

    def drawn(self, seed: int) -> nn.Module:
        """Return the full network with the initial weights of a seed, or those that were given."""
        return train.of_model(self.training.options.model_copy(update={"seed": seed}))[0]

    def batches(self, seed: int, **drawing: Any) -> Any:
        """Return batches to train on, or drawn otherwise."""
        prepared = self.training
        how = replace(prepared.drawing, seed=seed, **drawing)
        return prepared.source.batches(prepared.shapes, prepared.output, how)

    def scoring(self, seed: int) -> Any:
        """Return the batches to score on, as `ranp prune` draws them."""
        return self.batches(seed, batches=self.options.batches, training=False, hold=1, augment="none")


def prepare(options: Search) -> Prepared:
    """Check everything that can be checked without work.

    Raises:
        UsageError: the first mistake that was found.
        MissingExtra: a reader of the data is not installed.
    """
    if names_run(options.model):
        raise UsageError(f"{named('MODEL', options.model)}: a run has its plan; name the network that is to be pruned")
    contenders = candidates(options.candidates or CANDIDATES)
    if not options.limits:
        raise UsageError(f"give a limit: {listed(map(named, Budget.model_fields))}")
    if options.preset and options.strength is None:
        options = options.model_copy(update={"strength": models.preset(options.model, options.preset).strength})
    for each in contenders:
        Selection.read(_selection(options, each)).check(each.method, options.seed)
    _check_out(options)
    names = (Train.model_fields.keys() & Search.model_fields.keys()) - set(kept.ROUNDS)
    shared = {name: getattr(options, name) for name in names}
    prepared = train.ready(Train.read(shared))
    if prepared.validation is None:
        raise UsageError(f"give {named('val')} or {named('fold')}: candidates are compared on cases held out")
    return Prepared(options, prepared, contenders)


def _selection(options: Search, contender: Candidate) -> dict[str, Any]:
    """Return the options of `select` that a candidate stands for."""
    shared = {**options.only(Budget), **options.only(Shared), **contender.options}
    return {name: value for name, value in shared.items() if name != "strength" or "reweight" in contender.options}


def _check_out(options: Search) -> None:
    """Refuse a place where the run can't be written, or that holds a search which is not to go on.

    Raises:
        UsageError: naming what is in the way.
    """
    out, state = options.out, options.out / runs.SEARCH
    if state.is_dir():
        if not (options.resume or options.force):
            ways = f"go on with {named('resume', True)}, or begin anew with {named('force', True)}"
            raise UsageError(f"{named('out', out)}: holds a search that was stopped; {ways}")
        runs.check_out(out, force=True, known_by=runs.SEARCH)
    elif not (options.resume and _done(out)):
        runs.check_out(out, force=options.force)


def _done(out: Path) -> Report | None:
    """Return the report of a search that is done; None where it is not."""
    if not (out / runs.PLAN).is_file() or (out / runs.SEARCH).is_dir():
        return None
    report = runs.read(out).report
    return report if report.search is not None else None


def plan_only(prepared: Prepared) -> dict[str, Any]:
    """Return what a dry run can say; nothing is scored, trained or written."""
    options, count = prepared.options, len(prepared.contenders)
    steps = prepared.training.training.steps
    assert steps is not None
    assert prepared.training.validation is not None
    return {
        "out": str(options.out), "dry_run": True, "candidates": [each.name for each in prepared.contenders],
        "rounds": [asdict(each) for each in rounds(count, steps, options.seeds, options.eta)],
        "trained_on": prepared.training.trained_on, "validated_on": prepared.training.validation.said,
    }  # fmt: skip


def carry_out(
    prepared: Prepared,
    *,
    watch: Callable[[str], None] | None = None,
    follow: Callable[[Underway], None] | None = None,
) -> Report:
    """Search, keep the winner as a run, and return its report as it stands there.

    Of several processes the first alone writes the run; trainings are kept by those that do them.

    Raises:
        RanpError: as `ranp.search`.
    """
    options, training, out = prepared.options, prepared.training, prepared.options.out
    processes.gather(None)  # all have looked at the folder before the first writes it
    done = processes.gather(_done(out) if options.resume else None)[0]
    if done is not None:  # it was stopped after its last step
        return done
    if options.force and not options.resume and processes.rank() == 0:
        shutil.rmtree(prepared.place, ignore_errors=True)
    processes.gather(None)
    assert training.validation is not None
    inputs = tuple(torch.zeros(training.options.samples, *shape) for shape in training.shapes)
    known = {name: value for name, value in training.config.items() if name != "seed"}
    asked = {**kept.asked(training), **known, "batches": options.batches}
    found = search(
        prepared.drawn, prepared.batches, training.loss, training.validation, training.training,
        example_inputs=inputs,
        scoring=prepared.scoring, candidates=[each.name for each in prepared.contenders], seeds=options.seeds,
        eta=options.eta, method=options.method or "mpmg", reduce=options.reduce, freeze=options.freeze,
        outputs=options.outputs, zero_conv_biases=training.config["init"] in ("glorot", "orthogonal"),
        dead_norms=options.dead_norms, given_weights=options.weights is not None, per_epoch=training.per_epoch,
        device=options.device, seed=options.seed, step=_step(prepared, inputs), watch=watch, follow=follow,
        keep=Keep(prepared.place, options.save_every, options.resume, asked),
        **options.only(Budget), **options.only(Shared),
    )  # fmt: skip
    processes.gather(None)  # all have read the winner's weights before the first takes their folder away
    return processes.from_first(lambda: _kept(prepared, found))


def _step(prepared: Prepared, inputs: tuple[Tensor, ...]) -> Step | None:
    """Return the training step whose memory is limited, or None."""
    training = prepared.training
    if prepared.options.train_memory is None:
        return None
    assert training.options.loss is not None
    how = Trained.read(training.training.only(Optimizing))
    return step_of(how, training.options.loss, training.loss, training.network, inputs)[1]


def _kept(prepared: Prepared, found: Found) -> Report:
    """Write the winner's run, in one step over the folder of the search."""
    options, training, table = prepared.options, prepared.training, found.table
    words = training.options.model_copy(update={"seed": table.seed})
    head: dict[str, Any] = {
        "model": options.model, "preset": options.preset, "input": [list(shape) for shape in training.shapes],
        "batch": training.options.batch_size, "scored_on": _scored_on(prepared), "out": str(options.out),
    }  # fmt: skip
    report = Report(**{**found.result.report.to_dict(), **head})
    begun = prepared.place / "winner"
    runs.save(begun, found.result.slim, found.result.plan, report, _config(prepared, table), force=True)
    kept.trained(replace(training, options=words), found.trained, found.result.slim, base=runs.read(begun))
    return runs.read(options.out).report


def _config(prepared: Prepared, table: Table) -> dict[str, Any]:
    """Return the options of the `ranp prune` that makes the winner's plan."""
    options, resolved = prepared.options, prepared.training.options
    best = next(each for each in prepared.contenders if each.name == table.winner)
    snip = best.options.get("rule") == "snip"
    known = {name: getattr(options, name) for name in Prune.model_fields if name in Search.model_fields}
    if options.train_memory is None:  # which alone has use for them
        known = {name: value for name, value in known.items() if name not in Optimizing.model_fields}
    else:
        known |= prepared.training.training.only(Optimizing)
    known |= {name: getattr(resolved, name) for name in ("loss", "patch", "data", "in_channels", "classes")}
    known |= {**prepared.training.config, **_selection(options, best), "seed": table.seed, "out": options.out}
    known |= {"method": best.method or ("snip" if snip else options.method or "mpmg")}
    return Prune.read(known).to_config()


def _scored_on(prepared: Prepared) -> str:
    """Say in words what the scores come from."""
    options, size = prepared.options, prepared.training.options.patch
    return (
        f"{prepared.training.trained_on} ({options.batches} batches of {prepared.training.options.batch_size}, {size})"
    )
