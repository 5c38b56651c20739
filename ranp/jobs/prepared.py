"""A training whose options are known to be good, and what it is measured on."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from ranp import runs
from ranp.data import losses
from ranp.data.sources import Drawing, Opened
from ranp.inputs import Shape
from ranp.jobs.options import Train
from ranp.options import Training
from ranp.report.contact import Tile, shown
from ranp.report.samples import packed
from ranp.training import Distillation, Evaluation, Scores, evaluate

_SHOWN = 3  # cases whose pictures are kept


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
        source: of the batches.
        drawing: how they are drawn.
        output: shape of the network's, without the batch.
        trained_on: what the batches are drawn from, in words.
        learned: what the network has to know of its data, for `ranp predict`.
        teaching: the teacher, or None.
        rounds: options of `prune_round`, of batches to score on and how; None where nothing is pruned.
        unseen: names of the classes that no training case has.
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
    source: Opened
    drawing: Drawing
    output: Shape
    trained_on: str
    learned: dict[str, Any] = field(default_factory=dict)
    teaching: Distillation | None = None
    rounds: dict[str, Any] | None = None
    unseen: tuple[str, ...] = ()


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
        latest: what was measured last.
    """

    source: Opened
    inputs: tuple[Tensor, ...]
    how: Drawing
    split: str | None
    outputs: tuple[int, ...]
    device: str
    said: str
    latest: Scores | None = None

    def __call__(self, network: nn.Module) -> dict[str, float]:
        """Measure a network, without its surfaces, which takes long; what can't be measured is left out."""
        self.latest = evaluate(
            network, self.source, self.inputs, how=self.how, split=self.split, outputs=self.outputs, device=self.device,
            surfaces=False,
        )  # fmt: skip
        figures = {"score": self.latest.score, **self.latest.figures()}
        return {name: value for name, value in figures.items() if value == value}

    def scores(self, network: nn.Module) -> Scores:
        """Return what was measured last; a training that goes on after its last step measures the network now."""
        if self.latest is None:
            self(network)
        assert self.latest is not None
        return self.latest

    def samples(self, network: nn.Module) -> bytes | None:
        """Return pictures of what a network says of the first cases, None where they are no pictures."""
        scores = self.scores(network)
        names = ("background", *scores.classes[1:]) if scores.first else scores.classes  # which is not coloured
        how = replace(self.how, batches=-(-_SHOWN // self.how.batch_size))
        asked = Evaluation(network, self.source, self.inputs, how, self.split, self.outputs, device=self.device)
        found: list[Tile] = []
        for (task, judged), _ in zip(asked.judged(range(min(_SHOWN, len(scores.cases)))), range(_SHOWN), strict=False):
            truth, inputs = judged.truth, judged.inputs
            if truth.back is not None:
                inputs = tuple(truth.back(part) for part in inputs)
            found += shown(judged.name, inputs, truth.target, judged.prediction, task, names, truth.axes)
        return packed(found, names) if found else None
