"""The standard convention against counts made by hand, one op at a time, and on torch's own counter."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ranp import cost
from ranp.graph.build import trace


def counted(network: nn.Module, *shapes: tuple[int, ...], convention: str = "standard") -> cost.Costs:
    graph = trace(network, tuple(torch.zeros(shape) for shape in shapes))
    return cost.compile(graph, convention)(np.ones(graph.count, dtype=bool))


CONVOLUTIONS: list[tuple[nn.Module, tuple[int, ...], int, int]] = [
    # output elements x inputs / groups x kernel x 2 + bias; output elements
    (nn.Conv1d(2, 3, 5), (1, 2, 9), 3 * 5 * (2 * 5 * 2 + 1), 3 * 5),
    (nn.Conv2d(2, 3, 3, padding=1, bias=False), (2, 2, 4, 5), 2 * 3 * 20 * 2 * 9 * 2, 2 * 3 * 20),
    (nn.Conv3d(2, 4, (1, 2, 3), stride=2), (1, 2, 5, 6, 7), 4 * 3 * 3 * 3 * (2 * 6 * 2 + 1), 4 * 27),
    (nn.Conv2d(4, 6, 3, groups=2), (1, 4, 5, 5), 6 * 9 * (2 * 9 * 2 + 1), 6 * 9),
    (nn.Conv3d(4, 8, 3, groups=4, bias=False), (1, 4, 4, 4, 4), 8 * 8 * 27 * 2, 8 * 8),  # depthwise, multiplier 2
    (nn.Conv2d(2, 2, 3, dilation=2), (1, 2, 6, 6), 2 * 4 * (2 * 9 * 2 + 1), 2 * 4),
    # input elements x outputs / groups x kernel x 2 + bias x output elements
    (nn.ConvTranspose1d(3, 2, 4, stride=2), (1, 3, 5), 3 * 5 * 2 * 4 * 2 + 2 * 12, 2 * 12),
    (nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2, bias=False), (1, 4, 3, 3), 4 * 9 * 3 * 4 * 2, 6 * 36),
    (nn.ConvTranspose3d(2, 3, 3, stride=2, padding=1, output_padding=1), (1, 2, 2, 2, 2),
     2 * 8 * 3 * 27 * 2 + 3 * 64, 3 * 64),
    (nn.ConvTranspose2d(3, 3, 2, groups=3, bias=False), (1, 3, 4, 4), 3 * 16 * 4 * 2, 3 * 25),  # depthwise
    (nn.Linear(7, 3), (2, 7), 2 * 3 * (7 * 2 + 1), 2 * 3),
    (nn.Linear(7, 3, bias=False), (2, 5, 7), 2 * 5 * 3 * 7 * 2, 2 * 5 * 3),
]  # fmt: skip


@pytest.mark.parametrize(("network", "shape", "flops", "elements"), CONVOLUTIONS)
def test_contractions(network: nn.Module, shape: tuple[int, ...], flops: int, elements: int) -> None:
    params = sum(p.numel() for p in network.parameters())
    assert counted(network, shape) == cost.Costs(params, flops, 4 * elements)


class Op(nn.Module):
    """One functional op."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, *x: Tensor) -> Any:
        return self.function(*x)


