"""A training whose options are known to be good, and what it is measured on."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from ranp import runs
from ranp.data import losses
from ranp.data.sources import Drawing, Opened
from ranp.inputs import Shape
from ranp.jobs.options import Train
from ranp.options import Training
from ranp.training import Distillation, Scores, evaluate


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
        rounds: options of `prune_round`, of batches to score on and how; None where nothing is pruned.
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
    rounds: dict[str, Any] | None = None


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
