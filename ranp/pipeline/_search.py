"""search(): train candidates briefly on the user's data, drop the worse round by round, and keep the winner.

Scores are taken once for a seed and shared by its candidates; candidates of the same widths are trained once. Every
training is a task of its own: what it is follows from its round, candidate and seed, and what came of it is a file. So
a search that was stopped does what is missing, and several processes that share the tasks find the same.
"""

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import fmean, median
from typing import Any

from torch import nn

from ranp import cost, processes
from ranp.data.paired import first_inputs
from ranp.errors import CheckFailed, UsageError, listed, named
from ranp.files import read_json, write_text
from ranp.graph.build import trace
from ranp.inputs import Inputs
from ranp.options import DATA_FREE, Budget, Method, Scoring, Selection, Shared, Training
from ranp.pipeline._candidates import CANDIDATES, UNIFORM
from ranp.pipeline._candidates import candidates as read_candidates
from ranp.pipeline._contenders import Choosing, Plans
from ranp.pipeline._gauges import Gauges
from ranp.pipeline._halving import Round, going_on, noise, rounds, winner, within_noise
from ranp.pipeline._limits import within_limits
from ranp.pipeline._prune import Result, Steps, proved
from ranp.pipeline._trials import Loss, Outcome, Trials, Underway, Validate, reason_of, scores_of
from ranp.reports import Contender, Search
from ranp.reports import Round as Stage
from ranp.scores import importance
from ranp.selection import Limits
from ranp.surgery import slim
from ranp.training import History, Keep, Trained, check_asked, resolved

_STATE = "plans.json"
"""Of a search in its folder: what it was asked for, and every candidate's plans."""


class Common(Budget, Shared):
    """What all candidates of a search share: the limits, floors, and how tied layers agree."""


@dataclass(frozen=True)
class Found:
    """What a search found.

    Args:
        result: of the winner, as `prune` returns it; its report has the table of candidates (`report.search`).
        trained: the winner's weights and what its training measured, of the seed that scored best.
    """

    result: Result
    trained: Trained

    @property
    def table(self) -> Search:
        """The candidates and the winner."""
        assert self.result.report.search is not None
        return self.result.report.search


