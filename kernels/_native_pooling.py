"""Hand the tensors of a polynomial pooling to the native library of their device, if there is one.

Everything is allocated here; RanpPool mirrors the C structure of src/arguments.h field by field. Only the CPU has
native code, for float32 and float64.
"""

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ranp.kernels import native
from ranp.kernels.pooling_reference import memory_format
from ranp.kernels.windows import Windows

_NUMBERS = ("batch", "channels", "float64", "threads")
_TRIPLES = ("size", "count", "kernel", "stride", "padding", "dilation")
_STRIDES = ("x_strides", "y_strides", "alpha_strides", "shift_strides")
_POINTERS = ("x", "alpha", "shift", "y", "grad", "grad_x", "grad_alpha")


class RanpPool(ctypes.Structure):
    """The arguments of a forward or a backward; see src/arguments.h."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in _NUMBERS),
        *((name, ctypes.c_int64 * 3) for name in _TRIPLES),
        *((name, ctypes.c_int64 * 5) for name in _STRIDES),
        *((name, ctypes.c_void_p) for name in _POINTERS),
    )


def forward(x: Tensor, alpha: Tensor, shift: Tensor | None, windows: Windows) -> Tensor | None:
    """Return what pooling_reference.p_pool returns, or None where no library serves."""
    function = _function("ranp_p_pool", x)
    if function is None:
        return None
    counts = windows.counts(x.shape[2:])
    y = torch.empty((*x.shape[:2], *counts), dtype=x.dtype, memory_format=memory_format(x))
    _call(function, x, alpha, shift, windows, y, y=y)
    return y


def backward(
    grad: Tensor, x: Tensor, alpha: Tensor, shift: Tensor | None, windows: Windows, needs: Sequence[bool]
) -> tuple[Tensor, Tensor | None, None] | None:
    """Return what pooling_reference.p_pool_backward returns, or None where no library serves."""
    function = _function("ranp_p_pool_backward", x)
    if function is None:
        return None
    layout = memory_format(x)
    grad, x = grad.contiguous(memory_format=layout), x.contiguous(memory_format=layout)
    of_x = torch.zeros_like(x)
    of_alpha = torch.empty_like(grad) if needs[1] else None
    _call(function, x, alpha, shift, windows, grad, grad=grad, grad_x=of_x, grad_alpha=of_alpha)
    if of_alpha is not None:
        of_alpha = of_alpha.sum_to_size(alpha.shape).to(alpha.dtype)
    return of_x, of_alpha, None


def _function(name: str, x: Tensor) -> Callable[..., Any] | None:
    if x.device.type != "cpu" or x.dtype not in (torch.float32, torch.float64) or not x.numel():
        return None
    return native.function("cpu", name, [ctypes.POINTER(RanpPool)])


def _call(
    function: Callable[..., Any],
    x: Tensor,
    alpha: Tensor,
    shift: Tensor | None,
    windows: Windows,
    like: Tensor,
    **outputs: Tensor | None,
) -> None:
    """Call the library; `like` has the layout of the output."""
    alpha = alpha.to(x.dtype)
    tensors = {"x": x, "alpha": alpha, "shift": None if shift is None else shift.to(x.dtype), **outputs}
    pointers = {name: None if each is None else each.data_ptr() for name, each in tensors.items()}
    strides = {"x_strides": x, "y_strides": like, "alpha_strides": alpha.expand(like.shape)}
    if shift is not None:
        strides["shift_strides"] = shift.expand(like.shape)
    sides = {"kernel": windows.kernel, "stride": windows.stride, "dilation": windows.dilation}
    sides |= {"size": tuple(x.shape[2:]), "count": tuple(like.shape[2:])}
    structure = RanpPool(
        batch=x.shape[0],
        channels=x.shape[1],
        float64=x.dtype == torch.float64,
        threads=torch.get_num_threads(),
        padding=_triple(windows.padding, 0),
        **{name: _triple(values, 1) for name, values in sides.items()},
        **{name: _strides(each) for name, each in strides.items()},
        **pointers,
    )
    native.check("cpu", function(ctypes.byref(structure)))


def _triple(values: tuple[int, ...], missing: int) -> Any:
    return (ctypes.c_int64 * 3)(*(missing,) * (3 - len(values)), *values)


def _strides(tensor: Tensor) -> Any:
    batch, channel, *spatial = tensor.stride()
    return (ctypes.c_int64 * 5)(batch, channel, *(0,) * (3 - len(spatial)), *spatial)
