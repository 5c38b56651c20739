"""What a run of a network shows: which modules ran when, on what, and what they gave; and how a feature is kept."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ranp.errors import UsageError
from ranp.inputs import Inputs, as_arguments, flatten, map_tensors
from ranp.modules import copy_with, on_meta


class Feature:
    """A feature on its way from where it is computed to the part of a decoder that looks at it.

    Args:
        name: where it is computed.
        index: of the positional input that it is, or None for an output.
    """

    def __init__(self, name: str, index: int | None) -> None:
        self.name, self.index, self._value = name, index, None

    def keep_input(self, _module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Keep an input; a forward pre-hook."""
        assert self.index is not None
        self._value = inputs[self.index] if self.index < len(inputs) else None

    def keep_output(self, _module: nn.Module, _inputs: Any, output: Any) -> None:
        """Keep an output; a forward hook."""
        self._value = output

    def take(self) -> Tensor:
        """Return the feature and let go of it.

        Raises:
            UsageError: it was not computed, or is no tensor.
        """
        value, self._value = self._value, None
        if not isinstance(value, Tensor):
            what = "nothing: it has not run yet" if value is None else f"a {type(value).__name__}"
            raise UsageError(f"{self.name}: expected to give a tensor before the decoder looks at it, got {what}")
        return value

    def __getstate__(self) -> dict[str, Any]:
        """Leave the tensor of an interrupted run out of copies."""
        return {"name": self.name, "index": self.index, "_value": None}


@dataclass
class Call:
    """One call of a module: when it began and ended, the shapes of its tensors."""

    path: str
    began: int
    inputs: list[tuple[int, ...] | None]
    ended: int = 0
    output: tuple[int, ...] | None = None


@dataclass
class Watched:
    """What a run of a network showed; the first call is the network's."""

    calls: list[Call] = field(default_factory=list)
    outputs: list[tuple[int, ...]] = field(default_factory=list)
    clock: int = 0

    def of(self, path: str) -> list[Call]:
        """Return the calls of a module."""
        return [call for call in self.calls if call.path == path]

    def tick(self) -> int:
        """Return the next point in time."""
        self.clock += 1
        return self.clock


def _shape(value: Any) -> tuple[int, ...] | None:
    return tuple(value.shape) if isinstance(value, Tensor) else None


def watch(model: nn.Module, inputs: Inputs) -> Watched:
    """Watch a copy of a network run, on shapes alone where it runs so."""
    try:
        return _watch_run(on_meta(model), map_tensors(inputs, lambda tensor: torch.empty_like(tensor, device="meta")))
    except Exception:  # whatever a network raises that reads values; on real tensors it says what is wrong
        return _watch_run(copy_with(model), inputs)


def _watch_run(model: nn.Module, inputs: Inputs) -> Watched:
    watched = Watched()
    open_calls: list[Call] = []
    args, kwargs = as_arguments(inputs)

    def enter(path: str) -> Callable[..., None]:
        def hook(_module: nn.Module, positional: tuple[Any, ...]) -> None:
            open_calls.append(Call(path, watched.tick(), [_shape(value) for value in positional]))
            watched.calls.append(open_calls[-1])

        return hook

    def leave(_module: nn.Module, _args: Any, output: Any) -> None:
        call = open_calls.pop()
        call.ended, call.output = watched.tick(), _shape(output)

    for path, module in model.named_modules():
        module.register_forward_pre_hook(enter(path))
        module.register_forward_hook(leave, always_call=True)
    with torch.no_grad():
        watched.outputs = [tuple(tensor.shape) for tensor in flatten(model.eval()(*args, **kwargs))]
    return watched
