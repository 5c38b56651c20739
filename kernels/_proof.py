"""Compare the native message passing of a card with PyTorch's, once a process, before it is believed.

The CUDA kernels are made and tested on threads that take the part of a warp's, and seldom see a card. So the first call
on one runs a few small problems first, of every width that a walker is compiled for; where a bit of the forward
differs, or a gradient by more than the order of its sums, PyTorch serves in the library's place, and says why.
"""

from collections.abc import Iterator
from functools import cache

import torch
from torch import Tensor

from ranp.kernels import _native_passing as native_passing
from ranp.kernels import _reference_backward as reference_backward
from ranp.kernels import native, reference
from ranp.kernels._streams import table_stream
from ranp.kernels.reference import METHODS, Spec

WIDTHS = (5, 40, 96, 128, 130, 250, 300)
"""Labels: one to four registers of a thread, more by one or by four at a time, and indices of two bytes."""


def prove(device: torch.device, dtype: torch.dtype) -> None:
    """Compare what the library of a device computes in a type, once; PyTorch serves from then on where it is other.

    While a CUDA graph is captured nothing can be compared: the next call does it.

    Raises:
        native.NativeError: it is not, and `RANP_NATIVE=require`.
    """
    if table_stream(device) is None:
        return
    if native.library(device.type) is not None and (difference := _difference(device, dtype)):
        native.refuse(device.type, f"{difference} than PyTorch on {device}")
        native.library(device.type)


@cache
def _difference(device: torch.device, dtype: torch.dtype) -> str | None:
    for labels, spec in _problems():
        random = torch.Generator().manual_seed(labels)
        unary, weights, pairwise, grad = (
            (9 * torch.rand(size, generator=random, dtype=dtype, device="cpu")).round()  # ties are frequent
            for size in ((2, 6, labels), (2, len(spec.steps), 6), (labels, labels), (2, 6, labels))
        )
        if spec.window:
            index = torch.arange(labels, device="cpu")
            pairwise = (index[:, None] - index).abs().clamp(max=spec.window).to(dtype)
        there = [tensor.to(device) for tensor in (unary, weights, pairwise)]
        expected = reference.forward(unary, weights, pairwise, spec)
        mine = native_passing.forward(there[0], there[1], there[2], spec, keep=True)
        named = f"{spec.method} with {labels} labels of {str(dtype).removeprefix('torch.')}"
        if mine is None or not all(torch.equal(a.cpu(), b) for a, b in zip(mine, expected, strict=True)):
            return f"{named} has other bits"
        gradients = native_passing.backward(grad.to(device), mine.p, mine.q, there[1], there[2], spec, True, True)
        wanted = reference_backward.backward(grad, expected.p, expected.q, weights, pairwise, spec)
        if gradients is None or not all(_close(a.cpu(), b) for a, b in zip(gradients, wanted, strict=True)):
            return f"{named} has other gradients"
    return None


def _problems() -> Iterator[tuple[int, Spec]]:
    steps = ((0, 1), (0, -1), (1, 0), (-1, 0))
    for method in METHODS:
        for labels in WIDTHS:
            yield labels, Spec(method, (2, 3), steps, 2)
        yield WIDTHS[1], Spec(method, (2, 3), steps, 2, window=3, last=True)


def _close(mine: Tensor, expected: Tensor) -> bool:
    bound = 100 * torch.finfo(expected.dtype).eps * expected.abs().max()
    return mine.shape == expected.shape and bool(((mine - expected).abs() <= bound).all())
