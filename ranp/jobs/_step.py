"""The training step that options name for a network: its loss, with a target of the right shape, and its optimizer."""

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn

from ranp import runs
from ranp.cost import Step, peak_training_memory
from ranp.data import losses
from ranp.data.sources import PHANTOM, FromNumbers
from ranp.errors import UsageError, named
from ranp.inputs import Inputs, Shape, flatten
from ranp.jobs._subject import Subject
from ranp.jobs._task import loss_of, maxdisp_of
from ranp.jobs.options import Trained
from ranp.models.folders import PRUNED, kind_of
from ranp.models.outputs import output_shape
from ranp.options import Optimizing, Options, Training, is_path
from ranp.training import optimizer_of, resolved

_VALUES = ("mse", "l1")
_MASKS = ("bce", "bce-dice")


def read_step(options: Trained, subject: Subject) -> tuple[str, Training, Step]:
    """Return the word of the loss, the options of the training, and the step: that of `ranp train` with its defaults.

    Args:
        options: of the optimizer and the loss.
        subject: the network and its inputs.

    Raises:
        UsageError: as `loss_of`, or a loss that takes no target ranp can think of.
    """
    given = output_shape(subject.network, subject.inputs)
    model, preset, settings = subject.name, subject.preset, {}
    if kind_of(model) is PRUNED:
        config = runs.read(model).config
        model, preset, settings = str(config.get("model")), config.get("preset"), runs.settings_of(config)
    maxdisp = maxdisp_of(model, preset, settings)
    word, loss = loss_of(options, model, preset, given, FromNumbers(PHANTOM, {}), maxdisp, trusted=True)
    return word, *step_of(options, word, loss, subject.network, subject.inputs)


def step_of(
    options: Trained, word: str, loss: losses.Loss, network: nn.Module, inputs: Inputs
) -> tuple[Training, Step]:
    """Return the options of the training and its step, where the loss is known.

    Raises:
        UsageError: a loss that takes no target ranp can think of.
    """
    training = resolved(Training.read(options.only(Optimizing)))
    given = output_shape(network, inputs)

    def optimizer(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return optimizer_of(parameters, training)

    step = Step(
        loss, _target(word, given, inputs), optimizer, training.amp, training.clip or 0.0, training.accumulate,
        tuple(options.checkpoint),
    )  # fmt: skip
    if is_path(word):  # whether it takes labels or values, only it can say
        step = _accepted(network, inputs, step, given)
    return training, step


def refuse_step(options: Options, names: Iterable[str], needed: str) -> None:
    """Refuse options of a training step where nothing asks for one.

    Args:
        options: that were given.
        names: of those of the step.
        needed: what they are of use with, in words.

    Raises:
        UsageError: the first that is given.
    """
    for name in names:
        value = getattr(options, name)
        if value != type(options).model_fields[name].get_default():
            raise UsageError(f"{named(name, value)}: only of use with {needed}")


def _target(word: str, output: Shape, inputs: Inputs) -> Tensor:
    """Return shape and dtype of what an output (C, *spatial) is compared with, on the meta device."""
    first = flatten(inputs)[0]
    batch, spatial = first.shape[0], tuple(first.shape[2:])
    if word in _VALUES or word == "stereo" or (len(spatial) > 1 and output == spatial):
        return torch.empty((batch, *output), device="meta")
    masks = word in _MASKS and output[0] > 1
    return torch.empty((batch, *(output if masks else output[1:])), dtype=torch.int64, device="meta")


def _accepted(network: nn.Module, inputs: Inputs, step: Step, output: Shape) -> Step:
    """Return the step with labels for a target, or with values if the loss refuses those."""
    labels = step.target
    values = torch.empty((labels.shape[0], *output), device="meta")
    try:
        peak_training_memory(network, inputs, step)
    except UsageError as error:
        try:
            peak_training_memory(network, inputs, replace(step, target=values))
        except UsageError:
            raise error from None
        return replace(step, target=values)
    return step
