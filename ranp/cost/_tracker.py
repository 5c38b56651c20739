"""What tensors take, followed op by op: every storage that appears, when it goes, and what was running then."""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from ranp.graph.rules.op import Mode
from ranp.inputs import flatten

_KNOWN = "ranp"
BLOCK = 512  # bytes the CUDA allocator rounds up to


class Block:
    """A storage.

    Args:
        bytes: that it holds.
        shape: of the tensor that it appeared with.
        where: the module that was running when it appeared.
        phase: of the step.
        part: what it is, as far as that is known.
    """

    __slots__ = ("bytes", "part", "phase", "shape", "where")

    def __init__(self, bytes: int, shape: tuple[int, ...], where: str, phase: str, part: str) -> None:
        self.bytes, self.shape, self.where, self.phase, self.part = bytes, shape, where, phase, part

    @property
    def size(self) -> int:
        """Bytes, rounded up to the allocator's block."""
        return -(-self.bytes // BLOCK) * BLOCK


class StorageTracker(Mode):
    """Follows the storages that are alive; what happens after `begin` is kept, so that its peak can be looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.phase = ""
        self.modules: list[str] = [""]  # that are running, the innermost last
        self.live: dict[int, Block] = {}
        self.first: list[Block] = []  # that were alive at the beginning
        self.events: list[tuple[int, Block]] = []  # since then: 1 for one that appeared, -1 for one that went

    def add(self, *tensors: Tensor, part: str = "") -> None:
        """Count the storages of tensors until they are freed."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            key = storage._cdata
            if key not in self.live:
                shape = tuple(tensor.shape)
                self.live[key] = block = Block(storage.nbytes(), shape, self.modules[-1], self.phase, part)
                self.events.append((1, block))
                weakref.finalize(storage, self._free, key)

    def _free(self, key: int) -> None:
        block = self.live.pop(key)
        self.events.append((-1, block))

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
        self.first, self.events = list(self.live.values()), []

    def peak(self) -> tuple[Block, list[Block]]:
        """Return the block that made the peak since `begin`, and all that were alive then."""
        now = most = sum(block.size for block in self.first)
        end = 0
        for place, (change, block) in enumerate(self.events, start=1):
            now += change * block.size
            if now > most:
                most, end = now, place
        alive = dict.fromkeys(self.first)
        for change, block in self.events[:end]:
            if change < 0:
                del alive[block]
            else:
                alive[block] = None
        last = self.events[end - 1][1] if end else Block(0, (), "", "", "")
        return last, list(alive)

    @property
    def most(self) -> int:
        """The most bytes that were alive at once since `begin`."""
        return sum(block.size for block in self.peak()[1])

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