def search(
    model: nn.Module | Callable[[int], nn.Module],
    batches: Iterable[Any] | Callable[[int], Iterable[Any]],
    loss: Loss,
    validate: Validate,
    training: Training,
    *,
    example_inputs: Inputs | None = None,
    scoring: int | Callable[[int], Iterable[Any]] = 8,
    candidates: str | Iterable[str] = CANDIDATES,
    seeds: int = 3,
    eta: int = 3,
    method: Method = "mpmg",
    reduce: str = "sum",
    freeze: Iterable[str] = (),
    outputs: Iterable[int] = (),
    zero_conv_biases: bool = False,
    dead_norms: str = "one",
    given_weights: bool | None = None,
    per_epoch: float | None = None,
    device: str = "cpu",
    seed: int = 0,
    keep: Keep | None = None,
    step: cost.Step | None = None,
    timer: cost.Timer | None = None,
    watch: Callable[[str], None] | None = None,
    follow: Callable[[Underway], None] | None = None,
    **selection: Any,
) -> Found:
    """Find the way to choose units whose network learns best under limits.

    Processes that work together (`ranp.processes`) score jointly and share the trainings; what they find is the same
    for any number of them, but for measured times.

    Args:
        model: the full network, which is untouched; or a function of a seed that returns it with initial weights.
        batches: to train on, as of `train_`; or a function of a seed that returns them.
        loss: of (outputs, target).
        validate: measures a network in evaluation mode once it is trained; the value of "score", or else the first, is
            what candidates are compared by, higher is better.
        training: of the last round, `steps` of it.
        example_inputs: that costs are counted at; by default the inputs of the first batch.
        scoring: batches to score on: so many of the first to train on, or a function of a seed.
        candidates: words of `ranp.pipeline.candidate`; uniform narrowing is always among them.
        seeds: of the last round.
        eta: a round has so many times fewer candidates than the one before, and trains so many times longer.
        method: of the scores, where a candidate names none: see `importance`.
        reduce: see `importance`.
        freeze: globs of module paths whose channels must stay.
        outputs: places of the outputs that must keep their shape, see `trace`.
        zero_conv_biases: see `importance`.
        dead_norms: see `importance`.
        given_weights: whether the weights are not drawn at random, so that it matters which units stay and not only
            how many: by default, whether the model is a module. Else candidates of equal widths are trained once.
        per_epoch: see `train_`.
        device: where to score and train.
        seed: the first of the seeds.
        keep: a folder that is the search's own, so that a stopped search goes on; how often a training is kept.
        step: see `prune`.
        timer: see `prune`.
        watch: called with a line when a step or a round begins or ends.
        follow: called after every step of a training.
        selection: limits, such as flops="10%", and what all candidates share: min_width, align, tie, ...

    Raises:
        UsageError: no limits, an unknown candidate, a folder of another search.
        InfeasibleError: no candidate can be had under the limits; the message is that of uniform narrowing.
        CheckFailed: none could be trained.
    """
    contenders = read_candidates(candidates)
    asked = Common.read(selection)
    Scoring.read({"method": method, "reduce": reduce, "dead_norms": dead_norms})
    if not asked.limits:
        raise UsageError(f"give a limit: {listed(map(named, Budget.model_fields))}")
    Selection.read(asked.only(Common)).check(method, seed)
    for name, value, least in (("seeds", seeds, 1), ("eta", eta, 2)):
        if value < least:
            raise UsageError(f"{named(name, value)}: expected a whole number of at least {least}")
    freeze, outputs, training = tuple(freeze), tuple(outputs), resolved(training)
    if training.steps is None:
        raise UsageError(f"give {named('steps')}: those of the last round")
    steps = Steps(watch)
    drawn = model if not isinstance(model, nn.Module) else lambda _: model
    batches_of = batches if callable(batches) else lambda _: batches
    inputs = first_inputs(batches_of(seed))[0] if example_inputs is None else example_inputs
    with steps("trace"):
        first = drawn(seed)
        graph = trace(first, inputs, freeze=freeze, outputs=outputs)
        gauges = Gauges(inputs, step or cost.Step(), timer or cost.stopwatch(device))
        timed = any(each.options.get("reweight") == "latency" for each in contenders)
        wanted = Selection.read({**asked.only(Common), **({"reweight": "latency"} if timed else {})})
        price = gauges.price(graph, first, wanted)
        full = Limits.of(graph, asked.limits, price).full
    scored = scoring if callable(scoring) else lambda number: _First(batches_of(number), scoring)
    score = partial(
        importance, loss=loss, reduce=reduce, device=device, zero_conv_biases=zero_conv_biases, dead_norms=dead_norms
    )
    numbers = [seed + number for number in range(seeds)]

    def planned() -> dict[str, Any]:
        given = isinstance(model, nn.Module) if given_weights is None else given_weights
        choose = Choosing(graph, contenders, method, selection, price, gauges, full, by_widths=not given)
        for number in numbers:
            with steps(f"score, seed {number}"):
                network = drawn(number)
                scores = {
                    word: score(network, graph, None if word in DATA_FREE else scored(number), method=word, seed=number)
                    for word in dict.fromkeys(choose.method_of(each) for each in contenders)
                }
                choose.with_seed(number, network, scores)
        return choose.to_dict()

    with _place(keep) as place:
        known = {
            "candidates": [each.name for each in contenders], "seeds": numbers, "eta": eta, "method": method,
            "reduce": reduce, "freeze": list(freeze), "outputs": list(outputs), "dead_norms": dead_norms,
            **asked.only(Common), **training.model_dump(mode="json"), **(keep.asked if keep else {}),
        }  # fmt: skip
        state = _state(place, keep, json.loads(json.dumps(known)), planned)
        plans = Plans.of(state, graph)
        trials = Trials(
            place, plans, drawn, batches_of, loss, validate, training, numbers, per_epoch,
            processes.own_device(device), keep.every if keep else training.steps, follow,
        )  # fmt: skip
        course = rounds(len(plans.to_train), training.steps, seeds, eta)
        outcomes = _halved(course, plans, trials, steps, watch or (lambda _: None))
        return _found(plans, outcomes, course, trials, gauges, full, steps, asked)


@dataclass(frozen=True)
class _First:
    """The first of some batches, as often as they are asked for."""

    batches: Iterable[Any]
    count: int

    def __iter__(self) -> Iterator[Any]:
        return islice(self.batches, self.count)


@contextmanager
def _place(keep: Keep | None) -> Iterator[Path]:
    """Yield the folder of a search: the one that is kept, or one that is gone afterwards."""
    if keep is not None:
        yield keep.path
        return
    with tempfile.TemporaryDirectory() as own:
        yield Path(processes.gather(own)[0])
        processes.gather(None)  # all are done with the first's


