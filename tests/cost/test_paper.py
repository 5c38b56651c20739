"""The paper's convention against counts made by hand, one module at a time."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ranp import cost
from ranp.errors import UsageError
from ranp.graph.build import trace

N = 2 * 6 * 8 * 8
MODULES: list[tuple[nn.Module, tuple[int, ...], int, int]] = [
    (nn.Conv1d(2, 3, 5), (1, 2, 9), 3 * 5 * (2 * 5 + 1), 3 * 5),
    (nn.Conv2d(4, 6, 3, groups=2, bias=False), (1, 4, 5, 5), 6 * 9 * 2 * 9, 6 * 9),
    (nn.Conv3d(4, 8, 3, groups=4, bias=False), (1, 4, 4, 4, 4), 8 * 8 * 27, 8 * 8),
    (nn.ConvTranspose3d(2, 3, 3, stride=2), (1, 2, 2, 2, 2), 3 * 125 * (2 * 27 + 1), 3 * 125),
    (nn.Linear(7, 3), (2, 7), 2 * 3 * 2 * 7, 2 * 3),
    (nn.Linear(7, 3, bias=False), (2, 7), 2 * 3 * (2 * 7 - 1), 2 * 3),
    (nn.BatchNorm2d(6), (2, 6, 8, 8), 4 * N, N),
    (nn.AvgPool2d(4), (2, 6, 8, 8), N // 16 * 17, N // 16),
    (nn.AvgPool1d(2), (2, 6, 8), 2 * 6 * 4 * 3, 2 * 6 * 4),
    (nn.Softmax(1), (2, 6, 8, 8), 2 * (3 * 6 - 1), N),
    (nn.ReLU(inplace=True), (2, 6, 8, 8), 0, N),
    (nn.MaxPool2d(2), (2, 6, 8, 8), 0, N // 4),
    (nn.Dropout(), (2, 6, 8, 8), 0, N),
    (nn.Flatten(), (2, 6, 8, 8), 0, N),
]


@pytest.mark.parametrize(("module", "shape", "ops", "elements"), MODULES)
def test_one_module(module: nn.Module, shape: tuple[int, ...], ops: int, elements: int) -> None:
    graph = trace(module, torch.zeros(shape))
    found = cost.compile(graph, "paper")(np.ones(graph.count, dtype=bool))
    assert (found.flops, found.memory_bytes) == (ops, 4 * elements)


class Functional(nn.Module):
    """A convolution whose activation, pooling and sum are functional, called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(x)).mean((2, 3)) + self.conv(x).amax((2, 3))


def test_functional_ops_are_not_seen_and_calls_add_up() -> None:
    graph = trace(Functional(), torch.zeros(1, 2, 3, 3))
    assert cost.compile(graph, "paper")(np.ones(graph.count, dtype=bool)) == cost.Costs(4, 2 * 18 * 2, 2 * 18 * 4)


def test_switches_are_checked() -> None:
    graph = trace(nn.Conv2d(1, 2, 1), torch.zeros(1, 1, 3, 3))
    with pytest.raises(UsageError, match="did you mean 'paper'"):
        cost.compile(graph, "papr")
    with pytest.raises(UsageError, match="published_transposed"):
        cost.compile(graph, published_transposed=True)
    with pytest.raises(UsageError, match="expected a bool mask of shape"):
        cost.compile(graph)(np.ones(graph.count + 1, dtype=bool))
