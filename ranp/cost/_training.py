"""Peak memory of a training step, found by running it on tensors that have shapes and storages but no data.

A step is forward, loss, backward, optimizer step, as `ranp train` takes it. It runs on fake CPU tensors while a
dispatch mode adds up the storages that are alive: to the byte what a real step on the CPU makes. On a GPU the true peak
is at least this: the workspaces of cuDNN come on top. Measured on an H200 they added nothing where activations
dominate, 6 to 12 % for small U-Nets, and as much again in the worst of 21 settings. Dropout is over-predicted: on the
CPU its mask is kept as floats.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, fields
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.optim import AdamW, Optimizer
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint

from ranp.cost._known import AsOnTheCpu, Known
from ranp.cost._tracker import StorageTracker
from ranp.errors import UnsupportedError, UsageError, is_ours, named, nearest, told
from ranp.inputs import Inputs, as_arguments, flatten, map_tensors
from ranp.modules import copy_with, tensors_of, undisturbed
from ranp.options import Amp

AMP_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class TrainingMemory:
    """Memory of a training step in its steady state, in bytes; the true peak is at least `peak`.

    The parts add up to the peak: they are what is alive then, not the most that each ever is.

    Args:
        peak: most that is alive at once.
        parameters: parameters and buffers.
        gradients: of the parameters.
        optimizer: its state, and that of the scaler of fp16.
        inputs: inputs and targets.
        activations: what forward and loss keep for the backward.
        temporaries: the rest: gradients on their way, results of ops that are soon freed, what checkpointing repeats.
        module: that was running; "" for what no module of the network did.
        phase: forward, loss, backward or optimizer.
    """

    peak: int
    parameters: int
    gradients: int
    optimizer: int
    inputs: int
    activations: int
    temporaries: int
    module: str
    phase: str

    @classmethod
    def of(cls, tracker: StorageTracker) -> "TrainingMemory":
        """Return the peak of a step that was followed."""
        last, alive = tracker.peak()
        sizes = dict.fromkeys(PARTS, 0)
        for block in alive:
            sizes[block.part or "temporaries"] += block.size
        return cls(sum(sizes.values()), **sizes, module=last.where, phase=last.phase)

    def to_dict(self) -> dict[str, int | str]:
        """Return the figures by name."""
        return asdict(self)


PARTS = tuple(each.name for each in fields(TrainingMemory) if each.name not in ("peak", "module", "phase"))
"""What a peak consists of."""


def mean_of_outputs(outputs: Any, target: Any = None) -> Tensor:
    """Return the sum of the means of every floating output: a loss that needs no target and next to no memory."""
    del target
    floating = [tensor for tensor in flatten(outputs) if tensor.is_floating_point()]
    return torch.stack([tensor.mean() for tensor in floating]).sum()


@dataclass(frozen=True)
class Step:
    """How a network is trained, as far as it takes memory.

    Args:
        loss: of (outputs, target), a scalar; what it stores counts.
        target: shapes and dtypes of what outputs are compared with; it is taken to be zero everywhere.
        optimizer: from parameters to an optimizer.
        amp: autocast: off, bf16 or fp16, with a scaler.
        clip: largest norm of the gradient, 0 for any.
        accumulate: batches whose gradients make one step.
        checkpoint: names or globs of modules whose insides are not kept for the backward but computed again.
    """

    loss: Callable[[Any, Any], Tensor] = mean_of_outputs
    target: Any = None
    optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] = field(default=AdamW)
    amp: Amp = "off"
    clip: float = 0.0
    accumulate: int = 1
    checkpoint: Sequence[str] = ()


_PLAIN = Step()


def training_peak(network: nn.Module, inputs: Inputs, step: Step = _PLAIN) -> int:
    """Return the least bytes that a training step takes, such as of a plan's slim network: see `peak_training_memory`.

    >>> training_peak(nn.Linear(128, 128, bias=False), torch.zeros(1, 128))
    394752
    """
    return peak_training_memory(network, inputs, step).peak


def peak_training_memory(model: nn.Module, inputs: Inputs, step: Step = _PLAIN) -> TrainingMemory:
    """Predict the least memory a training step takes, without data, a GPU, or the memory itself.

    Args:
        model: of any device; it is untouched.
        inputs: a tensor, a tuple of positional inputs, or a dict of keyword inputs; only shapes and dtypes matter.
        step: what is replayed; without, AdamW in float32 and a loss that takes next to nothing.

    Raises:
        UnsupportedError: the network can't run without data, with what stopped it.
        UsageError: the loss refuses outputs or target, or no module has a name to be checkpointed.

    Example:
        >>> peak_training_memory(nn.Linear(128, 128, bias=False), torch.zeros(1, 128)).parameters
        65536
    """

    return TrainingMemory.of(followed(model, inputs, step))


def inference_peak(model: nn.Module, inputs: Inputs) -> int:
    """Return the least bytes that a forward in evaluation mode takes, with parameters, buffers and inputs.

    Raises:
        UnsupportedError: as `peak_training_memory`.

    >>> inference_peak(nn.Sequential(nn.Linear(128, 256, bias=False), nn.ReLU()), torch.zeros(1, 128))
    133632
    """
    return followed(model, inputs, None).most


def followed(model: nn.Module, inputs: Inputs, step: Step | None) -> StorageTracker:
    """Return what was alive when in a training step, or in a forward in evaluation mode where there is no step.

    Raises:
        UnsupportedError: as `peak_training_memory`.
        UsageError: as `peak_training_memory`.
    """

    def fake(tensor: Tensor) -> Tensor:
        return torch.empty(tensor.shape, dtype=tensor.dtype)

    given: dict[int, Tensor] = {}

    def once(tensor: Tensor) -> Tensor:  # what is given twice, such as one image as both of a pair, is one tensor
        if id(tensor) not in given:
            given[id(tensor)] = fake(tensor)
        return given[id(tensor)]

    try:
        with undisturbed(), _quiet(), FakeTensorMode(allow_non_fake_inputs=True):  # a module may hold tensors in a list
            copied = copy_with(model, lambda _, tensor: fake(tensor))
            inputs = map_tensors(inputs, once)
            if step is None:
                return _forward(copied.eval(), inputs)
            checkpointed_(copied.train(), step.checkpoint)
            target = None if step.target is None else map_tensors(step.target, fake)
            return _replayed(copied, inputs, target, step)
    except Exception as error:  # whatever a network raises on tensors without data
        if is_ours(error):
            raise
        what = "forward" if step is None else "training step"
        raise UnsupportedError(f"the {what} can't be replayed: {told(error)}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch from logging the traceback of what a network refuses: the error says it."""
    log = logging.getLogger("torch._subclasses.fake_tensor")
    was, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = was


