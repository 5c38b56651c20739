"""Results of common ops on meta tensors without PyTorch's meta kernels, which are Python: up to milliseconds each.

The first of those to run also imports PyTorch's compiler and sympy, a second's worth. Only the plain cases are taken:
tensors of one floating type, laid out as usual. Everything else goes the usual way, so that errors stay PyTorch's own.
"""

import re
from collections.abc import Callable, Sequence
from functools import cache, lru_cache, partial
from typing import Any

import torch
from torch import Tensor

POINTWISE = {"add", "sub", "mul", "div", "relu", "leaky_relu", "elu", "gelu", "silu", "sigmoid", "tanh", "hardtanh"}
POINTWISE |= {"hardswish", "hardsigmoid", "mish", "softplus", "_prelu_kernel", "clamp_min", "rsub", "exp", "sqrt"}
EXACT = {"add", "sub", "mul"}  # whole numbers stay whole numbers
ANYHOW = {"convolution", "mm", "addmm", "bmm", "repeat", "native_layer_norm"}  # give new tensors, whatever they get
FLOATS, WHOLES = {torch.float32, torch.float64}, {torch.int32, torch.int64}  # no others meet in networks often

Sizes = Sequence[int]
Shapes = list[Sizes]  # of the results; none where the usual kernel must be asked


def quick(name: str, args: tuple[Any, ...]) -> Tensor | tuple[Tensor, ...] | None:
    """Return an op's result by its shape alone, or None where its kernel must be asked.

    Args:
        name: of the op, without overload.
        args: its positional arguments.
    """
    if name in POINTWISE:
        return _pointwise(name, args)
    kind = _kind(name)
    joined = args[0] if kind == "cat" else args
    if kind not in SHAPES or not _alike(tensors := [each for each in joined if isinstance(each, Tensor)]):
        return None
    first = tensors[0]
    if first.dtype not in FLOATS or (kind != name and f"{first.ndim - 2}d" not in name):
        return None
    if kind not in ANYHOW and not _usual(first):
        return None
    results = [_empty(shape, first.dtype) for shape in SHAPES[kind](*args)]
    if results and "max_pool" in name:
        results.append(_empty(results[0].shape, torch.int64))
    return tuple(results) if len(results) > 1 else results[0] if results else None


@cache
def _kind(name: str) -> str:
    """Return an op's name without the number of its spatial dimensions."""
    return re.sub(r"\dd(_with_indices)?$", "", name)


def _alike(tensors: list[Tensor]) -> bool:
    """Whether there are tensors, all without data, dense, of one type and not empty."""
    dtype = tensors[0].dtype if tensors else None
    return bool(dtype) and all(
        t.is_meta and t.dtype == dtype and t.layout is torch.strided and t.numel() for t in tensors
    )


def _usual(tensor: Tensor) -> bool:
    """Whether each step along a dimension is past all of the next ones, as in a new tensor or a part of it."""
    return _nested(tensor.shape, tensor.stride())


@lru_cache(4096)  # most tensors are like others
def _nested(shape: Sizes, strides: Sizes) -> bool:
    inner = [n * step for n, step in zip(shape[1:], strides[1:], strict=True)]
    return all(step >= least > 0 for step, least in zip(strides, [*inner, 1], strict=False))


def _empty(shape: Sizes, dtype: torch.dtype) -> Tensor:
    """Return an empty meta tensor; `new_empty` is Python on meta tensors."""
    return torch.empty(shape, dtype=dtype, device="meta")


def _pointwise(name: str, args: tuple[Any, ...]) -> Tensor | None:
    tensors = [each for each in args if isinstance(each, Tensor)]
    first = max(tensors, key=Tensor.numel)
    if not _alike(tensors) or not all(_fits(each, first.shape) for each in tensors):
        return None
    whole = name in EXACT and first.dtype in WHOLES and not any(isinstance(each, float) for each in args)
    if not (whole or first.dtype in FLOATS) or any(isinstance(each, bool | complex) for each in args):
        return None
    if all(map(_usual, tensors)):
        return _empty(first.shape, first.dtype)
    return torch.empty_like(first) if len(tensors) == 1 and 1 not in first.shape[1:] else None


