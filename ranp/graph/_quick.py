"""Results of common ops on meta tensors without PyTorch's meta kernels, which are Python and take a millisecond each.

Only the plain cases are taken: floating tensors of one type, of which one has the result's shape. Everything else goes
the usual way, so that errors stay PyTorch's own.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

POINTWISE = {"add", "sub", "mul", "div", "relu", "leaky_relu", "elu", "gelu", "silu", "sigmoid", "tanh", "hardtanh"}
POINTWISE |= {"hardswish", "hardsigmoid", "mish", "softplus"}
EXACT = {"add", "sub", "mul"}  # whole numbers stay whole numbers
SAME = {"slice_scatter", "select_scatter", "_softmax", "_log_softmax"}


def quick(name: str, args: tuple[Any, ...]) -> Tensor | tuple[Tensor, ...] | None:
    """Return an op's result by its shape alone, or None where its kernel must be asked.

    Args:
        name: of the op, without overload.
        args: its positional arguments.
    """
    if name in POINTWISE:
        return _pointwise(name, args)
    if name == "native_batch_norm":
        return _batch_norm(args)
    if name == "convolution":
        return _convolution(*args)
    if name in ("mm", "bmm", "addmm"):
        return _product(*args[-2:], *args[:-2])
    if name == "native_layer_norm":
        return _layer_norm(*args)
    if name in SAME and all(each.is_meta for each in args if isinstance(each, Tensor)) and args[0].numel():
        return _like(args[0])
    return None


def _like(tensor: Tensor) -> Tensor:
    """Return an empty tensor of the same shape; strides are kept where they are not the usual ones."""
    return _empty(tensor.shape, tensor) if tensor.is_contiguous() else torch.empty_like(tensor)


def _empty(shape: Sequence[int], like: Tensor) -> Tensor:
    """Return an empty meta tensor; `new_empty` is Python on meta tensors."""
    return torch.empty(shape, dtype=like.dtype, device="meta")


def _pointwise(name: str, args: tuple[Any, ...]) -> Tensor | None:
    tensors = [each for each in args if isinstance(each, Tensor)]
    first = max(tensors, key=Tensor.numel)
    if not all(each.is_meta and each.dtype == first.dtype for each in tensors):
        return None
    if not first.is_floating_point() and (name not in EXACT or any(isinstance(each, float) for each in args)):
        return None
    if any(each.ndim > first.ndim or not _fits(each, first) for each in tensors):
        return None
    return _like(first)


def _fits(small: Tensor, large: Tensor) -> bool:
    """Whether a tensor broadcasts to the shape of another."""
    pairs = zip(reversed(small.shape), reversed(large.shape), strict=False)
    return all(a == b or a == 1 for a, b in pairs)


def _batch_norm(args: tuple[Any, ...]) -> tuple[Tensor, ...] | None:
    tensor, parameters = args[0], [each for each in args[1:5] if isinstance(each, Tensor)]
    if not tensor.is_meta or tensor.ndim < 2 or any(each.shape != tensor.shape[1:2] for each in parameters):
        return None
    return _like(tensor), _empty(tensor.shape[1:2], tensor), _empty(tensor.shape[1:2], tensor)


def _product(left: Tensor, right: Tensor, *added: Tensor) -> Tensor | None:
    *batch, rows, inner = left.shape
    if not all(each.is_meta and each.dtype == left.dtype for each in (right, *added)) or not left.is_meta:
        return None
    if not left.numel() or right.shape[:-1] != (*batch, inner):
        return None
    result = _empty((*batch, rows, right.shape[-1]), left)
    return result if all(_fits(each, result) and each.ndim <= 2 for each in added) else None


def _layer_norm(tensor: Tensor, sizes: list[int], *rest: Any) -> tuple[Tensor, ...] | None:
    parameters, count = [each for each in rest[:2] if isinstance(each, Tensor)], tensor.ndim - len(sizes)
    if not all(each.is_meta and each.dtype == tensor.dtype for each in (tensor, *parameters)):
        return None
    if any(tuple(shape) != tuple(sizes) for shape in (tensor.shape[count:], *(p.shape for p in parameters))):
        return None
    if not tensor.numel() or tensor.dtype not in (torch.float32, torch.float64):
        return None
    statistic = (*tensor.shape[:count], *(1,) * len(sizes))
    return _empty(tensor.shape, tensor), _empty(statistic, tensor), _empty(statistic, tensor)


def _convolution(
    tensor: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
) -> Tensor | None:
    if transposed or not tensor.is_meta or not weight.is_meta or tensor.dtype != weight.dtype:
        return None
    dims = tensor.ndim - 2
    if weight.ndim != tensor.ndim or not len(stride) == len(padding) == len(dilation) == dims:
        return None
    if tensor.shape[1] != weight.shape[1] * groups or weight.shape[0] % groups or not tensor.is_contiguous():
        return None
    if bias is not None and bias.shape != weight.shape[:1]:
        return None
    each = zip(tensor.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True)
    sizes = [(n + 2 * pad - spread * (kernel - 1) - 1) // step + 1 for n, kernel, step, pad, spread in each]
    if min(sizes) < 1 or not tensor.numel():
        return None
    return _empty((tensor.shape[0], weight.shape[0], *sizes), tensor)
