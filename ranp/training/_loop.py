"""A plain training loop: batches in, a trained network and its curves out; stopped, it can go on as if it had not been.

Everything random in a step is drawn from its seed and number, the rate is a function of the number, and batches are
asked for by number. So what has to be kept of a training are the weights, the optimizer and what was measured.

Processes that work together (`ranp.processes`) draw the same batches, and each goes through its part of every one; the
gradients are the mean of theirs, so that a step is that of one process where the loss is a mean over samples.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils._pytree import tree_map_only

from ranp import processes
from ranp.errors import CheckFailed, UsageError, named
from ranp.inputs import as_arguments, seed_of
from ranp.modules import tensors_of
from ranp.options import Training
from ranp.training._checkpoints import read_state, write_state
from ranp.training._distillation import Distillation
from ranp.training._recipes import resolved
from ranp.training._schedules import rate_at

Loss = Callable[[Any, Any], Tensor]
Validate = Callable[[nn.Module], Mapping[str, float]]
Watch = Callable[["Moment"], None]

_POINTS = 1000  # of a curve
_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
SCORE = "score"
"""What a validation is compared by; higher is better."""


@dataclass(frozen=True)
class Moment:
    """Where a training stands, for whoever watches.

    Args:
        step: steps that are done.
        steps: of the whole training.
        loss: the mean since the last point of the curve.
        rate: the learning rate.
        validation: the latest, by name.
        per_second: samples.
        measured: the step of the latest validation, 0 before the first.
        part: which of several trainings it is, in words.
        before: steps of the trainings before.
    """

    step: int
    steps: int
    loss: float
    rate: float
    validation: Mapping[str, float]
    per_second: float
    measured: int = 0
    part: str = ""
    before: int = 0


@dataclass
class History:
    """What a training measured.

    Args:
        curve: step, loss and learning rate at each point; the loss is the mean of the steps since the point before.
        validations: step and what was measured, by name.
        best: the step and the score of the best validation, if there was one.
        seconds: that all steps took together, without validations.
        samples: that all steps took together.
    """

    curve: list[dict[str, float]] = field(default_factory=list)
    validations: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    samples: int = 0


@dataclass(frozen=True)
class Keep:
    """Where and how often the state of a training is kept.

    Args:
        path: of the file.
        every: steps.
        resume: whether to go on from the file, if it is there.
        asked: what the training was asked for; a file of another training is refused.
    """

    path: Path
    every: int
    resume: bool = False
    asked: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Trained:
    """A trained network's weights and history.

    Args:
        best: weights at the best validation, of equals the later one; the last where nothing was validated.
        last: weights after the last step, or their average (`ema`).
        history: what was measured.
    """

    best: dict[str, Tensor]
    last: dict[str, Tensor]
    history: History


def train_(
    network: nn.Module,
    batches: Iterable[Any],
    loss: Loss,
    training: Training,
    *,
    per_epoch: float | None = None,
    validate: Validate | None = None,
    validate_every: int | None = None,
    keep: Keep | None = None,
    teaching: Distillation | None = None,
    rates: Mapping[str, float] | None = None,
    device: torch.device | str = "cpu",
    seed: int = 0,
    watch: Watch | None = None,
) -> Trained:
    """Train a network in place; it holds the last weights afterwards.

    With several processes the first measures, keeps the state and says what was best. What is not a mean over samples
    is one of a process' part: the statistics of batch norms (but with `sync_bn`, which changes the norms' class), and
    losses that divide by what the batch holds. Dropout draws apart in each.

    Args:
        network: moved to the device and trained.
        batches: of (inputs, target), steps * accumulate of them; iterated again where they end before. With a method
            `since(number)` they are asked for from a batch on, else those before are drawn and dropped.
        loss: of (outputs, target).
        training: steps (or epochs), optimizer, schedule and so on.
        per_epoch: steps in an epoch, for epochs and for schedules that count them.
        validate: measures the network (its average, with `ema`) in evaluation mode; SCORE, of which higher is better,
            or else the first value, says which weights are the best.
        validate_every: steps; by default ten times in all.
        keep: the state, so that a killed training goes on to the same weights.
        teaching: a trained network that has a part in the loss.
        rates: factors of the learning rate, by patterns of parameters' names (`encoder.*`); the first that fits counts.
        device: where to train.
        seed: of dropout and whatever else a forward draws.
        watch: called after every step.

    Returns:
        best and last weights, on the CPU, and what was measured.

    Raises:
        UsageError: neither steps nor epochs, no batches, a state of another training, or batches that can't be divided
            among the processes.
        CheckFailed: the loss is NaN or infinite; the state that was kept last is that of a step before.
    """
    training = resolved(training)
    own = torch.device(processes.own_device(str(device)))
    state = _State(
        network, loss, training, _steps_of(training, per_epoch, batches), per_epoch, own, seed, teaching, rates
    )
    if keep is not None and keep.resume:
        where, place = keep.path, own if processes.count() == 1 else "cpu"
        before = processes.from_first(lambda: read_state(where, place) if where.exists() else None)
        if before is not None:
            state.restore(before, keep)
    every = validate_every or max(1, state.steps // 10)
    with torch.random.fork_rng(devices=state.cuda):
        stream = _drawn(batches, state.step * training.accumulate, seed)
        for step in range(state.step + 1, state.steps + 1):
            with processes.attended():
                state.advance(islice(stream, training.accumulate))
            if validate is not None and (step % every == 0 or step == state.steps):
                state.validated(processes.from_first(lambda: _measured(state.averaged, validate)))
            if watch is not None:
                watch(state.moment())
            if keep is not None and (step % keep.every == 0 or step == state.steps):
                state.check_losses()
                kept = {**state.kept(), "asked": dict(keep.asked)}
                if processes.rank() == 0:
                    write_state(keep.path, kept)
    return Trained(state.best or state.weights(), state.weights(), state.history)


def _measured(network: nn.Module, validate: Validate) -> Mapping[str, float]:
    with torch.no_grad():
        return dict(validate(network.eval()))


class _State:
    """What changes from step to step."""

    def __init__(
        self,
        network: nn.Module,
        loss: Loss,
        training: Training,
        steps: int,
        per_epoch: float | None,
        device: torch.device,
        seed: int,
        teaching: Distillation | None = None,
        rates: Mapping[str, float] | None = None,
    ) -> None:
        self.teaching = teaching
        self.training, self.loss, self.device, self.seed = training, loss, device, seed
        self.steps, self.per_epoch, self.step = steps, per_epoch or float(steps), 0
        if training.sync_bn:
            network = _with_whole_norms_(network, device)
        self.network = network.to(device)
        if training.channels_last:
            for tensor in [*network.parameters(), *network.buffers()]:
                tensor.data = _channels_last(tensor.data)
        self.optimizer = optimizer_of(_paced(network, rates) if rates else network.parameters(), training)
        self.scaler = torch.amp.GradScaler(device.type, enabled=training.amp == "fp16")
        self.average = AveragedModel(network, use_buffers=True) if training.ema else None
        self.parallel = _parallel(network, device)
        self._met = False  # whether a step was taken: its first backward, which learns the graph, has to be a joint one
        forward = network if self.parallel is None else self.parallel
        self.forward: Callable[..., Any] = torch.compile(forward) if training.compile else forward
        self.history = History()
        self.best: dict[str, Tensor] = {}
        self._losses = torch.full((max(1, steps // _POINTS),), torch.nan, device=device)  # since the last point

    @property
    def cuda(self) -> list[torch.device]:
        """The devices whose generators a forward draws from, beside the CPU's."""
        return [self.device] if self.device.type == "cuda" else []

    @property
    def averaged(self) -> nn.Module:
        """The network that is measured and kept."""
        return self.network if self.average is None else self.average.module

    @property
    def rate(self) -> float:
        """The learning rate of the step that is next, after the last that of the last."""
        return rate_at(min(self.step, self.steps - 1), self.steps, self.per_epoch, self.training)

    def advance(self, batches: Iterable[Any]) -> None:
        """Take a step.

        Raises:
            UsageError: there are no more batches.
            CheckFailed: a loss is not a number.
        """
        began = time.perf_counter()
        self.network.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * group.get("factor", 1.0)
        total, samples = torch.zeros((), device=self.device), 0
        for place, (inputs, target) in enumerate(batches, start=1):
            samples += len(target)
            inputs, target = tree_map_only(Tensor, self._moved, self._part((inputs, target), len(target), place))
            args, kwargs = as_arguments(inputs)
            with ExitStack() as stack:
                if self.parallel is not None and self._met and place < self.training.accumulate:
                    stack.enter_context(self.parallel.no_sync())  # the last adds what all have
                with torch.autocast(
                    self.device.type, _TYPES.get(self.training.amp), enabled=self.training.amp != "off"
                ):
                    outputs = self.forward(*args, **kwargs)
                    value = self.loss(outputs, target)
                    if self.teaching is not None:
                        value = self.teaching(value, inputs, outputs, target)
                    value = value / self.training.accumulate
                self.scaler.scale(value).backward()
            total += value.detach()
        if not samples:
            raise UsageError(f"step {self.step + 1}: there are no batches")
        if self.training.clip:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.network.parameters(), self.training.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        self._met = True
        if self.average is not None:  # the first steps are left behind: a decay of 0.999 remembers a thousand
            decay = min(self.training.ema, (1 + self.step) / (10 + self.step))
            self.average.multi_avg_fn = get_ema_multi_avg_fn(decay)
            self.average.update_parameters(self.network)
        self._losses[self.step % len(self._losses)] = total
        self.step += 1
        self.history.seconds += time.perf_counter() - began
        self.history.samples += samples
        if self.step % len(self._losses) == 0:
            self.check_losses()
            point = {"step": self.step, "loss": float(self._losses.mean()), "lr": self.optimizer.param_groups[0]["lr"]}
            self.history.curve.append(point)

    def check_losses(self) -> None:
        """Refuse to go on with a loss that is not a number; one look for many steps, as a look waits for the device."""
        count = self.step % len(self._losses) or len(self._losses)
        losses = processes.mean(self._losses[:count])
        self._losses[:count] = losses
        wrong = ~losses.isfinite()
        if wrong.any():
            place = int(wrong.nonzero()[0])
            step = self.step - count + place + 1
            raise CheckFailed(f"step {step}: the loss is {float(losses[place])}")

    def validated(self, found: Mapping[str, float]) -> None:
        """Enter a validation, and keep the weights if they are the best so far; of equals the later ones.

        A network that has learned nothing yet scores 0 again and again, while its loss falls.
        """
        self.history.validations.append({"step": self.step, **found})
        score = found.get(SCORE, next(iter(found.values())))
        if not self.history.best or score >= self.history.best[SCORE]:
            self.history.best = {"step": self.step, SCORE: score}
            self.best = self.weights()

    def weights(self) -> dict[str, Tensor]:
        """Copy the weights that are measured to the CPU."""
        whole = torch.contiguous_format  # as files take them, whatever the layout that is trained in
        return {
            name: value.detach().cpu().clone(memory_format=whole) for name, value in tensors_of(self.averaged).items()
        }

    def moment(self) -> Moment:
        """Say where the training stands."""
        history = self.history
        latest = history.curve[-1] if history.curve else {"loss": float("nan"), "lr": self.rate}
        speed = history.samples / history.seconds if history.seconds else 0.0
        validation = dict(history.validations[-1]) if history.validations else {"step": 0}
        measured = int(validation.pop("step"))
        return Moment(self.step, self.steps, latest["loss"], latest["lr"], validation, speed, measured)

    def kept(self) -> dict[str, Any]:
        """Return all that `restore` needs."""
        return {
            "step": self.step,
            "network": tensors_of(self.network),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": {} if self.average is None else self.average.state_dict(),
            "best": self.best,
            "losses": self._losses,
            "history": asdict(self.history),
        }

    def restore(self, kept: dict[str, Any], keep: Keep) -> None:
        """Go back to a state.

        Raises:
            UsageError: it is of another training.
        """
        check_asked(keep.asked, kept["asked"], keep.path)
        for name, tensor in tensors_of(self.network).items():
            tensor.data.copy_(kept["network"][name])
        self.optimizer.load_state_dict(kept["optimizer"])
        self.scaler.load_state_dict(kept["scaler"])
        if self.average is not None:
            self.average.load_state_dict(kept["average"])
        self.step, self.history = kept["step"], History(**kept["history"])
        self.best = {name: tensor.cpu() for name, tensor in kept["best"].items()}
        self._losses.copy_(kept["losses"])

    def _part(self, batch: Any, size: int, place: int) -> Any:
        """Return this process' part of the samples; its forward draws apart from those of the others."""
        if self.parallel is None:
            return batch
        if rank := processes.rank():
            torch.manual_seed(seed_of(self.seed, self.step, place, rank))
        part = processes.share_of(size)
        return tree_map_only(Tensor, lambda tensor: tensor[part] if tensor.shape[:1] == (size,) else tensor, batch)

    def _moved(self, tensor: Tensor) -> Tensor:
        moved = tensor.as_subclass(Tensor).to(self.device, non_blocking=True)
        return _channels_last(moved) if self.training.channels_last else moved


