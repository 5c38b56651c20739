"""What tensors take, followed op by op: every storage that appears, when it goes, and what was running then."""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ranp.inputs import flatten

_KNOWN = "ranp"
BLOCK = 512  # bytes the CUDA allocator rounds up to


class Block:
    """A storage.

    Args:
        size: bytes, rounded up to the allocator's block.
        where: the module that was running when it appeared.
        phase: of the step.
        part: what it is, as far as that is known.
    """

    __slots__ = ("part", "phase", "size", "where")

    def __init__(self, size: int, where: str, phase: str, part: str) -> None:
        self.size, self.where, self.phase, self.part = size, where, phase, part


class StorageTracker(TorchDispatchMode):
    """Follows the storages that are alive; what happens after `begin` is kept, so that its peak can be looked at."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.phase = ""
        self.modules: list[str] = [""]  # that are running, the innermost last
        self.live: dict[int, Block] = {}
        self._first: list[Block] = []
        self._events: list[tuple[int, Block]] = []

    def add(self, *tensors: Tensor, part: str = "") -> None:
        """Count the storages of tensors until they are freed."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            key = storage._cdata
            if key not in self.live:
                size = -(-storage.nbytes() // BLOCK) * BLOCK
                self.live[key] = block = Block(size, self.modules[-1], self.phase, part)
                self._events.append((size, block))
                weakref.finalize(storage, self._free, key)

    def _free(self, key: int) -> None:
        block = self.live.pop(key)
        self._events.append((-block.size, block))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the op and count what it makes."""
        out = func(*args, **(kwargs or {}))
        if func is torch.ops.prim.device.default:  # which fake tensors are asked for time and again
            return out
        self.add(*(leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)))
        return out

    def mark(self, part: str, *tensors: Tensor) -> None:
        """Say what tensors are."""
        for tensor in tensors:
            self.live[tensor.untyped_storage()._cdata].part = part

    def mark_rest(self, part: str) -> None:
        """Say what all are that are alive now and of which nothing was said."""
        for block in self.live.values():
            block.part = block.part or part

    def begin(self) -> None:
        """Forget what happened before."""
        self._first, self._events = list(self.live.values()), []

    def peak(self) -> tuple[Block, list[Block]]:
        """Return the block that made the peak since `begin`, and all that were alive then."""
        now = most = sum(block.size for block in self._first)
        end = 0
        for place, (change, _) in enumerate(self._events, start=1):
            now += change
            if now > most:
                most, end = now, place
        alive = dict.fromkeys(self._first)
        for change, block in self._events[:end]:
            if change < 0:
                del alive[block]
            else:
                alive[block] = None
        last = self._events[end - 1][1] if end else Block(0, "", "", "")
        return last, list(alive)

    @contextmanager
    def following(self, model: nn.Module) -> Iterator[None]:
        """Know which module runs, forward and backward; backward the one whose result's gradient came last."""
        handles = []
        for name, module in model.named_modules():
            if not isinstance(module, torch.jit.ScriptModule):
                handles.append(module.register_forward_pre_hook(lambda *_, name=name: self.modules.append(name)))
                handles.append(module.register_forward_hook(self._leaving, always_call=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _leaving(self, module: nn.Module, args: Any, outputs: Any) -> None:
        name = self.modules.pop()
        for tensor in flatten(outputs):
            node: Any = tensor.grad_fn
            if node is not None and _KNOWN not in node.metadata:  # else of a module inside
                node.metadata[_KNOWN] = name
                node.register_prehook(lambda _, name=name: self.modules.__setitem__(-1, name))
