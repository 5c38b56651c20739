"""The masked network: the full one with every slice that reads a removed unit set to zero.

Statistics over channels (group norm, layer norm, softmax, a mean or a maximum over channels) are no sums of read
channels, so that a zero is not an absence. While a masked network runs they are taken over the kept channels; what
can't be treated so is reported. A weight norm of a slice that was set to zero is 0 / 0, which counts as zero.
"""

from collections import defaultdict
from collections.abc import Callable
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ranp.graph.flow import squeeze_constant
from ranp.graph.graph import Graph, Mask, staying
from ranp.graph.rules import RULES
from ranp.graph.rules.op import Mode, base_name
from ranp.graph.tape import Kind, Record
from ranp.modules import Change, Module, copy_with

Subset = dict[int, tuple[int, Tensor]]  # dimension -> its length, and the kept indices
QUOTIENTS = {"div", "_weight_norm_interface"}
SAME_SHAPE = (Kind.NORM, Kind.SOFTMAX)  # results are as large as what statistics are taken of


def masked(graph: Graph, model: Module, kept: Mask, change: Change | None = None) -> Module:
    """Return a copy of a module in which what reads a removed unit is zero; the module is untouched.

    Args:
        graph: of the module.
        model: the full one.
        kept: units that stay, shape (count,).
        change: of each tensor before it is masked: see `copy_with`.
    """

    def zeroed(name: str, tensor: Tensor) -> Tensor:
        value = tensor if change is None else change(name, tensor)
        if name not in graph.parameters:
            return value
        return value.detach().masked_fill(graph.read_by(name, kept).to(value.device), 0)

    return copy_with(model, zeroed)


class OtherSize(RuntimeError):
    """A statistic over channels that lie in a dimension which changes with the size of the input."""


class KeptStatistics(Mode):
    """Takes statistics over channels from the kept channels alone: in each module in the order of the traced run.

    Args:
        graph: of the network.
        kept: the plan.
        model: the masked network that is to run; its modules are watched meanwhile.
        run: name of the traced run to follow.

    Attributes:
        uncompared: statistics that could not be treated so, in words, one for each op.
    """

    def __init__(self, graph: Graph, kept: Mask, model: nn.Module, run: str = "eval") -> None:
        super().__init__()
        self.uncompared: list[str] = []
        self._fast = True
        self._queues: dict[tuple[str, str], list[Subset]] = defaultdict(list)  # by module and op
        self._model, self._running, self._hooks = model, [""], list[RemovableHandle]()
        records = graph.runs[run].records
        mixed = {record.op for record in records if record.mixing is not None}
        for record in records:
            if record.op in mixed:
                self._queues[record.module, record.op].append(self._subset(kept, record))

    def _subset(self, kept: Mask, record: Record) -> Subset:
        if record.mixing is None:
            return {}
        flow, found = record.inputs[0], {}
        for dim in record.mixing.dims:
            for units in flow.over(dim):
                units = squeeze_constant(units, units)
                mask = staying(kept, units)
                if mask.all() or units.shape[dim] == 1:
                    continue
                if units.size != units.shape[dim]:
                    self.uncompared.append(f"{record.op} at {record.module}: its channels lie in several dimensions")
                    continue
                found[dim] = units.size, torch.from_numpy(mask.ravel().nonzero()[0])
        return found

    def __enter__(self) -> "KeptStatistics":
        """Start; encoder layers run op by op, as they were traced."""
        self._fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        for path, module in self._model.named_modules():
            if not isinstance(module, torch.jit.ScriptModule):  # takes no hooks
                self._hooks.append(module.register_forward_pre_hook(self._entering(path)))
                self._hooks.append(module.register_forward_hook(self._leave, always_call=True))
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def _entering(self, path: str) -> Callable[..., None]:
        return lambda *_: self._running.append(path)

    def _leave(self, *_: Any) -> None:
        self._running.pop()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        torch.backends.mha.set_fastpath_enabled(self._fast)
        while self._hooks:
            self._hooks.pop().remove()
        super().__exit__(kind, error, trace)  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an op; a statistic over channels on the kept ones."""
        name = base_name(func)
        queue = self._queues.get((self._running[-1], name))
        subset = queue.pop(0) if queue else {}
        if not subset:
            out = func(*args, **(kwargs or {}))
            return _without_nan(out, args) if name in QUOTIENTS else out
        if any(args[0].shape[dim] != length for dim, (length, _) in subset.items()):
            raise OtherSize(f"{name}: statistics over channels of another size than in the trace")
        subset = {dim: (length, index.to(args[0].device)) for dim, (length, index) in subset.items()}
        out = func(*_subset_arguments(name, args, subset), **(kwargs or {}))
        if RULES[name].kind not in SAME_SHAPE:
            return out
        if isinstance(out, Tensor):
            return _spread(out, subset)
        return (_spread(out[0], subset), *out[1:])


def _without_nan(out: Any, args: tuple[Any, ...]) -> Any:
    """Return quotients with zero for 0 / 0; what was no number before stays none."""
    if isinstance(out, tuple):
        return tuple(_without_nan(each, args) for each in out)
    if not out.is_floating_point() or any(isinstance(each, Tensor) and each.isnan().any() for each in args):
        return out
    return out.nan_to_num(nan=0.0, posinf=torch.inf, neginf=-torch.inf)


def _subset_arguments(name: str, args: tuple[Any, ...], subset: Subset) -> tuple[Any, ...]:
    """Return the arguments of a statistic with the kept channels alone."""
    tensor = args[0]
    for dim, (_, index) in subset.items():
        tensor = tensor.index_select(dim, index)
    if name == "native_group_norm":
        weight, bias = (_picked(each, 0, subset[1][1]) for each in args[1:3])
        return (tensor, weight, bias, args[3], tensor.shape[1], *args[5:])
    if name == "native_layer_norm":
        first = tensor.ndim - len(args[1])
        weight, bias = args[2:4]
        for dim, (_, index) in subset.items():
            weight, bias = _picked(weight, dim - first, index), _picked(bias, dim - first, index)
        return (tensor, list(tensor.shape[first:]), weight, bias, *args[4:])
    return (tensor, *args[1:])


def _picked(tensor: Tensor | None, dim: int, index: Tensor) -> Tensor | None:
    return None if tensor is None else tensor.index_select(dim, index)


def _spread(part: Tensor, subset: Subset) -> Tensor:
    """Put the results of the kept channels back in their places, zeros elsewhere."""
    for dim, (length, index) in reversed(subset.items()):
        shape = list(part.shape)
        shape[dim] = length
        part = part.new_zeros(shape).index_copy(dim, index, part)
    return part