def check_asked(asked: Mapping[str, Any], before: Mapping[str, Any], where: Path, what: str = "training") -> None:
    """Refuse to go on with something that was asked for otherwise.

    Raises:
        UsageError: the first difference.
    """
    for name, value in asked.items():
        if before.get(name) != value:
            raise UsageError(f"{named(name, value)}: the {what} in {where} was asked for {before.get(name)}")


def _steps_of(training: Training, per_epoch: float | None, batches: Iterable[Any]) -> int:
    if (training.steps is None) == (training.epochs is None):
        raise UsageError(f"give either {named('steps')} or {named('epochs')}")
    if training.steps is not None:
        return training.steps
    assert training.epochs is not None
    if per_epoch is None and not isinstance(batches, Sized):
        raise UsageError(
            f"{named('epochs', training.epochs)}: the batches do not say how many they are; give {named('steps')}"
        )
    return math.ceil(training.epochs * (per_epoch or len(batches) / training.accumulate))  # type: ignore[arg-type]


def _parallel(network: nn.Module, device: torch.device) -> DistributedDataParallel | None:
    """Return what runs the network and adds up the gradients of all processes, where there are several."""
    if processes.count() == 1:
        return None
    with processes.attended():
        devices = [device] if device.type == "cuda" else None
        return DistributedDataParallel(network, device_ids=devices, static_graph=True)


