"""How long trace, select and slim take as networks grow, beside Torch-Pruning in the same run.

    python benchmarks/graph_scaling.py [--peers] [--networks]

CPU seconds of one thread, the median of several repeats. `select` is a random plan, grown until every constraint holds.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from machine import describe
from torch import Tensor, nn

from ranp import models
from ranp.graph.build import trace
from ranp.graph.constraints import random_plan
from ranp.graph.resize import resized

LAYERS = (50, 100, 200, 400)


class Residual(nn.Module):
    """Two convolutions with batch norms beside an identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        """Add what the convolutions make of features (B, C, H, W) to them."""
        return torch.relu(x + self.second(self.first(x)))


class Dense(nn.Module):
    """Every convolution reads all features made before it."""

    def __init__(self, layers: int, growth: int = 4) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 16, 3), nn.Conv2d(16 + growth * (layers - 2), 4, 1)
        self.layers = nn.ModuleList(nn.Conv2d(16 + growth * i, growth, 3, padding=1) for i in range(layers - 2))

    def forward(self, x: Tensor) -> Tensor:
        """Map an image (B, 3, H, W) to (B, 4, H - 2, W - 2)."""
        features = [self.stem(x)]
        for layer in self.layers:
            features.append(torch.relu(layer(torch.cat(features, 1))))
        return self.head(torch.cat(features, 1))  # type: ignore[no-any-return]


def residual(layers: int, width: int = 32) -> nn.Module:
    blocks = [Residual(width) for _ in range((layers - 2) // 2)]
    return nn.Sequential(nn.Conv2d(3, width, 3), *blocks, nn.Conv2d(width, 4, 1))


def seconds(action: Callable[[], object], repeats: int = 5) -> float:
    """Return the median of several CPU times of an action."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        action()
        times.append(time.process_time() - start)
    return statistics.median(times)


def ours(net: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Trace a network, draw a plan that removes half of it, and slim it."""
    graph = trace(net, inputs)
    resized(graph, net, random_plan(graph, 0.5, np.random.default_rng(0)))


def peers(net: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Build Torch-Pruning's dependency graph and remove half of the channels by magnitude."""
    import torch_pruning

    importance, last = torch_pruning.importance.MagnitudeImportance(p=1), list(net.modules())[-1]
    pruner = torch_pruning.pruner.MetaPruner(net, inputs, importance, pruning_ratio=0.5, ignored_layers=[last])
    pruner.step()


def row(
    name: str, build: Callable[[], nn.Module], inputs: tuple[Tensor, ...], *, with_peers: bool, repeats: int = 5
) -> float:
    """Print one line of the table and return our seconds."""
    net = build().eval()
    mine = seconds(lambda: ours(net, inputs), repeats)
    text = f"{name:24s} ours {mine:8.2f} s"
    if with_peers:
        try:
            text += f"   Torch-Pruning {seconds(lambda: peers(build().eval(), inputs), 1):8.2f} s"
        except Exception as error:  # whatever stops the peer is the figure
            text += f"   Torch-Pruning {type(error).__name__}: {str(error)[:60]}"
    print(text, flush=True)
    return mine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", action="store_true", help="time Torch-Pruning beside it")
    parser.add_argument("--networks", action="store_true", help="psm and i3d at their preset sizes too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(describe())
    image = (torch.zeros(1, 3, 32, 32),)
    ours(residual(6).eval(), image)  # imports and caches
    times = [row(f"residual, {n} layers", partial(residual, n), image, with_peers=options.peers) for n in LAYERS]
    print(f"400 layers over 100: {times[3] / times[1]:.2f}")
    row("dense, 100 layers", lambda: Dense(100), image, with_peers=options.peers)
    if options.networks:
        for name, preset in (("psm", "sceneflow"), ("i3d", "ucf101")):
            shapes = models.preset(name, preset).batched_shapes
            inputs = tuple(torch.zeros(1, *shape[1:]) for shape in shapes)
            row(
                f"{name} {preset}",
                partial(models.build, name, preset),
                inputs,
                with_peers=options.peers,
                repeats=1,
            )


if __name__ == "__main__":
    main()
