"""Random networks for property tests: a list of steps, each drawn from what the features at hand allow."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor, nn

Draw = Callable[[st.SearchStrategy[Any]], Any]
CONVS = {2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
BATCH_NORMS = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
INSTANCE_NORMS = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}


class Step(nn.Module):
    """One step: a module and a function of (module, features, what was kept)."""

    def __init__(self, name: str, module: nn.Module, act: Callable[[nn.Module, Tensor, list[Tensor]], Tensor]) -> None:
        super().__init__()
        self.name, self.module, self.act = name, module, act

    def forward(self, x: Tensor, kept: list[Tensor]) -> Tensor:
        return self.act(self.module, x, kept)


class RandomNetwork(nn.Module):
    """Steps one after another, each with what the ones before it left; a convolution or linear layer at the end."""

    def __init__(self, draw: Draw) -> None:
        super().__init__()
        self.dims = draw(st.sampled_from([2, 2, 3]))
        self.size = 8 if self.dims == 2 else 4
        width = draw(st.sampled_from([4, 6, 8]))
        self.stem = CONVS[self.dims](2, width, 3, padding=1)
        steps, self.widths, self.pool = [], [width], nn.ModuleList()
        for _ in range(draw(st.integers(2, 6))):
            step, width = self._step(draw, width)
            steps.append(step)
            self.widths.append(width)
        self.steps = nn.ModuleList(steps)
        self.flat = draw(st.sampled_from(["conv", "mean", "flatten"]))
        size = width * (self.size // 2) ** self.dims if self.flat == "flatten" else width
        self.head = CONVS[self.dims](width, 2, 1) if self.flat == "conv" else nn.Linear(size, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        kept = [x]
        for step in self.steps:
            x = step(x, kept)
            kept.append(x)
        if self.flat == "mean":
            x = x.mean(tuple(range(2, x.ndim)))
        elif self.flat == "flatten":
            x = (F.max_pool2d if self.dims == 2 else F.max_pool3d)(x, 2).flatten(1)
        return self.head(x)

    def _step(self, draw: Draw, width: int) -> tuple[Step, int]:
        kinds = ["conv", "conv", "norm", "relu", "depthwise", "pool", "gate", "shared", "prelu", "reverse", "statistic"]
        kinds += ["grouped", "transposed", "split", "shuffle", "group_norm"] if width % 2 == 0 else []
        kinds += ["add"] if self.widths.count(width) > 1 else []
        kinds += ["concat"] if width <= 12 else []
        kinds += ["chunk"] if width % 2 == 0 and width >= 4 else []
        return self._make(draw, draw(st.sampled_from(kinds)), width)

    def _make(self, draw: Draw, kind: str, width: int) -> tuple[Step, int]:
        out = draw(st.sampled_from([4, 6, 8]))
        conv = CONVS[self.dims]
        if kind == "conv":
            return Step(kind, conv(width, out, 3, padding=1, bias=draw(st.booleans())), _plain), out
        if kind == "grouped":
            return Step(kind, conv(width, out, 3, padding=1, groups=2), _plain), out
        if kind == "depthwise":
            times = draw(st.sampled_from([1, 2])) if width <= 8 else 1
            return Step(kind, conv(width, width * times, 3, padding=1, groups=width), _plain), width * times
        if kind == "transposed":
            groups = draw(st.sampled_from([1, 2]))
            return Step(kind, TRANSPOSED[self.dims](width, out, 3, padding=1, groups=groups), _plain), out
        if kind == "norm":
            norm = draw(st.sampled_from([BATCH_NORMS, INSTANCE_NORMS]))[self.dims](width, affine=draw(st.booleans()))
            return Step(kind, norm, _plain), width
        if kind == "group_norm":
            return Step(kind, nn.GroupNorm(draw(st.sampled_from([1, 2])), width), _plain), width
        if kind == "shared":  # one convolution, twice
            module = conv(width, width, 3, padding=1)
            return Step(kind, module, lambda m, x, kept: m(torch.relu(m(x)))), width
        if kind == "concat":
            other = draw(st.integers(0, len(self.widths) - 1))
            return Step(kind, nn.Identity(), lambda m, x, kept: torch.cat([kept[other], x], 1)), width + self.widths[
                other
            ]
        if kind == "add":
            other = draw(st.sampled_from([i for i, each in enumerate(self.widths) if each == width]))
            return Step(kind, nn.Identity(), lambda m, x, kept: x + kept[other]), width
        if kind == "gate":
            return Step(kind, conv(width, width, 1), _gate), width
        return self._without_layer(draw, kind, width)

    def _without_layer(self, draw: Draw, kind: str, width: int) -> tuple[Step, int]:
        if kind == "prelu":
            return Step(kind, nn.PReLU(width), _plain), width
        if kind == "pool":
            pool = F.max_pool2d if self.dims == 2 else F.max_pool3d
            return Step(kind, nn.Identity(), lambda m, x, kept: pool(x, 3, 1, 1)), width
        if kind == "split":
            first = draw(st.integers(1, width - 1))
            return Step(kind, nn.Identity(), lambda m, x, kept: torch.cat([x[:, first:], x[:, :first]], 1)), width
        if kind == "chunk":
            return Step(kind, nn.Identity(), _product_of_halves), width // 2
        functions: dict[str, Callable[[nn.Module, Tensor, list[Tensor]], Tensor]] = {
            "relu": lambda m, x, kept: F.relu(x),
            "reverse": lambda m, x, kept: x.flip(1),
            "statistic": lambda m, x, kept: x * torch.sigmoid(x.mean(1, keepdim=True)),
            "shuffle": _shuffle,
        }
        return Step(kind, nn.Identity(), functions[kind]), width


def _plain(module: nn.Module, x: Tensor, kept: list[Tensor]) -> Tensor:
    return module(x)  # type: ignore[no-any-return]


def _gate(module: nn.Module, x: Tensor, kept: list[Tensor]) -> Tensor:
    gate = module(x.mean(tuple(range(2, x.ndim)), keepdim=True))
    return x * torch.sigmoid(gate)


def _product_of_halves(module: nn.Module, x: Tensor, kept: list[Tensor]) -> Tensor:
    a, b = x.chunk(2, 1)
    return a * torch.tanh(b)


def _shuffle(module: nn.Module, x: Tensor, kept: list[Tensor]) -> Tensor:
    b, c, *rest = x.shape
    return x.view(b, 2, c // 2, *rest).transpose(1, 2).reshape(b, c, *rest)