def _with_whole_norms_(network: nn.Module, device: torch.device) -> nn.Module:
    """Let the batch norms of a network measure the batches of all processes.

    Raises:
        UsageError: on a CPU, which torch's can't do.
    """
    if device.type == "cpu":
        raise UsageError(
            f"{named('sync_bn', True)}: torch's SyncBatchNorm works on GPUs only; expected {named('device', 'cuda')}"
        )
    whole: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    return whole


def _paced(network: nn.Module, rates: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return the parameters in groups of one factor of the learning rate; those that no pattern fits come first."""
    groups: dict[float, list[nn.Parameter]] = {1.0: []}
    for name, parameter in network.named_parameters():
        factor = next((rates[pattern] for pattern in rates if fnmatchcase(name, pattern)), 1.0)
        if parameter.requires_grad:
            groups.setdefault(factor, []).append(parameter)
    return [{"params": members, "factor": factor} for factor, members in groups.items() if members]


def optimizer_of(parameters: Iterable[nn.Parameter | dict[str, Any]], training: Training) -> torch.optim.Optimizer:
    """Return the optimizer that resolved options name, of the parameters that are trained, or of groups of them.

    Raises:
        UsageError: there are none.
    """
    trained: list[Any] = [each for each in parameters if isinstance(each, dict) or each.requires_grad]
    if not trained:
        raise UsageError("the network has no parameter to train")
    assert training.lr is not None
    assert training.weight_decay is not None
    shared: dict[str, Any] = {"lr": training.lr, "weight_decay": training.weight_decay}
    if training.optimizer == "sgd":
        return torch.optim.SGD(trained, momentum=training.momentum or 0.0, nesterov=bool(training.momentum), **shared)
    kind = torch.optim.Adam if training.optimizer == "adam" else torch.optim.AdamW
    return kind(trained, amsgrad=bool(training.amsgrad), **shared)


def _drawn(batches: Iterable[Any], first: int, seed: int) -> Iterator[Any]:
    """Go on from a batch, again and again; each is drawn with its own numbers, also where those before are dropped."""
    since = getattr(batches, "since", None)
    number = first if since else 0
    while True:
        _seed(seed, number)
        iterator = iter(since(number)) if since and number == first else iter(batches)
        began = number
        for batch in iterator:
            if number >= first:
                yield batch
            number += 1
            _seed(seed, number)
        if number == began:
            return


def _seed(seed: int, number: int) -> None:
    torch.manual_seed(seed_of(seed, number))


def _channels_last(tensor: Tensor) -> Tensor:
    """Return a tensor of four or five dimensions with its channels last in memory, any other as it is."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return tensor.contiguous(memory_format=formats[tensor.dim()]) if tensor.dim() in formats else tensor
