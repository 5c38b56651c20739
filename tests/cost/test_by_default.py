"""Ops that the table of costs does not know are named; those it knows are not."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ranp
from ranp import cost


class Op(nn.Module):
    def __init__(self, op) -> None:  # type: ignore[no-untyped-def]
        super().__init__()
        self.a, self.b, self.op = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 2, 1), op

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.op(self.a(x)))


UNKNOWN = {
    "_cdist_forward": lambda x: x * torch.cdist(x.flatten(2), x.flatten(2)).mean(),
    "linalg_inv_ex": lambda x: torch.linalg.inv(x + 9 * torch.eye(8)),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_was_counted_by_default_is_named(name: str) -> None:
    model = Op(UNKNOWN[name])
    notes = cost.counted_by_default(ranp.trace(model, torch.randn(1, 1, 8, 8)))
    assert len(notes) == 1
    assert notes[0].startswith("counted by default, one FLOP per element of the result: ")
    assert f"{name} at the top" in notes[0]
    result = ranp.prune(model, torch.randn(1, 1, 8, 8), max_sparsity=True, rule="random")
    assert notes[0] in result.report.notes


KNOWN = [
    lambda x: torch.fft.rfft2(x).abs().mean((2, 3), keepdim=True) * x,
    lambda x: nn.functional.pad(x, (1,) * 4, "reflect"),
    nn.GELU(), nn.PReLU(4), nn.Hardswish(), nn.GroupNorm(2, 4), nn.BatchNorm2d(4), nn.Softmax(1),
    nn.Upsample(scale_factor=2),
    nn.AvgPool2d(2), nn.PixelUnshuffle(1), nn.LogSigmoid(), nn.GLU(2), lambda x: torch.where(x > 0, x, x.exp()),
    lambda x: x.clamp(0, 1) + x.maximum(-x).sqrt(), lambda x: x[:, :, ::2].cumsum(2), lambda x: x.sort(2).values,
    lambda x: nn.functional.scaled_dot_product_attention(x, x, x), nn.Dropout(0.5), lambda x: x + torch.randn_like(x),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(KNOWN)))
def test_known_ops_are_not(number: int) -> None:
    assert cost.counted_by_default(ranp.trace(Op(KNOWN[number]), torch.randn(1, 1, 8, 8))) == []


def test_a_fourier_transform_counts_by_the_length_it_transforms() -> None:
    shape = torch.zeros(1, 1, 8, 8)
    counts = [
        cost.compile(graph)(np.ones(graph.count, dtype=bool)).flops
        for graph in (ranp.trace(Op(op), shape) for op in (lambda x: x, lambda x: torch.fft.rfft2(x).abs()[..., :1]))
    ]
    spectrum = 4 * 8 * 5  # of four channels
    before = 2 * 2 * 4 * 64 + 2 * 64  # the second convolution, with its bias, on 8 x 8 and then on 8 x 1 positions
    assert counts[1] - counts[0] == spectrum * 30 + spectrum - before * 7 // 8
