"""Small networks the tests of the core share: residual, depthwise, concatenating, grouped, norm-mixing."""

import torch
from torch import Tensor, nn


class Residual(nn.Module):
    """Convolutions with batch norm and a residual add, in 2D or 3D."""

    def __init__(self, dims: int = 2, width: int = 8, classes: int = 3) -> None:
        super().__init__()
        conv = (nn.Conv2d, nn.Conv3d)[dims - 2]
        norm = (nn.BatchNorm2d, nn.BatchNorm3d)[dims - 2]
        self.stem = nn.Sequential(conv(1, width, 3, padding=1, bias=False), norm(width), nn.ReLU())
        self.inner = nn.Sequential(conv(width, 2 * width, 3, padding=1, bias=False), norm(2 * width), nn.ReLU())
        self.outer = nn.Sequential(conv(2 * width, width, 1, bias=False), norm(width))
        self.head = conv(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head((x + self.outer(self.inner(x))).relu())


class Depthwise(nn.Module):
    """An inverted residual block as MobileNetV2's, with a linear head."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, width, 3, stride=2)
        self.expand = nn.Conv2d(width, 4 * width, 1)
        self.depthwise = nn.Conv2d(4 * width, 4 * width, 3, padding=1, groups=4 * width)
        self.project = nn.Conv2d(4 * width, width, 1)
        self.head = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.project(self.depthwise(self.expand(x).relu()).relu())
        return self.head(x.mean((2, 3)))


class Dense(nn.Module):
    """Concatenated features, a transposed convolution and group norm."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv3d(1, 6, 3, padding=1)
        self.second = nn.Conv3d(7, 8, 3, padding=1, stride=2)
        self.norm = nn.GroupNorm(2, 8)
        self.up = nn.ConvTranspose3d(8, 4, 2, stride=2)
        self.head = nn.Conv3d(11, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.cat([x, self.first(x).relu()], dim=1)
        z = self.up(self.norm(self.second(y)).relu())
        return self.head(torch.cat([y, z], dim=1))


def small(name: str, seed: int = 0) -> tuple[nn.Module, Tensor]:
    """Return a small network with weights of a seed, and an example input."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name == "residual2d":
            return Residual(2), torch.zeros(2, 1, 12, 12)
        if name == "residual3d":
            return Residual(3), torch.zeros(1, 1, 8, 8, 8)
        if name == "depthwise":
            return Depthwise(), torch.zeros(2, 2, 17, 17)
        assert name == "dense"
        return Dense(), torch.zeros(1, 1, 8, 8, 8)


NAMES = ("residual2d", "residual3d", "depthwise", "dense")
