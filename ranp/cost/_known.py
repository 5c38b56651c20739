"""What is known of the values of tensors without data: those whose elements are all the same number.

A loss reads values: are there labels beyond the classes, how many voxels count? Of a target that is all zeros the
answer follows, op by op, from one number.
"""

import weakref
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

from ranp.graph.rules.op import Mode

aten = torch.ops.aten
_SAME = {  # the result of which holds what the first operand holds
    aten._to_copy, aten.clone, aten.any, aten.all, aten.amax, aten.amin, aten.max, aten.min, aten.index_select,
    aten.upsample_nearest1d, aten.upsample_nearest2d, aten.upsample_nearest3d, aten._adaptive_avg_pool2d,
    aten._adaptive_avg_pool3d, aten.cat, aten.stack, aten.repeat,
}  # fmt: skip
_ZEROS = {aten.zeros, aten.zeros_like, aten.new_zeros}
_REDUCING = {  # whose scalar keeps the storage of what it was reduced from, as PyTorch makes it
    aten.mse_loss, aten.smooth_l1_loss, aten.soft_margin_loss, aten.binary_cross_entropy,
}  # fmt: skip
_HALVES = {torch.bfloat16, torch.float16}  # whose statistics are kept in the float32 of the parameters
_UNCHANGED = {aten._amp_foreach_non_finite_check_and_unscale_}  # of a step that does not overflow


class Known(Mode):
    """Answers what is asked of fake tensors that hold one number everywhere; torch refuses to answer of others."""

    def __init__(self) -> None:
        super().__init__()
        self._values: dict[int, float | int | bool] = {}  # by storage
        self._ranges: dict[int, range] = {}  # by storage

    def hold(self, tensor: Tensor, value: float) -> None:
        """Say what a tensor holds everywhere."""
        _enter(self._values, tensor, value)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the op; where its answer would need values, find it by what is known."""
        kwargs, packet = kwargs or {}, func.overloadpacket
        if packet is torch.ops.prim.device:  # asked for time and again
            return func(*args)
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        values = [self._of(tensor) for tensor in given]
        whole = bool(given) and None not in values
        if packet is aten._local_scalar_dense and (place := self._ranges.get(_key(given[0]))) is not None:
            return place[given[0].storage_offset()]  # MONAI's losses make lists of axes so
        if whole and packet is aten._local_scalar_dense:
            return values[0]
        if whole and packet is aten.equal:
            return args[0].shape == args[1].shape and values[0] == values[1]
        if packet in (aten.index, aten.masked_select) and (mask := self._mask(packet, args)) is not None:
            rest = args[0].shape[mask.dim() :]
            return args[0].new_empty((mask.numel() * bool(self._of(mask)), *rest))
        out = func(*args, **kwargs)
        if packet in _REDUCING and not out.dim():
            out = out.new_empty(torch.broadcast_shapes(given[0].shape, given[1].shape)).resize_(())
        if packet is aten.native_batch_norm and given[0].dtype in _HALVES and torch.float32 in {t.dtype for t in given}:
            out = (out[0], *(each.new_empty(each.shape, dtype=torch.float32) for each in out[1:]))
        if packet is aten.arange and all(isinstance(each, int) for each in args):
            _enter(self._ranges, out, range(*args))
        if func._schema.is_mutable:
            for tensor in given if packet not in _UNCHANGED else ():
                self._values.pop(_key(tensor), None)
                self._ranges.pop(_key(tensor), None)
        elif packet in _ZEROS or packet is aten.full:
            self.hold(out, 0 if packet in _ZEROS else args[1])
        elif whole and isinstance(out, Tensor):
            if packet in _SAME and len({*values}) == 1:
                self.hold(out, _number(values[0], out.dtype))
            elif torch.Tag.pointwise in func.tags:
                self.hold(out, self._alone(func, args, kwargs))
        return out

    def _alone(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Return what an op makes of single numbers."""
        with unset_fake_temporarily():
            single = tree_map_only(Tensor, lambda t: torch.tensor(self._of(t), dtype=t.dtype), (args, kwargs))
            return func(*single[0], **single[1]).item()

    def _of(self, tensor: Tensor) -> float | int | bool | None:
        return self._values.get(_key(tensor))

    def _mask(self, packet: Any, args: tuple[Any, ...]) -> Tensor | None:
        """Return the mask that picks elements, if it is one of which all is known."""
        indices = [args[1]] if packet is aten.masked_select else list(args[1])
        if len(indices) == 1 and indices[0].dtype == torch.bool and self._of(indices[0]) is not None:
            mask: Tensor = indices[0]
            return mask
        return None


def _key(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _enter(table: dict[int, Any], tensor: Tensor, value: Any) -> None:
    """Note something of a tensor's storage for as long as it lives."""
    if _key(tensor) not in table:
        weakref.finalize(tensor.untyped_storage(), table.pop, _key(tensor), None)
    table[_key(tensor)] = value


def _number(value: Any, dtype: torch.dtype) -> float | int | bool:
    return bool(value) if dtype == torch.bool else float(value) if dtype.is_floating_point else int(value)


class AsOnTheCpu(TorchFunctionMode):
    """Lets functions that treat tensors without data in another way make what they make of real ones."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run a function."""
        if func is F.one_hot:
            return _one_hot(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _one_hot(labels: Tensor, num_classes: int = -1) -> Tensor:
    if num_classes == -1:
        num_classes = int(labels.max().item()) + 1
    return labels.new_zeros((*labels.shape, num_classes)).scatter_(-1, labels.unsqueeze(-1), 1)