N = 2 * 6 * 8 * 8
OTHERS: list[tuple[str, Any, int, int]] = [
    ("relu", torch.relu, N, N),
    ("in place", lambda x: F.relu(x * 2, inplace=True), 2 * N, 2 * N),
    ("sum of two", lambda x: x + x, N, N),
    ("broadcast", lambda x: x + x[:1, :, :1, :1], N, N),
    ("batch norm", nn.BatchNorm2d(6).eval(), 2 * N, N),
    ("instance norm", nn.InstanceNorm2d(6), 6 * N, N),
    ("group norm", nn.GroupNorm(3, 6), 6 * N, N),
    ("layer norm", nn.LayerNorm(8), 6 * N, N),
    ("softmax", lambda x: x.softmax(1), 5 * N, N),
    ("log-softmax", lambda x: x.log_softmax(1), 5 * N, N),
    ("max pool", nn.MaxPool2d(2), N // 4 * 4, N // 4),
    ("max pool with indices", lambda x: F.max_pool2d(x, (2, 4), return_indices=True)[0], N, N // 8),
    ("average pool", nn.AvgPool2d(4), N, N // 16),
    ("adaptive pool", nn.AdaptiveAvgPool2d(2), N, N // 16),
    ("global mean", lambda x: x.mean((2, 3)), N, 12),
    ("variance", lambda x: x.var((2, 3)), 4 * N, 12),
    ("nearest", lambda x: F.interpolate(x, scale_factor=2.0), 0, 4 * N),
    ("bilinear", lambda x: F.interpolate(x, scale_factor=2.0, mode="bilinear"), 8 * 4 * N, 4 * N),
    ("bicubic", lambda x: F.interpolate(x, scale_factor=2.0, mode="bicubic"), 32 * 4 * N, 4 * N),
    ("trilinear", lambda x: F.interpolate(x[None], scale_factor=2.0, mode="trilinear"), 16 * 8 * N, 8 * N),
    ("concat", lambda x: torch.cat([x, x], 1), 0, 2 * N),
    ("pad", lambda x: F.pad(x, (1, 1)), 0, N // 8 * 10),
    ("view", lambda x: x.view(2, -1).t(), 0, 0),
    ("permute", lambda x: x.permute(0, 2, 3, 1), 0, 0),
    ("permute and copy", lambda x: x.permute(0, 2, 3, 1).contiguous(), 0, N),
    ("slices", lambda x: x[:, :, ::2].chunk(2, 1)[0], 0, 0),
    ("constant", lambda x: x + torch.ones(8), N, N),
    ("written slices", lambda x: _written(x), 0, N // 2),
    ("matrix product", lambda x: x @ x.transpose(2, 3), 2 * N * 8, N),
    ("attention in parts", lambda x: F.scaled_dot_product_attention(x, x, x), 2 * N * 8 * 2 + 7 * N, 5 * N),
    ("attention kept whole", lambda x: _attention_on_values(x), N + 2 * N * 8 * 2 + 6 * N, 1 + N),
    ("pixel shuffle", lambda x: F.pixel_shuffle(x[:, :4], 2), 0, N * 4 // 6),
]  # fmt: skip


def _written(x: Tensor) -> Tensor:
    out = x.new_zeros(x.shape)
    out[:, :3] = x[:, 3:]
    return out


def _attention_on_values(x: Tensor) -> Tensor:
    """Reads a value, so that the network is traced on real tensors, for which the op has one kernel."""
    return F.scaled_dot_product_attention(x, x, x) if x.sum().item() == 0 else x


@pytest.mark.parametrize(("name", "function", "flops", "elements"), OTHERS)
def test_every_row_of_the_table(name: str, function: Any, flops: int, elements: int) -> None:
    network = function if isinstance(function, nn.Module) else Op(function)
    found = counted(network, (2, 6, 8, 8))
    assert (found.flops, found.memory_bytes) == (flops, 4 * elements), name


def test_memory_follows_the_dtype_of_the_input() -> None:
    graph = trace(nn.Conv1d(1, 2, 1).double(), torch.zeros(1, 1, 5, dtype=torch.float64))
    assert cost.compile(graph)(np.ones(graph.count, dtype=bool)).memory_bytes == 8 * 10


def test_a_layer_called_twice_counts_twice_and_its_parameters_once() -> None:
    shared = nn.Conv2d(3, 3, 1, bias=False)
    assert counted(nn.Sequential(shared, shared), (1, 3, 2, 2)) == cost.Costs(9, 2 * 12 * 3 * 2, 2 * 12 * 4)