def _fits(tensor: Tensor, shape: Sizes) -> bool:
    """Whether a tensor broadcasts to a shape."""
    pairs = zip(reversed(tensor.shape), reversed(shape), strict=False)
    return tensor.shape == shape or (tensor.ndim <= len(shape) and all(a == b or a == 1 for a, b in pairs))


def _product(*args: Tensor, dims: int = 2) -> Shapes:
    *added, left, right = args
    if (
        not isinstance(right, Tensor)
        or not left.ndim == right.ndim == dims
        or right.shape[:-1] != (*left.shape[:-2], left.shape[-1])
    ):
        return []
    shape = (*left.shape[:-1], right.shape[-1])
    return [shape] if all(_fits(each, shape) for each in added) else []


def _new(tensor: Tensor) -> bool:
    """Whether nothing about a tensor's layout sets it apart from a new one; norms look closer than others."""
    return _usual(tensor) and tensor.is_contiguous() and tensor.stride()[-1] == 1


def _normed(tensor: Tensor, parameters: Sequence[Tensor | None], sizes: Sizes, statistic: Sizes) -> Shapes:
    fit = all(each is None or (each.shape == tuple(sizes) and _new(each)) for each in parameters)
    return [tensor.shape, statistic, statistic] if fit else []


def _batch_norm(tensor: Tensor, *rest: Any) -> Shapes:
    mean, variance, training = rest[2:5]
    channels = tensor.shape[1:2]
    enough = tensor.numel() > channels.numel() if training else mean is not None
    fits = tensor.ndim > 1 and enough and (mean is None) == (variance is None) and _new(tensor)
    return _normed(tensor, rest[:4], channels, channels) if fits else []


def _group_norm(tensor: Tensor, *rest: Any) -> Shapes:
    samples, channels, size, groups = rest[2:6]
    whole = tensor.shape[:2] == (samples, channels) and tensor.numel() == samples * channels * size
    fits = whole and groups > 0 and not channels % groups and _new(tensor)
    return _normed(tensor, rest[:2], (channels,), (samples, groups)) if fits else []


def _layer_norm(tensor: Tensor, sizes: Sizes, *rest: Any) -> Shapes:
    outer = tensor.shape[: -len(sizes)]
    fits = sizes and (*outer, *sizes) == tensor.shape and (_new(tensor) or not tensor.is_contiguous())
    return _normed(tensor, rest[:2], sizes, (*outer, *(1,) * len(sizes))) if fits else []


def _windows(sizes: Sizes, *of_windows: Sizes, ceil: bool = False, added: Sizes = ()) -> Sizes:
    """Return how many places there are for windows of a kernel, stride, padding and dilation; none if it can't be.

    Where sizes are added at the end, it is the other way round: what windows at so many places cover.
    """
    if {len(sizes)} != {len(added or sizes), *map(len, of_windows)}:
        return []
    out = []
    for n, size, step, pad, spread, more in zip(sizes, *of_windows, added or sizes, strict=True):
        window = spread * (size - 1) + 1
        room = n + 2 * pad - window
        if min(size, step, spread, pad + 1) < 1 or (not 0 <= more < max(step, spread) if added else room < 0):
            return []
        count = (room + (step - 1) * ceil) // step
        inside = not ceil or count * step < n + pad  # where the last window begins
        out.append((n - 1) * step - 2 * pad + window + more if added else count + inside)
    return out if min(out) > 0 else []


def _convolution(tensor: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any) -> Shapes:
    *windows, transposed, output_padding, groups = rest
    if not weight.ndim == tensor.ndim > 2:
        return []
    first, second = weight.shape[0], weight.shape[1] * groups
    inputs, outputs = (first, second) if transposed else (second, first)
    if groups < 1 or first % groups or tensor.shape[1:2] != (inputs,) or not (bias is None or bias.shape == (outputs,)):
        return []
    sizes = _windows(tensor.shape[2:], weight.shape[2:], *windows, added=output_padding if transposed else ())
    return [(tensor.shape[0], outputs, *sizes)] if sizes else []


