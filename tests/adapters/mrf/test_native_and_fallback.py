"""What a caller gets does not depend on whether there is a compiler: drawn calls of the public functions, both ways."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rounding import reordered
from torch import Tensor

from ranp.adapters import mrf

METHODS = {"isgmr": mrf.isgmr, "trwp": mrf.trwp, "sgm": mrf.sgm}
NAMED = [
    mrf.potts(),
    mrf.linear(),
    mrf.truncated_linear(1.5),
    mrf.truncated_linear(20),
    mrf.truncated_quadratic(7),
    mrf.cauchy(2),
    mrf.huber(1),
]


@dataclass(frozen=True)
class Call:
    """One call: what to run, and the seed of its tensors."""

    method: str
    shape: tuple[int, ...]  # (B, L, *spatial)
    directions: int
    iterations: int
    dtype: torch.dtype
    layout: str
    pairwise: int  # of NAMED, or -1 for a matrix
    weights: str
    options: tuple[tuple[str, Any], ...]
    seed: int


@st.composite
def calls(draw: st.DrawFn) -> Call:
    dims = draw(st.sampled_from([2, 3]))
    labels = draw(st.one_of(st.integers(1, 40), st.sampled_from([64, 65, 255, 256, 257, 600, 1024])))
    most = 5 if labels < 64 else 2
    spatial = tuple(draw(st.integers(1, most)) for _ in range(dims))
    options = (("ties", draw(st.sampled_from(["first", "last"]))), ("normalise", draw(st.booleans())))
    return Call(
        draw(st.sampled_from(list(METHODS))),
        (draw(st.integers(0, 2)), labels, *spatial),
        draw(st.sampled_from([4, 8, 16] if dims == 2 else [6, 18, 26])),
        draw(st.integers(1, 3)),
        draw(st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16])),
        draw(st.sampled_from(["contiguous", "channels last", "every second"])),
        draw(st.integers(-1, len(NAMED) - 1)),
        draw(st.sampled_from(["none", "number", "direction", "edge", "batch"])),
        options,
        draw(st.integers(0, 999)),
    )


def tensors_of(call: Call) -> tuple[Tensor, Any, Any]:
    """Return unary costs in some layout, a pairwise function or matrix, and weights."""
    random = torch.Generator().manual_seed(call.seed)
    batch, labels, *spatial = call.shape
    unary = torch.rand((batch, labels, *spatial[:-1], 2 * spatial[-1]), generator=random) * 9
    unary = unary[..., ::2] if call.layout == "every second" else unary[..., : spatial[-1]].contiguous()
    if call.layout == "channels last":
        unary = unary.movedim(1, -1).contiguous().movedim(-1, 1)
    unary = unary.to(call.dtype).requires_grad_()
    pairwise: Any = NAMED[call.pairwise]
    if call.pairwise < 0:
        pairwise = torch.rand((labels, labels), generator=random).T.requires_grad_()
    sizes = {
        "direction": (call.directions,),
        "edge": (call.directions, *spatial),
        "batch": (batch, call.directions, *spatial),
    }
    weights: Any = {"none": None, "number": 1.7}.get(call.weights)
    if call.weights in sizes:
        weights = (torch.rand(sizes[call.weights], generator=random) * 3).requires_grad_()
    return unary, pairwise, weights


@contextmanager
def native(mode: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "RANP_NATIVE", mode)
        yield


def run(call: Call, mode: str) -> tuple[list[Tensor], list[Tensor]]:
    """Return what comes out, and the gradients."""
    given_ = tensors_of(call)
    learnt = [tensor for tensor in given_ if isinstance(tensor, Tensor)]
    with native(mode):
        found = METHODS[call.method](*given_, call.directions, call.iterations, return_state=True, **dict(call.options))
        loss = (found.cost * torch.linspace(-1, 1, found.cost.numel()).reshape(found.cost.shape)).sum()
        gradients = torch.autograd.grad(loss, learnt)
    assert found.messages is not None
    assert found.indices is not None
    return [found.cost.detach(), found.labels, found.messages, *found.indices], list(gradients)


def _rounding(dtype: torch.dtype, labels: int) -> tuple[float, float]:
    """Return how far sums over labels in another order may differ: relatively, and of the largest gradient.

    Half types are computed in float32 and rounded at the end.
    """
    if dtype == torch.float64:
        return 1e-9, 1e-9
    summed = reordered(torch.float32, labels)  # 1.2e-4 up to 128 labels, 1e-3 at 1024
    return (1e-2 if dtype.itemsize == 2 else summed), summed


@settings(max_examples=40, deadline=None)
@given(calls())
def test_the_same_with_and_without_native_code(call: Call) -> None:
    (ours, our_gradients), (theirs, their_gradients) = run(call, "require"), run(call, "off")
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.dtype == other.dtype
        assert torch.equal(mine, other)
    assert ours[0].shape == call.shape
    assert ours[2].shape == (call.directions, *call.shape)
    assert ours[3].nbytes == call.iterations * call.directions * ours[0].numel() * (1 if call.shape[1] <= 256 else 2)
    for mine, other in zip(our_gradients, their_gradients, strict=True):
        assert mine.dtype == other.dtype
        scale = float(other.abs().max()) if other.numel() else 0.0
        relative, absolute = _rounding(mine.dtype, call.shape[1])
        torch.testing.assert_close(mine, other, rtol=relative, atol=absolute * scale)
