"""Hand the tensors of a message passing to the native library of their device, if there is one.

Everything is allocated here, so that the libraries know neither torch nor its allocator; RanpPass mirrors the C
structure of src/arguments.h field by field.
"""

import ctypes
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ranp.kernels import native
from ranp.kernels.chains import axes
from ranp.kernels.reference import METHODS, Result, Spec, empty_indices

ROW = 32
"""Rows of V are padded to a multiple of this many entries, the widest vector there is (a warp)."""

PARTS = {"cpu": 64, "cuda": 512}
"""Copies of the gradient of V that are summed up separately, whatever the number of threads."""

PART_BYTES = 1 << 25
"""... as long as they stay below this."""

# fmt: off
_INTEGERS = (
    "batch", "nodes", "labels", "directions", "iterations", "method", "ties", "normalise", "window", "store",
    "two_bytes", "float64", "threads", "pitch", "matrix_stride", "scaled",
)
_POINTERS = (
    "chain_first", "chain_length", "chain_begin", "chain_longest", "stride", "unary", "weights", "matrices", "cost",
    "labels_out", "messages", "p", "q", "unary_copy", "spare", "grad_cost", "grad_unary", "grad_weights",
    "grad_parts", "extra", "older", "stream", "stage",
)
# fmt: on


class RanpPass(ctypes.Structure):
    """The arguments of a forward or a backward; see src/arguments.h."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in _INTEGERS),
        ("weight_strides", ctypes.c_int64 * 3),
        ("unary_strides", ctypes.c_int64 * 3),
        ("gradient_parts", ctypes.c_int64),
        ("rho", ctypes.c_double),
        *((name, ctypes.c_void_p) for name in _POINTERS),
    )


class _Call:
    """One call being prepared: fields by name, tensors kept alive until it returns."""

    def __init__(self, like: Tensor, weights: Tensor, spec: Spec) -> None:
        self.like, self.spec, self.alive = like, spec, [like, weights]
        self.fields: dict[str, Any] = {}
        batch, nodes, labels = like.shape
        self.fields |= {"batch": batch, "nodes": nodes, "labels": labels, "directions": len(spec.steps)}
        self.fields |= {"iterations": spec.iterations, "method": METHODS.index(spec.method), "window": spec.window}
        self.fields |= {"ties": (2 if spec.last else 1) if spec.record else 0, "normalise": spec.normalise}
        self.fields |= {"two_bytes": labels > 256, "float64": like.dtype == torch.float64, "rho": spec.rho}
        self.fields |= {"threads": torch.get_num_threads(), "weight_strides": _broadcast_strides(weights)}
        self.point("weights", weights)
        self._chains()

    def point(self, name: str, tensor: Tensor | None) -> Tensor | None:
        """Set a pointer and keep what it points to; an absent or empty tensor becomes null."""
        if tensor is not None:
            self.alive.append(tensor)
            self.fields[name] = tensor.data_ptr() or None
        return tensor

    def new(self, name: str, *sizes: int, dtype: torch.dtype | None = None) -> Tensor:
        """Allocate an output or a workspace, and set its pointer."""
        tensor = self.like.new_empty(sizes, dtype=dtype)
        self.point(name, tensor)
        return tensor

    def _chains(self) -> None:
        """Set the table of chains: long arrays on the device, the few numbers of each axis on the host."""
        self.axes = axes(self.spec.shape, self.spec.steps, self.like.device)
        named = {"chain_first": self.axes.first, "chain_length": self.axes.length, "chain_begin": self.axes.begin}
        for name, table in (named | {"chain_longest": self.axes.longest, "stride": self.axes.stride}).items():
            self.point(name, table)

    def stage(self, arrays: int) -> None:
        """Allocate the chain buffers of the GPU, one for every chain of an axis; the CPU has its own per thread."""
        if self.like.is_cuda:
            self.new("stage", arrays, self.axes.room * self.like.shape[0], self.fields["pitch"])

    def matrices(self, weights: Tensor, pairwise: Tensor, *, scale: bool) -> None:
        """Set V and its transpose in padded rows, times the weights where those depend on the direction only."""
        rows = torch.stack([pairwise, pairwise.T])  # (2, L, L)
        labels = pairwise.shape[0]
        scaled = scale and weights.shape[0] == 1 and weights.shape[2] == 1
        if scaled:
            alike = weights.stride(1) == 0 or weights.shape[1] == 2
            rows = (
                weights[0, :2, :, None] * rows
                if alike
                else weights[0, :, :, None] * rows.repeat(len(weights[0]) // 2, 1, 1)
            )
        pitch = -(-labels // ROW) * ROW
        padded = rows.new_zeros((len(rows), pitch, pitch))
        padded[:, :labels, :labels] = rows
        self.point("matrices", padded)
        self.fields |= {"pitch": pitch, "scaled": scaled, "matrix_stride": pitch * pitch if len(rows) > 2 else 0}

    def run(self, kind: str, function: Callable[..., Any]) -> None:
        """Call the library and raise what its return code stands for."""
        if kind == "cuda":
            self.fields["stream"] = torch.cuda.current_stream(self.like.device).cuda_stream
        structure = RanpPass(
            **{name: int(value) if isinstance(value, bool) else value for name, value in self.fields.items()}
        )
        native.check(kind, function(ctypes.byref(structure)))


def _broadcast_strides(weights: Tensor) -> Any:
    steps = [0 if size == 1 else step for size, step in zip(weights.shape, weights.stride(), strict=True)]
    return (ctypes.c_int64 * 3)(*steps)


def _function(name: str, device: torch.device) -> Callable[..., Any] | None:
    if device.type not in native.KINDS:
        return None
    return native.function(device.type, name, [ctypes.POINTER(RanpPass)])


def forward(unary: Tensor, weights: Tensor, pairwise: Tensor, spec: Spec, keep: bool) -> Result | None:
    """Return what reference.forward returns, the messages only where kept, or None where no library serves."""
    function = _function("ranp_pass_forward", unary.device) if unary.numel() else None
    if function is None:
        return None
    batch, nodes, labels = unary.shape
    call = _Call(unary, weights, spec)
    call.matrices(weights, pairwise, scale=True)
    unary = unary.contiguous() if unary.is_cuda else unary  # the CPU library transposes by itself
    call.point("unary", unary)
    call.stage(2)
    call.fields |= {"unary_strides": (ctypes.c_int64 * 3)(*unary.stride()), "store": keep}
    cost = call.new("cost", batch, nodes, labels)
    found = call.new("labels_out", batch, nodes, dtype=torch.int64)
    stored = keep or (spec.method != "sgm" and spec.iterations > 1)
    messages = call.new("messages", len(spec.steps), batch, nodes, labels) if stored else unary.new_empty(0)
    p, q = empty_indices(spec, batch, nodes, labels, unary)  # written in full
    call.point("p", p)
    call.point("q", q)
    _workspaces(call, unary, cost)
    with _device(unary):
        call.run(unary.device.type, function)
    return Result(cost, found, messages if keep else unary.new_empty(0), p, q)


def _workspaces(call: _Call, unary: Tensor, cost: Tensor) -> None:
    """Set the label-last unary costs, and a second cost to go to and fro with.

    A single iteration of TRWP reads the unary costs once, and can have them where the cost will be.
    """
    trwp, once = call.spec.method == "trwp", call.spec.iterations == 1
    if unary.is_contiguous():
        call.point("unary_copy", unary)
    elif trwp and once:
        call.point("unary_copy", cost)
    else:
        call.new("unary_copy", *cost.shape)
    if not once and not trwp:
        call.new("spare", *cost.shape)


def backward(
    grad: Tensor,
    p: Tensor,
    q: Tensor,
    weights: Tensor,
    pairwise: Tensor,
    spec: Spec,
    need_weights: bool,
    need_pairwise: bool,
) -> tuple[Tensor, Tensor, Tensor] | None:
    """Return what reference_backward.backward returns, empty where not needed, or None where no library serves."""
    function = _function("ranp_pass_backward", grad.device) if grad.numel() else None
    if function is None:
        return None
    batch, nodes, labels = grad.shape
    call = _Call(grad, weights, spec)
    call.matrices(weights, pairwise, scale=False)
    grad = grad.contiguous()
    call.point("grad_cost", grad)
    for name, indices in (("p", p), ("q", q)):
        call.point(name, indices.contiguous())
    unary = call.new("grad_unary", batch, nodes, labels)
    of_weights = grad.new_zeros((batch, len(spec.steps), nodes) if need_weights else (0,))
    call.point("grad_weights", of_weights)
    limit = PARTS[grad.device.type]
    parts = max(1, min(limit, PART_BYTES // (2 * labels * labels * grad.element_size()))) if need_pairwise else 0
    shares = grad.new_zeros((parts, 2, labels, call.fields["pitch"]))
    call.point("grad_parts", shares)
    call.fields["gradient_parts"] = parts
    call.stage(3)
    if spec.iterations > 1:
        pairs = {"trwp": len(spec.steps), "isgmr": len(spec.steps) // 2, "sgm": 0}[spec.method]
        call.new("extra", pairs, batch, nodes, labels)
    if spec.method != "trwp":
        call.new("older", min(2, spec.iterations), batch, nodes, labels)
    with _device(grad):
        call.run(grad.device.type, function)
    even, odd = shares.sum(0)[..., :labels] if need_pairwise else (grad.new_empty(0),) * 2
    return unary, of_weights, even + odd.T if need_pairwise else even


def _device(tensor: Tensor) -> torch.cuda.device:
    """Make the tensor's GPU the current one; on the CPU this does nothing."""
    return torch.cuda.device(tensor.device if tensor.is_cuda else -1)
