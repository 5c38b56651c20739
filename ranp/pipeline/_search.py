"""search(): train candidates briefly on the user's data, drop the worse round by round, and keep the winner.

Scores are taken once for a seed and shared by its candidates; candidates of the same widths are trained once. Every
training is a task of its own: what it is follows from its round, candidate and seed, and what came of it is a file. So
a search that was stopped does what is missing, and several processes that share the tasks find the same.
"""

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import fmean, median
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ranp import cost, processes
from ranp.data.paired import first_inputs
from ranp.errors import CheckFailed, InfeasibleError, UnsupportedError, UsageError, listed, named
from ranp.files import read_json, whole_file, write_text
from ranp.graph.build import trace
from ranp.graph.graph import Graph
from ranp.inputs import Inputs
from ranp.options import DATA_FREE, Budget, Method, Scoring, Selection, Shared, Training
from ranp.pipeline._candidates import CANDIDATES, UNIFORM, Candidate
from ranp.pipeline._candidates import candidates as read_candidates
from ranp.pipeline._gauges import Gauges
from ranp.pipeline._halving import Round, going_on, noise, rounds, winner, within_noise
from ranp.pipeline._limits import settled, within_limits
from ranp.pipeline._prune import Result, Steps, proved
from ranp.pipeline._warnings import warnings_of
from ranp.plan import Plan
from ranp.reports import Contender, Figures, Search
from ranp.reports import Round as Stage
from ranp.scores import Scores, importance
from ranp.selection import Limits, select
from ranp.surgery import slim
from ranp.training import SCORE, History, Keep, Moment, Trained, resolved, train_

Loss = Callable[[Any, Any], Tensor]
Validate = Callable[[nn.Module], Mapping[str, float]]
_STATE = "plans.json"
"""Of a search in its folder: what it was asked for, and every candidate's plans."""


class Common(Budget, Shared):
    """What all candidates of a search share: the limits, floors, and how tied layers agree."""


@dataclass(frozen=True)
class Task:
    """A training of a search.

    Args:
        round: from 1.
        rounds: how many there are.
        number: of the training in the round, from 1.
        count: how many there are in the round.
        candidate: that is trained.
        seed: of it.
        steps: of it.
    """

    round: int
    rounds: int
    number: int
    count: int
    candidate: str
    seed: int
    steps: int