def _state(
    place: Path, keep: Keep | None, asked: Mapping[str, Any], planned: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """Return the plans of a search that goes on, or make and keep them.

    Raises:
        UsageError: the folder holds another search, or one that is not to go on.
    """
    file = place / _STATE

    def before() -> dict[str, Any] | None:
        if not file.is_file():
            return None
        if keep is not None and not keep.resume:
            raise UsageError(f"{place}: holds a search that was stopped; go on with {named('resume', True)}")
        state = read_json(file)
        check_asked(asked, state["asked"], place, "search")
        return state

    state = processes.from_first(before)
    if state is None:
        state = processes.gather({**planned(), "asked": dict(asked)})[0]  # limits may be of measured times
        processes.from_first(partial(write_text, file, json.dumps(state) + "\n"))
    return state


def _halved(
    course: Sequence[Round], plans: Plans, trials: Trials, steps: Steps, say: Callable[[str], None]
) -> list[dict[str, list[Outcome]]]:
    """Return what came of every round.

    Raises:
        CheckFailed: no candidate could be trained.
    """
    names, outcomes = plans.to_train, []
    for number, round_ in enumerate(course):
        words = f"round {number + 1} of {len(course)}"
        with steps(f"{words}: {len(names)} candidates, {round_.seeds} seeds, {round_.steps} steps"):
            outcomes.append(trials.run(number, course, names))
        scores = scores_of(outcomes[-1])
        if not scores:
            raise CheckFailed(f"no candidate could be trained: {reason_of(outcomes[-1][names[0]])}")
        if number + 1 < len(course):
            names = going_on(scores, course[number + 1].candidates, UNIFORM)
            say(f"{words}: those that go on are {', '.join(f'{name} {fmean(scores[name]):.4f}' for name in names)}")
    return outcomes


def _found(
    plans: Plans,
    outcomes: Sequence[Mapping[str, Sequence[Outcome]]],
    course: Sequence[Round],
    trials: Trials,
    gauges: Gauges,
    full: Mapping[str, int],
    steps: Steps,
    asked: Budget,
) -> Found:
    """Return the winner of the last round, proved, with the table."""
    scores, seeds = scores_of(outcomes[-1]), trials.seeds
    simplicity = {each.name: each.simplicity for each in read_candidates(plans.names)}
    best = winner(scores, simplicity)
    place = max(range(len(seeds)), key=lambda number: scores[best][number])
    network, plan, proof = trials.drawn(seeds[place]), plans.plans[best][place], Steps()
    with proof("slim"):
        small = slim(network, plan)
    with proof("count"):
        chosen = within_limits(plan, small, gauges, full)
    result = proved(
        network, plans.graph, plan, small, gauges.inputs, proof, chosen=chosen, seed=seeds[place],
        notes=plans.notes[best][place],
    )  # fmt: skip
    table = Search(
        limits=asked.limits, seeds=list(seeds), rows=_rows(plans, outcomes, course, best), winner=best,
        rounds=[
            Stage(candidates=len(each), seeds=round_.seeds, steps=round_.steps)
            for each, round_ in zip(outcomes, course, strict=True)
        ],
        seed=seeds[place], why=_why(best, scores), seconds={**steps.seconds, "proof": sum(proof.seconds.values())},
    )  # fmt: skip
    weights = trials.weights(best, seeds[place], len(course))
    history = History(**outcomes[-1][best][place]["history"])
    report = result.report.model_copy(update={"search": table})
    return Found(replace(result, report=report), Trained(weights, weights, history))


def _rows(
    plans: Plans, outcomes: Sequence[Mapping[str, Sequence[Outcome]]], course: Sequence[Round], best: str
) -> list[Contender]:
    """Return the table: those that came further first, and the better first."""
    rows = []
    for name in plans.names:
        if name in plans.infeasible:
            rows.append(Contender(name=name, status="infeasible", reason=plans.infeasible[name]))
            continue
        costs, limited = plans.costs(name)
        own = plans.same.get(name, name)
        number = max(number for number, each in enumerate(outcomes) if own in each)
        reason, last = reason_of(outcomes[number][own]), number + 1 == len(course)
        status = "failed" if reason else "won" if own == best else "stayed" if last else "dropped"
        if own != name:
            status, reason = "same", f"its networks are those of {own}"
        done = [outcome for outcome in outcomes[number][own] if "history" in outcome]
        times = [1e3 * outcome["history"]["seconds"] / course[number].steps for outcome in done]
        rows.append(
            Contender(
                name=name, status=status, reason=reason or "", round=number + 1, steps=course[number].steps,
                scores=[outcome["score"] for outcome in done], costs=costs, limited=limited,
                step_ms=median(times) if times else None,
            )
        )  # fmt: skip
    return sorted(rows, key=lambda row: (row.status != "won", -row.round, -(row.mean or 0.0) if row.scores else 1e9))


def _why(best: str, scores: Mapping[str, Sequence[float]]) -> str:
    """Say what the winner won by."""

    def beside(name: str, other: str) -> str:
        by = fmean(scores[name]) - fmean(scores[other])
        means = f"{fmean(scores[name]):.4f} beside {fmean(scores[other]):.4f}"
        return f"{means}, a difference of {by:.4f} with a standard error of {noise(scores[name], scores[other]):.4f}"

    first = max(scores, key=lambda name: fmean(scores[name]))
    alone = "; one seed says nothing of the noise" if len(scores[best]) == 1 else ""
    if best != first:
        return f"{best} is simpler than {first} and within the noise of it ({beside(first, best)}){alone}"
    if UNIFORM in scores and best != UNIFORM:
        noisy = " and within the noise of it" if within_noise(scores[best], scores[UNIFORM]) else ""
        return f"{best} is better than {UNIFORM}{noisy} ({beside(best, UNIFORM)}){alone}"
    others = [name for name in scores if name != best]
    if not others:
        return f"{best} is the only one that could be trained"
    second = max(others, key=lambda name: fmean(scores[name]))
    return f"{best} is the best; the next is {second} ({beside(best, second)}){alone}"
