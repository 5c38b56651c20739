"""Small encoders of the kinds people have."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)


class Residual(nn.Module):
    """A block that begins at the old size and halves it in its second convolution, as bottlenecks do."""

    def __init__(self, into: int, out: int, dims: int, stride: int = 2) -> None:
        super().__init__()
        conv, norm = CONVS[dims - 1], NORMS[dims - 1]
        self.first, self.norm = conv(into, out, 1, bias=False), norm(out)
        self.second = conv(out, out, 3, stride, 1, bias=False)
        self.short = conv(into, out, 1, stride, bias=False)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return what a strided bottleneck gives."""
        return self.act(self.second(self.act(self.norm(self.first(x)))) + self.short(x))  # type: ignore[no-any-return]


class Classifier(nn.Module):
    """A residual network with a head: a stem at stride 2 and stages at 4 and 8."""

    def __init__(self, dims: int = 2, widths: Sequence[int] = (4, 6, 8)) -> None:
        super().__init__()
        self.stem = nn.Sequential(CONVS[dims - 1](1, widths[0], 3, 2, 1), nn.ReLU())
        self.layer1 = nn.Sequential(Residual(widths[0], widths[1], dims), Residual(widths[1], widths[1], dims, 1))
        self.layer2 = Residual(widths[1], widths[2], dims)
        self.head = nn.Linear(widths[2], 5)

    def forward(self, x: Tensor) -> Tensor:
        """Return scores."""
        return self.head(self.layer2(self.layer1(self.stem(x))).flatten(2).mean(2))  # type: ignore[no-any-return]


class Pyramid(nn.Module):
    """Gives a list of features, as timm's `features_only=True` does."""

    def __init__(self, dims: int = 2) -> None:
        super().__init__()
        widths, conv = (1, 3, 5, 7), CONVS[dims - 1]
        self.levels = nn.ModuleList(conv(a, b, 3, 2, 1) for a, b in pairwise(widths))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return all levels, the finest first."""
        features = []
        for level in self.levels:
            x = level(x).relu()
            features.append(x)
        return features


def image(dims: int = 2, size: int = 16, batch: int = 2, seed: int = 0) -> Tensor:
    return torch.randn((batch, 1, *(size,) * dims), generator=torch.Generator().manual_seed(seed))
