"""Modules and tensors used more than once, several inputs, several outputs, heads of one mode."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from graph_zoo.case import network


def block(i: int, o: int, **settings: object) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(i, o, 3, padding=1, **settings), nn.BatchNorm2d(o), nn.ReLU())


@network((2, 3, 8, 8))
class CalledTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body, self.head = block(3, 8), block(8, 8), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for _ in range(3):
            x = self.body(x)
        return self.head(x)


@network((2, 3, 8, 8))
class TiedParameters(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b, self.head = (
            block(3, 8),
            nn.Conv2d(8, 6, 3, padding=1),
            nn.Conv2d(8, 6, 3, padding=1),
            nn.Conv2d(12, 2, 1),
        )
        self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(torch.cat([self.a(x), self.b(x.flip(-1))], 1))


@network((2, 3, 16))
class TiedAutoencoder(nn.Module):
    """The decoder multiplies with the transposed encoder weight."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.hidden = nn.Linear(16, 12), nn.Linear(12, 12)

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.relu(self.hidden(F.relu(self.encode(x))))
        return F.linear(hidden, self.encode.weight.t())


@network((2, 1, 8, 8), (2, 1, 8, 8))
class Siamese(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.arm, self.head = nn.Sequential(block(1, 6), block(6, 8)), nn.Linear(16, 3)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        a, b = self.arm(left).mean((2, 3)), self.arm(right).mean((2, 3))
        return self.head(torch.cat([(a - b).abs(), a * b], 1))


@network((1, 1, 8, 16), (1, 1, 8, 16))
class CostVolume(nn.Module):
    """Shifted features of two images written into a tensor of zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.arm = nn.Sequential(block(1, 6), nn.Conv2d(6, 6, 3, padding=1))
        self.cost = nn.Sequential(
            nn.Conv3d(12, 8, 3, padding=1), nn.BatchNorm3d(8), nn.ReLU(), nn.Conv3d(8, 1, 3, padding=1)
        )

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        a, b = self.arm(left), self.arm(right)
        volume = a.new_zeros(a.shape[0], 2 * a.shape[1], 4, a.shape[2], a.shape[3])
        for shift in range(4):
            if shift:
                volume[:, : a.shape[1], shift, :, shift:] = a[..., shift:]
                volume[:, a.shape[1] :, shift, :, shift:] = b[..., :-shift]
            else:
                volume[:, : a.shape[1], 0] = a
                volume[:, a.shape[1] :, 0] = b
        return F.softmax(self.cost(volume).squeeze(1), 1).sum(2)


@network((1, 3, 16, 16))
class SharedHead(nn.Module):
    """A feature pyramid: laterals summed, one head on all levels, given as a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2, self.c3 = block(3, 8), block(8, 12), block(12, 16)
        self.l1, self.l2, self.l3 = nn.Conv2d(8, 6, 1), nn.Conv2d(12, 6, 1), nn.Conv2d(16, 6, 1)
        self.head = nn.Sequential(block(6, 10), nn.Conv2d(10, 2, 1))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        c1 = self.c1(x)
        c2 = self.c2(F.max_pool2d(c1, 2))
        c3 = self.c3(F.max_pool2d(c2, 2))
        p3 = self.l3(c3)
        p2 = self.l2(c2) + F.interpolate(p3, size=c2.shape[2:], mode="nearest")
        p1 = self.l1(c1) + F.interpolate(p2, scale_factor=2, mode="bilinear")
        return {"p1": self.head(p1), "p2": self.head(p2), "p3": self.head(p3)}


@network((1, 3, 16, 16))
class DeepSupervision(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = block(3, 8), block(8, 8), block(8, 8)
        self.heads = nn.ModuleList(nn.Conv2d(8, 2, 1) for _ in range(3))

    def forward(self, x: Tensor) -> tuple[Tensor, ...] | Tensor:
        outs = []
        for stage, head in zip((self.a, self.b, self.c), self.heads, strict=True):
            x = stage(x)
            outs.append(head(x))
        return tuple(outs) if self.training else outs[-1]


@network((2, 3, 8, 8))
class TrainingHead(nn.Module):
    """An auxiliary classifier that runs in training mode only, with its own view."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = block(3, 8), block(8, 8), nn.Conv2d(8, 2, 1)
        self.side, self.classes = nn.Conv2d(8, 6, 1), nn.Linear(6 * 16, 5)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        x = self.a(x)
        out = self.head(self.b(x))
        if not self.training:
            return out
        return out, self.classes(F.adaptive_avg_pool2d(self.side(x), 4).flatten(1))


@dataclass
class Answer:
    logits: Tensor
    features: tuple[Tensor, ...]


@network((1, 3, 8, 8))
class DataclassOutput(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = block(3, 8), block(8, 6), nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Answer:
        x = self.b(self.a(x))
        return Answer(self.head(x), (x.mean(1),))


@network((1, 3, 8, 8))
class Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = block(3, 8), block(8, 8), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        x = checkpoint(self.b, x, use_reentrant=False)
        return self.head(x)


@network((1, 3, 8, 8))
class FrozenLayers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = block(3, 8), block(8, 8), nn.Conv2d(8, 2, 1)
        for parameter in self.a.parameters():
            parameter.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.b(self.a(x)))


@network((1, 3, 8, 8))
class ReadsAValue(nn.Module):
    """Control flow on a value: the run needs real tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = block(3, 8), block(8, 8), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        if x.abs().max().item() >= 0:
            x = x + self.b(x)
        return self.head(x)


class _Recursive(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mix, self.out = nn.Conv2d(12, 8, 3, padding=1), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor, hidden: Tensor | None = None, steps: int = 3) -> Tensor:
        if hidden is None:
            hidden = torch.zeros(x.shape[0], 8, *x.shape[2:], dtype=x.dtype, device=x.device)
        for _ in range(steps):
            hidden = torch.tanh(self.mix(torch.cat([x, hidden], 1)))
        return self.out(hidden)


@network((1, 3, 8, 8), frozen=0.6)
class HandRecurrent(nn.Module):
    """A recurrent cell by hand that starts from zeros of a baked size."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.cell = nn.Conv2d(3, 4, 3, padding=1), _Recursive()

    def forward(self, x: Tensor) -> Tensor:
        return self.cell(self.stem(x))