@dataclass(frozen=True)
class Underway:
    """Where a search stands, for whoever watches.

    Args:
        task: that is worked on.
        moment: where its training stands.
    """

    task: Task
    moment: Moment


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
        choose = _Choosing(graph, contenders, method, selection, price, gauges, full, by_widths=not given)
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
        plans = _Plans.of(state, graph)
        trials = _Trials(
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
        for name, value in asked.items():
            if state["asked"].get(name) != value:
                raise UsageError(
                    f"{named(name, value)}: the search in {place} was asked for {state['asked'].get(name)}"
                )
        return state

    state = processes.from_first(before)
    if state is None:
        state = processes.gather({**planned(), "asked": dict(asked)})[0]  # limits may be of measured times
        processes.from_first(partial(write_text, file, json.dumps(state) + "\n"))
    return state


class _Choosing:
    """Every candidate's plan for one seed after the other, while its scores are at hand."""

    def __init__(
        self,
        graph: Graph,
        contenders: Sequence[Candidate],
        method: str,
        selection: Mapping[str, Any],
        price: cost.CostFunction,
        gauges: Gauges,
        full: Mapping[str, int],
        *,
        by_widths: bool,
    ) -> None:
        self.graph, self.contenders, self.method, self.selection = graph, contenders, method, selection
        self.price, self.gauges, self.full, self.by_widths = price, gauges, full, by_widths
        self.plans: dict[str, list[Plan]] = {each.name: [] for each in contenders}
        self.notes: dict[str, list[list[str]]] = {each.name: [] for each in contenders}
        self.infeasible: dict[str, str] = {}

    def method_of(self, contender: Candidate) -> str:
        """Return the criterion that a candidate ranks by."""
        return contender.method or ("snip" if contender.options.get("rule") == "snip" else self.method)

    def with_seed(self, seed: int, network: nn.Module, scores: Mapping[str, Scores]) -> None:
        """Choose by every candidate; one that can't hold the limits is put aside with its reason."""
        for each in self.contenders:
            if each.name in self.infeasible:
                continue
            used = scores[self.method_of(each)]
            try:
                plan = self._plan(each, seed, network, used)
            except (InfeasibleError, UnsupportedError) as error:
                self.infeasible[each.name] = str(error)
                continue
            self.plans[each.name].append(plan)
            self.notes[each.name].append([*used.notes, *warnings_of(self.graph, plan, used)])

    def _plan(self, contender: Candidate, seed: int, network: nn.Module, scores: Scores) -> Plan:
        """Return a candidate's plan, whose network holds the limits when it is built, as that of `prune` does."""
        price = copy(self.price)
        price.meters = dict(price.meters)  # which are scaled by what is built
        shared = {k: v for k, v in self.selection.items() if k != "strength" or "reweight" in contender.options}
        choose = partial(select, self.graph, scores, seed=seed, price=price, **{**shared, **contender.options})
        plan = choose()
        if not price.meters:
            return plan
        return settled(network, plan, slim(network, plan), price, self.gauges, self.full, choose).plan

    def to_dict(self) -> dict[str, Any]:
        """Return all plans as plain values, and of candidates that are the same all but the first by its name.

        Raises:
            InfeasibleError: there are no plans.
        """
        if len(self.infeasible) == len(self.contenders):
            raise InfeasibleError(self.infeasible[UNIFORM])
        first: dict[Any, str] = {}
        same = {}
        for name, plans in self.plans.items():
            if name in self.infeasible:
                continue
            key = tuple(tuple(self._key(plan)) for plan in plans)
            if first.setdefault(key, name) != name:
                same[name] = first[key]
        kept = {name: plans for name, plans in self.plans.items() if name not in self.infeasible}
        return {
            "plans": {name: [json.loads(plan.to_json()) for plan in plans] for name, plans in kept.items()},
            "notes": {name: self.notes[name] for name in kept},
            "infeasible": self.infeasible,
            "same": same,
        }

    def _key(self, plan: Plan) -> Iterator[Any]:
        """What two candidates share where they need one training: widths, of weights that were given the units."""
        return ((len(group.kept) if self.by_widths else group.kept) for group in plan.groups)


@dataclass(frozen=True)
class _Plans:
    """Every candidate's plan for each seed.

    Args:
        graph: of the network.
        plans: by candidate, those that can be had, a plan for each seed.
        notes: likewise.
        infeasible: why the others can't.
        same: of candidates whose plans are those of another, that other.
        names: of all, the simpler first.
    """

    graph: Graph
    plans: Mapping[str, Sequence[Plan]]
    notes: Mapping[str, Sequence[Sequence[str]]]
    infeasible: Mapping[str, str]
    same: Mapping[str, str]
    names: Sequence[str]

    @classmethod
    def of(cls, state: Mapping[str, Any], graph: Graph) -> "_Plans":
        """Read what `_Choosing` made."""

        def bound(values: Any) -> Plan:
            plan = Plan.model_validate(values)
            return Plan.of(graph, plan.mask(graph), plan.choice, plan.scores, plan.stages)

        plans = {name: [bound(values) for values in each] for name, each in state["plans"].items()}
        return cls(graph, plans, state["notes"], state["infeasible"], state["same"], state["asked"]["candidates"])

    @property
    def to_train(self) -> list[str]:
        """The names of those that have a training of their own."""
        return [name for name in self.names if name in self.plans and name not in self.same]

    def costs(self, name: str) -> tuple[Figures, dict[str, int]]:
        """Return what a candidate's networks cost, and what limits say of them beside that, as means over seeds."""
        price, plans = cost.compile(self.graph), self.plans[name]
        each = [price(plan.mask(self.graph)).to_dict() for plan in plans]
        figures = {key: round(fmean(costs[key] for costs in each)) for key in Figures.model_fields}
        further = {key for plan in plans for key in plan.choice.costs} - {"params", "flops", "activations"}
        limited = {key: round(fmean(plan.choice.costs[key] for plan in plans)) for key in sorted(further)}
        return Figures(**figures), limited


Outcome = dict[str, Any]
"""What came of a training: its score and history, or the reason why it failed."""


@dataclass(frozen=True)
class _Trials:
    """The trainings of a search, each of which leaves a file."""

    place: Path
    plans: _Plans
    drawn: Callable[[int], nn.Module]
    batches: Callable[[int], Iterable[Any]]
    loss: Loss
    validate: Validate
    training: Training
    seeds: Sequence[int]
    per_epoch: float | None
    device: str
    every: int
    follow: Callable[[Underway], None] | None

    def run(self, number: int, course: Sequence[Round], names: Sequence[str]) -> dict[str, list[Outcome]]:
        """Return what came of every training of a round, by candidate and seed."""
        round_ = course[number]
        pairs = [(name, seed) for name in names for seed in self.seeds[: round_.seeds]]
        tasks = [
            Task(number + 1, len(course), place, len(pairs), name, seed, round_.steps)
            for place, (name, seed) in enumerate(pairs, start=1)
        ]
        by_name: dict[str, list[Outcome]] = {name: [] for name in names}
        for task, outcome in zip(tasks, processes.each_alone(self._outcome, tasks), strict=True):
            by_name[task.candidate].append(outcome)
        return by_name

    def weights(self, candidate: str, seed: int, last: int) -> dict[str, Tensor]:
        """Return the weights that a training of the last round left."""
        return load_file(self._file(last, candidate, seed, "safetensors"))

    def _file(self, number: int, candidate: str, seed: int, suffix: str) -> Path:
        return self.place / f"{number}-{self.plans.names.index(candidate)}-{seed}.{suffix}"

    def _outcome(self, task: Task) -> Outcome:
        """Train, unless that is done, and return what came of it."""
        done, state, weights = (
            self._file(task.round, task.candidate, task.seed, suffix) for suffix in ("json", "state", "safetensors")
        )
        if not done.is_file():
            try:
                trained = self._trained(task, state)
                outcome = {"score": trained.history.best[SCORE], "history": asdict(trained.history)}
                if task.round == task.rounds:
                    with whole_file(weights) as temporary:
                        save_file(trained.best, temporary)
            except CheckFailed as error:
                outcome = {"failed": f"seed {task.seed}, {error}"}
            write_text(done, json.dumps(outcome) + "\n")
        with suppress(FileNotFoundError):
            state.unlink()
        return read_json(done)

    def _trained(self, task: Task, state: Path) -> Trained:
        """Train a candidate as `train_` does; it is measured once, after its last step."""
        follow = self.follow
        plan = self.plans.plans[task.candidate][self.seeds.index(task.seed)]
        return train_(
            slim(self.drawn(task.seed), plan), self.batches(task.seed), self.loss,
            self.training.model_copy(update={"steps": task.steps}), per_epoch=self.per_epoch, validate=self._measured,
            validate_every=task.steps, keep=Keep(state, self.every, resume=True), device=self.device, seed=task.seed,
            watch=None if follow is None else lambda moment: follow(Underway(task, moment)),
        )  # fmt: skip

    def _measured(self, network: nn.Module) -> Mapping[str, float]:
        """Measure a network.

        Raises:
            CheckFailed: there is nothing to measure.
        """
        figures = self.validate(network)
        if not figures:
            raise CheckFailed("nothing could be measured")
        return figures


def _halved(
    course: Sequence[Round], plans: _Plans, trials: _Trials, steps: Steps, say: Callable[[str], None]
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
        scores = _scores(outcomes[-1])
        if not scores:
            raise CheckFailed(f"no candidate could be trained: {_reason(outcomes[-1][names[0]])}")
        if number + 1 < len(course):
            names = going_on(scores, course[number + 1].candidates, UNIFORM)
            say(f"{words}: those that go on are {', '.join(f'{name} {fmean(scores[name]):.4f}' for name in names)}")
    return outcomes


def _scores(outcomes: Mapping[str, Sequence[Outcome]]) -> dict[str, list[float]]:
    """Return the scores by seed of those that did not fail."""
    return {
        name: [outcome["score"] for outcome in each] for name, each in outcomes.items() if _reason(each) is None
    }  # fmt: skip


def _reason(outcomes: Sequence[Outcome]) -> str | None:
    """Return why a training of a candidate failed; None where none did."""
    return next((str(outcome["failed"]) for outcome in outcomes if "failed" in outcome), None)


def _found(
    plans: _Plans,
    outcomes: Sequence[Mapping[str, Sequence[Outcome]]],
    course: Sequence[Round],
    trials: _Trials,
    gauges: Gauges,
    full: Mapping[str, int],
    steps: Steps,
    asked: Budget,
) -> Found:
    """Return the winner of the last round, proved, with the table."""
    scores, seeds = _scores(outcomes[-1]), trials.seeds
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
    plans: _Plans, outcomes: Sequence[Mapping[str, Sequence[Outcome]]], course: Sequence[Round], best: str
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
        reason, last = _reason(outcomes[number][own]), number + 1 == len(course)
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
