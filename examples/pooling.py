"""Restore pictures of thin lines from what two poolings left of them: maxima, means, or polynomial pooling.

python examples/pooling.py --picture pooling.png

The pools see the pictures themselves, with some dead pixels of value 0, so what they drop is gone. A maximum forgets
the dark lines; a mean keeps them and is pulled down by dead pixels; polynomial pooling keeps them, and gives a 0 no
weight. It begins at --alpha, near to the maximum, and learns how near it should be. The three networks have the same
first weights; only `swap_pooling` makes the difference.
"""

import argparse
import copy
import math
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ranp.adapters.pooling import PPool, param_groups, swap_pooling
from ranp.errors import need


def pictures(count: int, size: int, dead: float, seed: int) -> tuple[Tensor, Tensor]:
    """Return (count, 1, size, size): thin bright and dark lines on a smooth ground, and those with dead pixels."""
    random = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(*[torch.arange(size) / size - 0.5] * 2, indexing="ij")
    made = []
    for _ in range(count):
        a, b, phase = torch.rand(3, generator=random)
        picture = 0.5 + 0.15 * torch.sin(2 * math.pi * (a * x + b * y + phase))
        for angle, offset, bend, sign in torch.rand((8, 4), generator=random):
            along = torch.cos(math.pi * angle) * x + torch.sin(math.pi * angle) * y
            across = torch.cos(math.pi * angle) * y - torch.sin(math.pi * angle) * x
            line = (across - 0.9 * (offset - 0.5) + (bend - 0.5) * along**2).abs() < 0.6 / size
            picture = picture + torch.where(line, 0.25 if sign < 0.5 else -0.25, 0.0)
        made.append(picture + 0.01 * torch.randn((size, size), generator=random))
    right = torch.stack(made)[:, None].clamp(0, 1)
    return right, right * (torch.rand(right.shape, generator=random) >= dead)


class Restorer(nn.Module):
    """Pool by 4 and restore: three convolutions and a pixel shuffle."""

    def __init__(self, width: int, seed: int) -> None:
        super().__init__()
        self.pools = nn.Sequential(nn.MaxPool2d(2), nn.MaxPool2d(2))
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            first, second = nn.Conv2d(1, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
            last = nn.Conv2d(width, 16, 1)
        self.restore = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), last, nn.PixelShuffle(4))

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, 1, H, W) to the same."""
        restored: Tensor = self.restore(self.pools(image))
        return restored


def train(net: nn.Module, right: Tensor, images: Tensor, steps: int, seed: int) -> None:
    """Minimise the squared error; Adam makes up for small gradients by itself, so alpha's factors are mild."""
    optimizer = torch.optim.Adam(param_groups(net, 3e-3, factor=1, slopes=1, bias=30))
    random = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        batch = torch.randint(len(images), (8,), generator=random)
        optimizer.zero_grad()
        F.mse_loss(net(images[batch]), right[batch]).backward()
        optimizer.step()


def psnr(image: Tensor, right: Tensor) -> float:
    return -10 * math.log10(F.mse_loss(image, right).item())


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=48, help="of the pictures, a multiple of 4")
    parser.add_argument("--count", type=int, default=96, help="pictures to train on; a third as many more are restored")
    parser.add_argument("--dead", type=float, default=0.15, help="share of pixels that are 0")
    parser.add_argument("--alpha", type=float, default=10.0, help="where polynomial pooling begins")
    parser.add_argument("--mode", default="predicted", choices=["fixed", "layer", "channel", "predicted"])
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args(arguments)
    right, images = pictures(options.count, options.size, options.dead, options.seed)
    unseen, spoilt = pictures(max(1, options.count // 3), options.size, options.dead, options.seed + 1)

    largest = Restorer(options.width, options.seed)
    mean = copy.deepcopy(largest)
    mean.pools = nn.Sequential(nn.AvgPool2d(2), nn.AvgPool2d(2))
    polynomial = swap_pooling(largest, "p", mode=options.mode, alpha=options.alpha, example_inputs=spoilt[:1])
    assert isinstance(polynomial, Restorer)
    shown = {"picture": (spoilt[0, 0], unseen[0, 0])}
    for name, net in {"maximum": largest, "mean": mean, "polynomial": polynomial}.items():
        train(net, right, images, options.steps, options.seed)
        with torch.no_grad():
            pooled, restored = net.pools(spoilt), net(spoilt)
        shown[name] = pooled[0, 0], restored[0, 0]
        print(f"{name:10s} PSNR {psnr(restored, unseen):.2f} dB{exponents(net.pools, spoilt)}")
    if options.picture:
        figure = need("matplotlib.figure", "plots").Figure(figsize=(3 * len(shown), 6), layout="constrained")
        axes = figure.subplots(2, len(shown))
        for column, (name, pair) in zip(axes.T, shown.items(), strict=True):
            titles = ("input", "right") if name == "picture" else (f"{name}: pooled by 4", f"{name}: restored")
            for place, image, title in zip(column, pair, titles, strict=True):
                place.imshow(image.numpy(), vmin=0, vmax=1, cmap="gray")
                place.set_title(title)
                place.set_axis_off()
        figure.savefig(options.picture)


def exponents(pools: nn.Sequential, images: Tensor) -> str:
    """Say where each P-pooling's alpha has come to, on average."""
    found = []
    with torch.no_grad():
        for pool in pools:
            if isinstance(pool, PPool):
                found.append(f"{pool.alpha(images).mean().item():.1f}")
                images = pool(images)
    return f", alpha {' and '.join(found)}" if found else ""


if __name__ == "__main__":
    main()
