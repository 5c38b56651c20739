"""Hand the tensors of a reassembly to the native library of their device, if there is one.

Everything is allocated here, so that the libraries know neither torch nor its allocator; RanpReassembly mirrors the C
structure of src/reassembly.h field by field.
"""

import ctypes
from collections.abc import Callable, Sequence
from functools import lru_cache
from math import prod
from typing import Any

import torch
from torch import Tensor

from ranp.kernels import native
from ranp.kernels._streams import table_stream

_INTEGERS = ("batch", "channels", "float64", "threads")
_AXES = ("coarse", "fine", "kernel", "kernel_strides")
_POINTERS = ("x", "kernels", "grad", "out", "grad_x", "grad_kernels", "x_last", "grad_last", "stream")


class RanpReassembly(ctypes.Structure):
    """The arguments of a forward or a backward; see src/reassembly.h."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in _INTEGERS),
        *((name, ctypes.c_int64 * 3) for name in _AXES),
        ("first", ctypes.c_int64),
        ("starts", ctypes.c_void_p * 3),
        *((name, ctypes.c_void_p) for name in _POINTERS),
    )


def starts(coarse: int, fine: int, device: torch.device) -> Tensor:
    """Return the first fine position of each coarse one (coarse + 1,), and the number of fine ones at the end.

    Made on the device, so that nothing waits for a copy and a CUDA graph can hold it; kept for the calls of a stream.

    >>> starts(2, 5, torch.device("cpu"))
    tensor([0, 3, 5])
    """
    stream = table_stream(device)
    return _starts(coarse, fine, device) if stream is None else _kept_starts(coarse, fine, device, stream)


def _starts(coarse: int, fine: int, device: torch.device) -> Tensor:
    # The least p with p coarse // fine >= c: see reassembly_reference.source.
    return (torch.arange(coarse + 1, device=device) * fine + coarse - 1) // coarse


@lru_cache(maxsize=256)
def _kept_starts(coarse: int, fine: int, device: torch.device, stream: int) -> Tensor:
    return _starts(coarse, fine, device)


def channels_last(tensor: Tensor) -> bool:
    """Return whether a tensor (B, C, ...) lies in memory as (B, ..., C), and not as it is."""
    return not tensor.is_contiguous() and tensor.movedim(1, -1).is_contiguous()


def new_like(tensor: Tensor, channels: int, spatial: Sequence[int]) -> Tensor:
    """Return an uninitialised (B, channels, *spatial) in the memory layout of a tensor (B, C, ...)."""
    if channels_last(tensor):
        return tensor.new_empty((tensor.shape[0], *spatial, channels)).movedim(-1, 1)
    return tensor.new_empty((tensor.shape[0], channels, *spatial))


class _Call:
    """One call being prepared: fields by name, tensors kept alive until it returns."""

    def __init__(self, x: Tensor, kernels: Tensor, kernel_size: Sequence[int]) -> None:
        self.alive: list[Tensor] = []
        self.device, self.last = x.device, channels_last(x) or x.is_cuda
        batch, channels, *coarse = x.shape
        axes = {"coarse": coarse, "fine": kernels.shape[2:], "kernel": kernel_size}
        padded = {name: [1] * (3 - len(sizes)) + list(sizes) for name, sizes in axes.items()}
        self.fields: dict[str, Any] = {name: (ctypes.c_int64 * 3)(*sizes) for name, sizes in padded.items()}
        self.fields |= {"batch": batch, "channels": channels, "float64": int(x.dtype == torch.float64)}
        self.fields |= {"threads": torch.get_num_threads(), "first": int(not self.last)}
        self.kernels = kernels if channels_last(kernels) else kernels.contiguous()
        self.fields["kernel_strides"] = (ctypes.c_int64 * 3)(*_strides(self.kernels))
        self.point("kernels", self.kernels)
        tables = [starts(*sizes, x.device) for sizes in zip(padded["coarse"], padded["fine"], strict=True)]
        self.fields["starts"] = (ctypes.c_void_p * 3)(*(table.data_ptr() for table in tables))
        self.alive += tables

    def point(self, name: str, tensor: Tensor) -> Tensor:
        """Set a pointer and keep what it points to."""
        self.alive.append(tensor)
        self.fields[name] = tensor.data_ptr()
        return tensor

    def read(self, name: str, tensor: Tensor) -> None:
        """Set a pointer to features (B, C, ...) in the layout of the call, and one to room for turning them."""
        if self.last:
            self.point(name, tensor.movedim(1, -1).contiguous())
            return
        self.point(name, tensor.contiguous())
        self.point(f"{name}_last", torch.empty_like(tensor, memory_format=torch.contiguous_format))

    def write(self, name: str, like: Tensor, spatial: Sequence[int]) -> Tensor:
        """Set a pointer to new features (B, C, *spatial) in the layout of the call."""
        sizes = (like.shape[0], *spatial, like.shape[1]) if self.last else (*like.shape[:2], *spatial)
        tensor = self.point(name, like.new_empty(sizes))
        return tensor.movedim(-1, 1) if self.last else tensor

    def run(self, function: Callable[..., Any]) -> None:
        """Call the library and raise what its return code stands for."""
        with torch.cuda.device(self.device if self.device.type == "cuda" else -1):
            if self.device.type == "cuda":
                self.fields["stream"] = torch.cuda.current_stream(self.device).cuda_stream
            native.check(self.device.type, function(ctypes.byref(RanpReassembly(**self.fields))))


def _strides(kernels: Tensor) -> tuple[int, int, int]:
    """Return the distances of batch entries, taps and fine positions."""
    taps, positions = kernels.shape[1], prod(kernels.shape[2:])
    return (taps * positions, 1, taps) if channels_last(kernels) else (taps * positions, positions, 1)


def _function(name: str, device: torch.device) -> Callable[..., Any] | None:
    if device.type not in native.KINDS:
        return None
    return native.function(device.type, name, [ctypes.POINTER(RanpReassembly)])


def forward(x: Tensor, kernels: Tensor, kernel_size: Sequence[int]) -> Tensor | None:
    """Return what reassembly_reference.forward returns, or None where no library serves."""
    function = _function("ranp_reassembly_forward", x.device) if x.numel() and kernels.numel() else None
    if function is None:
        return None
    call = _Call(x, kernels, kernel_size)
    call.read("x", x)
    out = call.write("out", x, kernels.shape[2:])
    call.run(function)
    return out if channels_last(x) else out.contiguous()


def backward(
    grad: Tensor, x: Tensor, kernels: Tensor, kernel_size: Sequence[int], need_x: bool, need_kernels: bool
) -> tuple[Tensor, Tensor] | None:
    """Return the gradients of x and of the kernels, empty where not needed, or None where no library serves."""
    function = _function("ranp_reassembly_backward", grad.device) if grad.numel() else None
    if function is None:
        return None
    call = _Call(x, kernels, kernel_size)
    call.read("grad", grad)
    grad_x, grad_kernels = grad.new_empty(0), grad.new_empty(0)
    if need_x:
        grad_x = call.write("grad_x", x, x.shape[2:])
    if need_kernels:
        call.read("x", x)
        grad_kernels = call.point("grad_kernels", new_like(kernels, kernels.shape[1], kernels.shape[2:]))
    call.run(function)
    return grad_x if channels_last(x) else grad_x.contiguous(), grad_kernels
