"""The trainings of a search, each of which leaves a file, so that what is done is not done again."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ranp import processes
from ranp.errors import CheckFailed
from ranp.files import read_json, whole_file, write_text
from ranp.options import Training
from ranp.pipeline._contenders import Plans
from ranp.pipeline._halving import Round
from ranp.surgery import slim
from ranp.training import SCORE, Keep, Moment, Trained, train_

Loss = Callable[[Any, Any], Tensor]
Validate = Callable[[nn.Module], Mapping[str, float]]
Outcome = dict[str, Any]
"""What came of a training: its score and history, or the reason why it failed."""


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
class Trials:
    """The trainings of a search, each of which leaves a file."""

    place: Path
    plans: Plans
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


def scores_of(outcomes: Mapping[str, Sequence[Outcome]]) -> dict[str, list[float]]:
    """Return the scores by seed of those that did not fail."""
    return {
        name: [outcome["score"] for outcome in each] for name, each in outcomes.items() if reason_of(each) is None
    }  # fmt: skip


def reason_of(outcomes: Sequence[Outcome]) -> str | None:
    """Return why a training of a candidate failed; None where none did."""
    return next((str(outcome["failed"]) for outcome in outcomes if "failed" in outcome), None)
