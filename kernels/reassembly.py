"""The reassembly of upsampled features as two torch operators, `ranp::reassemble` and its backward.

Each runs native code where there is a library for the tensors' device and type, and reassembly_reference.py where there
is none; both compute the same thing, and that file says what. Kept for the backward are the inputs and the kernels
alone, never the neighbours of every position, which are M times as large as the inputs.

The forward is linear in the features and in the kernels, so that its derivatives of any order are the same two
operators again. `check` is called by the operators and by their fakes alike: eager mode never runs a fake, so a wrong
shape must be caught on the way to C.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.library import custom_op

from ranp.kernels import _native_reassembly, reassembly_reference
from ranp.kernels._native_reassembly import new_like


def check(x: Tensor, kernels: Tensor, kernel_size: Sequence[int]) -> None:
    """Refuse what the C code would read out of bounds.

    Raises:
        ValueError: naming the argument, its value and what was expected.
    """
    if not 3 <= x.dim() <= 5 or x.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"x {tuple(x.shape)} of {x.dtype}: expected (B, C, *1 to 3 sizes) of float32 or float64")
    if len(kernel_size) != x.dim() - 2 or any(size < 1 or size % 2 == 0 for size in kernel_size):
        raise ValueError(f"kernel_size {tuple(kernel_size)}: expected {x.dim() - 2} odd numbers")
    taps = prod(kernel_size)
    if kernels.dim() != x.dim() or kernels.shape[0] != x.shape[0] or kernels.shape[1] != taps:
        raise ValueError(f"kernels {tuple(kernels.shape)}: expected ({x.shape[0]}, {taps}, *{x.dim() - 2} sizes)")
    if 0 in x.shape[2:] or 0 in kernels.shape[2:]:
        raise ValueError(f"sizes {tuple(x.shape[2:])}, {tuple(kernels.shape[2:])}: expected at least one position")
    if kernels.dtype != x.dtype or kernels.device != x.device:
        raise ValueError("x and kernels: expected one dtype and one device")


def _check_backward(grad: Tensor, x: Tensor, kernels: Tensor, kernel_size: Sequence[int]) -> None:
    check(x, kernels, kernel_size)
    if grad.shape != (*x.shape[:2], *kernels.shape[2:]):
        raise ValueError(f"grad {tuple(grad.shape)}: expected {(*x.shape[:2], *kernels.shape[2:])}")
    if grad.dtype != x.dtype or grad.device != x.device:
        raise ValueError("grad and x: expected one dtype and one device")


@custom_op("ranp::reassemble", mutates_args=())
def reassemble(x: Tensor, kernels: Tensor, kernel_size: Sequence[int]) -> Tensor:
    """Return (B, C, *fine), in the memory layout of x.

    Args:
        x: features (B, C, *coarse) of one to three axes, float32 or float64.
        kernels: weights (B, M, *fine) of the same type, M the product of `kernel_size`.
        kernel_size: odd, one per axis.
    """
    check(x, kernels, kernel_size)
    out = _native_reassembly.forward(x, kernels, kernel_size)
    if out is None:
        out = new_like(x, x.shape[1], kernels.shape[2:])
        out.copy_(reassembly_reference.forward(x, kernels, kernel_size))
    return out


@reassemble.register_fake
def _fake(x: Tensor, kernels: Tensor, kernel_size: Sequence[int]) -> Tensor:
    check(x, kernels, kernel_size)
    return new_like(x, x.shape[1], kernels.shape[2:])


@custom_op("ranp::reassemble_backward", mutates_args=())
def reassemble_backward(
    grad: Tensor, x: Tensor, kernels: Tensor, kernel_size: Sequence[int], need_x: bool, need_kernels: bool
) -> tuple[Tensor, Tensor]:
    """Return the gradients of x (B, C, *coarse) and of the kernels (B, M, *fine), empty where not needed."""
    _check_backward(grad, x, kernels, kernel_size)
    gradients = _native_reassembly.backward(grad, x, kernels, kernel_size, need_x, need_kernels)
    if gradients is not None:
        return gradients
    of_x, of_kernels = _fake_backward(grad, x, kernels, kernel_size, need_x, need_kernels)
    if need_x:
        of_x.copy_(reassembly_reference.gradient_of_x(grad, kernels, kernel_size, x.shape[2:]))
    if need_kernels:
        of_kernels.copy_(reassembly_reference.gradient_of_kernels(grad, x, kernel_size))
    return of_x, of_kernels


@reassemble_backward.register_fake
def _fake_backward(
    grad: Tensor, x: Tensor, kernels: Tensor, kernel_size: Sequence[int], need_x: bool, need_kernels: bool
) -> tuple[Tensor, Tensor]:
    _check_backward(grad, x, kernels, kernel_size)
    of_x = new_like(x, x.shape[1], x.shape[2:]) if need_x else grad.new_empty(0)
    of_kernels = new_like(kernels, kernels.shape[1], kernels.shape[2:]) if need_kernels else grad.new_empty(0)
    return of_x, of_kernels


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, kernels, ctx.kernel_size = inputs
    ctx.save_for_backward(x, kernels)


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, kernels = ctx.saved_tensors
    needs = ctx.needs_input_grad[0], ctx.needs_input_grad[1]
    of_x, of_kernels = reassemble_backward(grad, x, kernels, ctx.kernel_size, *needs)
    return of_x if needs[0] else None, of_kernels if needs[1] else None, None


def _setup_second(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    grad, x, kernels, ctx.kernel_size, *ctx.made = inputs
    ctx.save_for_backward(grad, x, kernels)


def _differentiate_again(ctx: Any, of_x: Tensor, of_kernels: Tensor) -> tuple[Tensor | None, ...]:
    """Differentiate the backward: it is linear in `grad`, and in x and the kernels crosswise."""
    grad, x, kernels = ctx.saved_tensors
    made_x, made_kernels = ctx.made
    of_x = of_x if made_x else torch.zeros_like(x)
    of_kernels = of_kernels if made_kernels else torch.zeros_like(kernels)
    of_grad = reassemble(of_x, kernels, ctx.kernel_size) + reassemble(x, of_kernels, ctx.kernel_size)
    again = reassemble_backward(grad, of_x, of_kernels, ctx.kernel_size, made_kernels, made_x)
    return of_grad, again[0] if made_kernels else None, again[1] if made_x else None, None, None, None


reassemble.register_autograd(_differentiate, setup_context=_setup_context)
reassemble_backward.register_autograd(_differentiate_again, setup_context=_setup_second)
