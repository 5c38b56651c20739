"""See every ATen op of a run and the module it runs in: what recording, listing and comparing runs have in common."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ranp.graph._quick import quick
from ranp.graph.flow import Flow
from ranp.graph.origins import Asks
from ranp.graph.rules.op import Mode, base_name, tensors_of


@dataclass(slots=True)
class Frame:
    """A call of a module on the way: its path, where it stands in its class, which of the module's calls it is.

    Then its ops so far, and what its first input carries.
    """

    path: str = ""
    place: str = ""
    call: int = 0
    count: int = 0
    flow: Flow | None = None


class Follower(Mode):
    """Counts the ops that yield tensors and knows the module that runs, and which kinds of values the network read."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = [Frame()]
        self.calls: Counter[str] = Counter()  # of each module
        self.last = ""
        self.count = 0
        self.read: set[type] = set()
        self.asks = Asks(listed=self.listed)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the op and hand it on."""
        with torch._C.DisableTorchFunction():
            return self._followed(func, args, kwargs or {})

    def _followed(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name = base_name(func)
        self.last = f"{name} at {self.stack[-1].path or 'the top'}"
        self.before(args, kwargs)
        out = None if kwargs or func._schema.is_mutable else quick(name, args)
        if out is None:
            out = func(*args, **kwargs)
        if isinstance(out, int | float):
            self.read.add(type(out))
            return self.decide(out)
        results = tensors_of(out)
        if results:
            self.after(func, args, kwargs, results)
            self.count += 1
            self.stack[-1].count += 1
        return out

    def begin_(self, model: nn.Module) -> None:
        """See the private copy of a network that is about to run, in its mode."""

    def before(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """See the arguments before an op may write into them."""

    def decide(self, value: Any) -> Any:
        """Return what a condition or a number that a network reads is taken for."""
        return value

    def listed(self, tensor: Tensor) -> Any:
        """Return the values of a tensor in lists, as `Tensor.tolist`; each is read."""
        if tensor.ndim:
            return [self.listed(each) for each in tensor.unbind()]
        return tensor.item()

    def after(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], results: list[Tensor]) -> None:
        """See an op that has run."""

    def enter(self, path: str, place: str, first: Tensor | None) -> None:
        """Enter a module with its first input."""
        self.stack.append(Frame(path, place, self.calls[path]))
        self.calls[path] += 1

    def leave(self, module: nn.Module, first: Tensor | None) -> None:
        """Leave a module with its first output."""
        self.stack.pop()

    def finish(self, outputs: list[Tensor]) -> None:
        """See the outputs of the network."""