def _forward(model: nn.Module, inputs: Any) -> StorageTracker:
    tracker = StorageTracker()
    tracker.add(*tensors_of(model).values(), part="parameters")
    tracker.add(*flatten(inputs), part="inputs")
    args, kwargs = as_arguments(inputs)
    with Known(), tracker, AsOnTheCpu(), torch.no_grad(), tracker.following(model):
        tracker.begin()
        tracker.phase = "forward"
        model(*args, **kwargs)
    return tracker


def _replayed(model: nn.Module, inputs: Any, target: Any, step: Step) -> StorageTracker:
    taking, tracker, known = Taking(model, step), StorageTracker(), Known()
    tracker.add(*tensors_of(model).values(), part="parameters")
    given = [leaf for leaf in tree_leaves((inputs, target)) if isinstance(leaf, Tensor)]
    tracker.add(*given, part="inputs")
    for tensor in flatten(target):
        known.hold(tensor, 0)
    with ExitStack() as stack:
        for mode in (known, tracker, AsOnTheCpu()):
            stack.enter_context(mode)
        taking.warm_up()
        tracker.mark_rest("optimizer")
        stack.enter_context(tracker.following(model))
        before = len(tracker.live)
        for _ in range(2):
            tracker.begin()
            taking.step(inputs, target, tracker)
            if len(tracker.live) == before:  # else the network keeps something of a step, such as MONAI's heads
                break
    return tracker


class Taking:
    """Takes steps of a network in place.

    Args:
        model: in training mode, with its tensors where it runs.
        step: how.
        device: the kind it runs on.
    """

    def __init__(self, model: nn.Module, how: Step, device: str = "cpu") -> None:
        self.model, self.how, self.device = model, how, device
        self.trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = how.optimizer(self.trained)
        self.scaler = torch.amp.GradScaler(device, enabled=how.amp == "fp16")

    def warm_up(self) -> None:
        """Let optimizer and scaler make their state, by a step with gradients of zero."""
        self.scaler.scale(torch.zeros((), device=self.device))
        for parameter in self.trained:
            parameter.grad = torch.zeros_like(parameter)
        self._update()

    def step(self, inputs: Any, target: Any, tracker: StorageTracker | None = None) -> None:
        """Take a step, as `ranp train` does; of several batches that are accumulated, two are enough."""
        follow = tracker or StorageTracker()
        args, kwargs = as_arguments(inputs)
        for _ in range(min(self.how.accumulate, 2)):
            with torch.autocast(self.device, AMP_TYPES.get(self.how.amp), enabled=self.how.amp != "off"):
                follow.phase = "forward"
                outputs = self.model(*args, **kwargs)
                follow.phase = "loss"
                value = self.how.loss(outputs, target)
                del outputs
                value = value / self.how.accumulate
            follow.mark_rest("activations")
            follow.phase = "backward"
            self.scaler.scale(value).backward()
            follow.modules[:] = [""]
            follow.phase = "optimizer"
            if tracker is not None:
                follow.mark("gradients", *(p.grad for p in self.trained if p.grad is not None))
        self._update()

    def _update(self) -> None:
        if self.how.clip:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.how.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()


def checkpointed_(model: nn.Module, patterns: Sequence[str]) -> None:
    """Let modules compute their insides again in the backward in the place of keeping them."""
    names = [name for name, _ in model.named_modules() if name]
    for pattern in patterns:
        chosen = [name for name in names if fnmatchcase(name, pattern)]
        if not chosen:
            raise UsageError(f"{named('checkpoint', pattern)}: no module of that name{nearest(pattern, names)}")
        for name in chosen:
            module = model.get_submodule(name)
            # Their draws of random numbers are not repeated: nothing is drawn without data.
            module.forward = partial(checkpoint, module.forward, use_reentrant=False, preserve_rng_state=False)
