"""The number of channels read by the code itself, in places a slim network would get wrong: what it moves stays."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from graph_zoo.case import add
from graph_zoo.cutting import Net

SHAPES = ((2, 3, 8, 8),)


class _Counts(Net):
    def __init__(self, middle: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.act = middle

    def middle(self, x: Tensor) -> Tensor:
        return self.act(x)


def _masked_rows(x: Tensor) -> Tensor:
    y = torch.zeros_like(x)
    y[:, :, : x.shape[1] // 4] = x[:, :, : x.shape[1] // 4]
    return y


def _ones(x: Tensor, *shape: int) -> Tensor:
    return torch.ones(shape, dtype=x.dtype, device=x.device)


COUNTS: dict[str, Callable[[Tensor], Tensor]] = {
    "Row": lambda x: x * x[:, :, x.shape[1] // 4 : x.shape[1] // 4 + 1],
    "OneRow": lambda x: x * x[:, :, x.shape[1] // 4, None],
    "Rows": _masked_rows,
    "Shift": lambda x: x.roll(x.shape[1] // 8, 2),
    "Padding": lambda x: F.pad(x, (x.shape[1] // 8, 0)),
    "Crop": lambda x: F.pad(x, (-(x.shape[1] // 8), 0)),
    "Size": lambda x: F.interpolate(x, size=(x.shape[1] // 2, 8)),
    "Window": lambda x: F.avg_pool2d(x, 1 + x.shape[1] // 16, 1),
    "Flip": lambda x: x.flip(2) if x.shape[1] % 2 else x,
    "Exponent": lambda x: x.abs() ** (1 / x.shape[1]),
    "Slope": lambda x: F.leaky_relu(x - 0.5, 0.1 / x.shape[1]),
    "Bound": lambda x: x.clamp(max=x.shape[1] / 16),
    "SumOfOnes": lambda x: x + _ones(x, x.shape[1]).sum(),
    "SumOfOnesLike": lambda x: x + torch.ones_like(x).sum(1, keepdim=True),
    "SumOfNumbers": lambda x: x + torch.arange(x.shape[1]).sum(),
    "ConstantFilter": lambda x: x + F.conv2d(x, _ones(x, 1, x.shape[1], 3, 3), padding=1),
    "ConstantMatrix": lambda x: x + (x.movedim(1, -1) @ _ones(x, x.shape[1], 1)).movedim(-1, 1),
    "ConstantTriangle": lambda x: torch.einsum("oc,bchw->bohw", _ones(x, x.shape[1], x.shape[1]).tril(), x),
}

for _name, _act in COUNTS.items():
    add(f"Counts{_name}", lambda act=_act: _Counts(act), SHAPES, frozen=0.7)


def _written(x: Tensor) -> Tensor:
    y, places = x.clone(), torch.arange(0, 8, 2, device=x.device)
    y[y < 0.2] = 0
    y[:, :, places] = x[:, :, places + 1]
    y[:, :, places, places] = 1
    return y


def _whole_samples(x: Tensor) -> Tensor:
    y, chosen = torch.zeros_like(x), x.mean((1, 2, 3)) > -1e9
    y[chosen] = x[chosen] * 2
    return y


def _repeated(x: Tensor) -> Tensor:
    kernel = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]], dtype=x.dtype, device=x.device) / 16
    return F.conv2d(x, kernel.expand(x.shape[1], 1, 3, 3), padding=1, groups=x.shape[1])


add("WrittenByPlaces", lambda: _Counts(_written), SHAPES)
add("WrittenBySamples", lambda: _Counts(_whole_samples), SHAPES)
add("OneFilterForAll", lambda: _Counts(_repeated), SHAPES)
