"""Poolings as torch operators: `ranp::p_pool`, `lp_pool`, `dpp_pool` and `filter_pool`, each in 1D, 2D and 3D.

`filter_pool` multiplies each channel's windows by a filter, as a depthwise convolution does. It is part of some pools,
and no layer whose neurons would be ranked beside those of the network's convolutions.

Each has a backward that is an operator as well, so that one call stands for one in whatever records operators, and so
that nothing but the inputs is kept for it. `check` is called by the operators and their fakes alike: eager mode never
runs a fake. An exported program holds plain ATen ops instead, which any runtime knows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.library import custom_op

from ranp.kernels import _native_pooling as native_pooling
from ranp.kernels import pooling_reference
from ranp.kernels.pooling_reference import memory_format
from ranp.kernels.windows import Windows

DIMS = (1, 2, 3)
GEOMETRY = "SymInt[] kernel_size, SymInt[] stride, SymInt[] padding, SymInt[] dilation, bool ceil_mode"


@dataclass(frozen=True)
class Pooling:
    """One kind of pooling, callable: `pooling(x, *given, windows)`.

    Args:
        name: of its operators, without namespace and number of dimensions.
        given: their arguments between x and the windows, as a schema: tensors first, then settings.
        forward: from x, these and windows to the output.
        backward: from the gradient, x, these, windows, and for each tensor whether its gradient is wanted, to the
            gradients of the tensors.
        native: the same two in native code, which return None where there is none.
        filtered: whether the first tensor holds filters, one for each channel, rather than broadcasts.
    """

    name: str
    given: str
    forward: Callable[..., Tensor]
    backward: Callable[..., Sequence[Tensor | None]]
    native: tuple[Callable[..., Tensor | None], Callable[..., Sequence[Tensor | None] | None]] | None = None
    filtered: bool = False

    def __call__(self, x: Tensor, *given: Any, windows: Windows) -> Tensor:
        """Return the output, differentiable in the tensors.

        Args:
            x: (B, C, *spatial).
            given: the kind's own tensors and settings.
            windows: of as many dimensions as x has spatial ones.
        """
        if exporting():
            self.check(x, given, windows)
            return self.forward(x, *given, windows)
        operator = getattr(torch.ops.ranp, f"{self.name}{windows.dims}d")
        result: Tensor = operator(x, *given, *windows.settings)
        return result

    @property
    def operators(self) -> list[str]:
        """Return the full names of the forward operators."""
        return [f"ranp::{self.name}{dims}d" for dims in DIMS]

    @property
    def tensors(self) -> int:
        """Return how many of the given arguments are tensors."""
        return self.given.count("Tensor")

    def check(self, x: Tensor, given: Sequence[Any], windows: Windows, grad: Tensor | None = None) -> None:
        """Refuse what has no windows, or does not fit the input or the output.

        Raises:
            ValueError: naming the argument, its value and what was expected.
        """
        check(x, windows)
        output = (*x.shape[:2], *windows.counts(x.shape[2:]))
        tensors = [each for each in given[: self.tensors] if each is not None]
        for tensor in tensors:
            if tensor.device != x.device:
                raise ValueError(f"a tensor on {tensor.device}: expected {x.device}, where x is")
        if self.filtered:
            _check_filters(tensors[0], x.shape[1], windows)
        else:
            for tensor in tensors:
                shape = (1,) * (len(output) - tensor.ndim) + tuple(tensor.shape)
                if len(shape) > len(output) or any(a not in (1, b) for a, b in zip(shape, output, strict=True)):
                    raise ValueError(f"a tensor {tuple(tensor.shape)}: expected one that broadcasts against {output}")
        if grad is not None and tuple(grad.shape) != output:
            raise ValueError(f"grad {tuple(grad.shape)}: expected {output}")

    def register(self) -> "Pooling":
        """Define the operators; once."""
        for name in self.operators:
            forward = custom_op(
                name, self._run, mutates_args=(), schema=f"(Tensor x, {self.given}, {GEOMETRY}) -> Tensor"
            )
            forward.register_fake(self._fake)
            schema = f"(Tensor grad, Tensor x, {self.given}, {GEOMETRY}, bool[] needs) -> Tensor[]"
            backward = custom_op(f"{name}_backward", self._run_backward, mutates_args=(), schema=schema)
            backward.register_fake(self._fake_backward)
            forward.register_autograd(_differentiate(backward, self.tensors), setup_context=_setup(self.tensors))
        return self

    def _run(self, x: Tensor, *rest: Any) -> Tensor:
        given, windows = rest[:-5], _windows(rest[-5:])
        self.check(x, given, windows)
        found = self.native[0](x, *given, windows) if self.native else None
        return self.forward(x, *given, windows) if found is None else found

    def _fake(self, x: Tensor, *rest: Any) -> Tensor:
        given, windows = rest[:-5], _windows(rest[-5:])
        self.check(x, given, windows)
        sizes = (*x.shape[:2], *windows.counts(x.shape[2:]))
        return torch.empty(sizes, dtype=x.dtype, device=x.device, memory_format=memory_format(x))

    def _run_backward(self, grad: Tensor, x: Tensor, *rest: Any) -> list[Tensor]:
        given, windows, needs = rest[:-6], _windows(rest[-6:-1]), rest[-1]
        self.check(x, given, windows, grad)
        found = self.native[1](grad, x, *given, windows, needs) if self.native else None
        found = self.backward(grad, x, *given, windows, needs) if found is None else found
        return [
            each if needed and each is not None else grad.new_empty(0)
            for each, needed in zip(found, needs, strict=True)
        ]

    def _fake_backward(self, grad: Tensor, x: Tensor, *rest: Any) -> list[Tensor]:
        given, windows, needs = rest[:-6], _windows(rest[-6:-1]), rest[-1]
        self.check(x, given, windows, grad)
        tensors = [x, *given[: self.tensors]]
        return [
            torch.empty(each.shape, dtype=each.dtype, device=each.device, memory_format=memory_format(each))
            if needed and each is not None
            else grad.new_empty(0)
            for each, needed in zip(tensors, needs, strict=True)
        ]


def exporting() -> bool:
    """Whether a program is being captured that other runtimes than this one are to run."""
    tracing = torch._C._get_tracing_state() is not None  # by torch.jit.trace
    return torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export() or tracing


def _windows(geometry: Sequence[Any]) -> Windows:
    kernel, stride, padding, dilation, ceil = geometry
    return Windows(tuple(kernel), tuple(stride), tuple(padding), tuple(dilation), ceil)


def _setup(tensors: int) -> Callable[..., None]:
    def setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[: 1 + tensors])
        ctx.settings = inputs[1 + tensors :]

    return setup


def _differentiate(backward: Any, tensors: int) -> Callable[..., tuple[Tensor | None, ...]]:
    def differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        needs = list(ctx.needs_input_grad[: 1 + tensors])
        found = backward(grad, *ctx.saved_tensors, *ctx.settings, needs)
        wanted = [each if needed else None for each, needed in zip(found, needs, strict=True)]
        return (*wanted, *[None] * len(ctx.settings))

    return differentiate


def check(x: Tensor, windows: Windows) -> None:
    """Refuse an input without windows.

    Raises:
        ValueError: naming the argument, its value and what was expected.
    """
    if x.ndim != windows.dims + 2 or not x.is_floating_point():
        raise ValueError(f"x {tuple(x.shape)} of {x.dtype}: expected floats (B, C, *{windows.dims} sizes)")
    sides = windows.kernel, windows.stride, windows.padding, windows.dilation
    if any(len(side) != windows.dims for side in sides) or min(min(side) for side in sides) < 0:
        raise ValueError(f"{windows}: expected {windows.dims} entries each, none negative")
    if min(*windows.kernel, *windows.stride, *windows.dilation) < 1:
        raise ValueError(f"{windows}: expected kernel, stride and dilation of at least 1")
    if any(2 * pad > size for pad, size in zip(windows.padding, windows.kernel, strict=True)):
        raise ValueError(f"padding {windows.padding}: expected at most half of the kernel {windows.kernel}")
    if any(count < 1 for count in windows.counts(x.shape[2:])):
        raise ValueError(f"x {tuple(x.shape[2:])}: expected sizes a window of {windows.reach} fits into")


def _check_filters(filters: Tensor, channels: int, windows: Windows) -> None:
    shapes = [(1, *(size + lead for size in windows.kernel)) for lead in (0, 1)]
    if filters.ndim != windows.dims + 2 or filters.shape[0] not in (1, channels) or filters.shape[1:] not in shapes:
        wanted = " or ".join(map(str, shapes))
        raise ValueError(f"filters {tuple(filters.shape)}: expected 1 or {channels} of {wanted}")


P_POOL = Pooling(
    "p_pool",
    "Tensor alpha, Tensor? shift",
    pooling_reference.p_pool,
    pooling_reference.p_pool_backward,
    (native_pooling.forward, native_pooling.backward),
).register()
LP_POOL = Pooling(
    "lp_pool", "Tensor power, bool mean", pooling_reference.lp_pool, pooling_reference.lp_pool_backward
).register()
DPP_POOL = Pooling(
    "dpp_pool",
    "Tensor? reference, Tensor strength, Tensor offset, bool asymmetric",
    pooling_reference.dpp_pool,
    pooling_reference.dpp_pool_backward,
).register()
FILTER_POOL = Pooling(
    "filter_pool",
    "Tensor filters",
    pooling_reference.filter_pool,
    pooling_reference.filter_pool_backward,
    filtered=True,
).register()
POOLINGS = (P_POOL, LP_POOL, DPP_POOL, FILTER_POOL)