def _max_pool(
    tensor: Tensor, kernel: Sizes, stride: Sizes = (), padding: Sizes = (), dilation: Sizes = (), ceil: bool = False
) -> Shapes:
    padding, dilation = padding or [0] * len(kernel), dilation or [1] * len(kernel)
    sizes = _windows(tensor.shape[2:], kernel, stride or kernel, padding, dilation, ceil=ceil)
    fits = sizes and all(2 * pad <= size <= n for n, size, pad in zip(tensor.shape[2:], kernel, padding, strict=True))
    return [(*tensor.shape[:2], *sizes)] if fits else []


def _avg_pool(
    tensor: Tensor, kernel: Sizes, stride: Sizes = (), padding: Sizes = (), ceil: bool = False, *rest: Any
) -> Shapes:
    return _max_pool(tensor, kernel, stride, padding, (), ceil) if rest[1:] in ((), (None,)) else []


def _resampled(tensor: Tensor, sizes: Sizes | None, *_: Any) -> Shapes:
    return [(*tensor.shape[:2], *sizes)] if sizes and len(sizes) == tensor.ndim - 2 and min(sizes) > 0 else []


def _padded(tensor: Tensor, padding: Sizes) -> Shapes:
    if len(padding) != 2 * (tensor.ndim - 2) or min(padding) < 0:
        return []
    ends = list(zip(tensor.shape[2:], padding[-2::-2], padding[::-2], strict=True))
    return [(*tensor.shape[:2], *map(sum, ends))] if all(max(pads) < n for n, *pads in ends) else []


def _axes(tensor: Tensor, dims: Sizes | None) -> set[int]:
    """Return dimensions counted from the front; none where one is named twice or isn't there."""
    axes = {dim % tensor.ndim for dim in dims or () if -tensor.ndim <= dim < tensor.ndim}
    return axes if len(axes) == len(dims or ()) else set()


def _reduced(tensor: Tensor, dims: Sizes | None = None, keep: bool = False) -> Shapes:
    gone = _axes(tensor, dims)
    return [[1 if dim in gone else n for dim, n in enumerate(tensor.shape) if keep or dim not in gone]] if gone else []


def _softmax(tensor: Tensor, dim: int, *rest: Any) -> Shapes:
    return [tensor.shape] if _axes(tensor, [dim]) and not any(rest) else []


def _cat(tensors: Sequence[Tensor], dim: int = 0) -> Shapes:
    axes = _axes(tensors[0], [dim])
    total = sum(each.shape[dim] for each in tensors if each.ndim == tensors[0].ndim and axes)
    joined = {tuple(total if axis in axes else n for axis, n in enumerate(each.shape)) for each in tensors}
    return list(joined) if axes and len(joined) == 1 else []


def _repeat(tensor: Tensor, counts: Sizes) -> Shapes:
    sizes = (*(1,) * (len(counts) - tensor.ndim), *tensor.shape)
    fits = len(sizes) == len(counts) and all(count > 0 for count in counts)
    return [[n * count for n, count in zip(sizes, counts, strict=True)]] if fits else []


RESAMPLING = ("nearest", "linear", "bilinear", "trilinear", "bicubic")
SHAPES: dict[str, Callable[..., Shapes]] = {
    "convolution": _convolution, "max_pool": _max_pool, "avg_pool": _avg_pool, "cat": _cat,
    "native_batch_norm": _batch_norm, "native_group_norm": _group_norm, "native_layer_norm": _layer_norm,
    "mm": _product, "addmm": _product, "bmm": partial(_product, dims=3), "repeat": _repeat,
    **dict.fromkeys(["mean", "sum"], _reduced),
    **dict.fromkeys(["_softmax", "_log_softmax", "_safe_softmax"], _softmax),
    **dict.fromkeys(["reflection_pad", "replication_pad"], _padded),
    **dict.fromkeys(["_adaptive_avg_pool", "adaptive_max_pool"], _resampled),
    **dict.fromkeys([f"upsample_{each}" for each in RESAMPLING], _resampled),
}  # fmt: skip
