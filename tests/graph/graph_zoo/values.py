"""Paths chosen by values: every path that can be found is followed, so that a slim network runs on each."""

import torch
from torch import Tensor, nn

from graph_zoo.case import network
from graph_zoo.cutting import Net
from graph_zoo.sharing import block


@network((2, 3, 8, 8))
class RareBranch(nn.Module):
    """A branch that the example inputs do not take."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.usual, self.rare, self.head = block(3, 8), block(8, 6), block(8, 6), nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.head(self.rare(x) if x.mean() > 1e3 else self.usual(x))


@network((2, 3, 8, 8))
class ChoosesElements(nn.Module):
    """Conditions on elements, of which a slim network has fewer, beside one that decides the path."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.head = block(3, 8), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        x = torch.where(x > 0.1, x, 0.1 * x)
        return self.head(2 * x if x.mean() > 1e3 else x)


@network((2, 3, 8, 8))
class DrawsPlaces(nn.Module):
    """Columns by a mask that is drawn after noise on all channels: a slim network, which draws less, takes the same."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = block(3, 8), block(8, 6), nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        x = x + 0.1 * torch.rand_like(x)
        return self.head(self.b(x)[..., torch.rand_like(x.mean(1)[0, 0]) > 0.5].mean((2, 3), keepdim=True))


@network((2, 3, 8, 8))
class Loop(nn.Module):
    """As many turns as the values ask for."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.turn, self.head = block(3, 8), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        for _ in range(20):
            if not x.abs().max() > 0.1:
                break
            x = 0.3 * x + 0.01 * torch.tanh(self.turn(x))
        return self.head(x)


@network((2, 3, 8, 8), frozen=0.2, trains=False)
class OneExpert(Net):
    """One of four experts, by the number of the largest gate."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(16, 4)
        self.experts = nn.ModuleList(nn.Sequential(nn.Conv2d(16, 6, 1), nn.Conv2d(6, 16, 1)) for _ in range(4))

    def middle(self, x: Tensor) -> Tensor:
        return self.experts[int(self.gate(x.mean((0, 2, 3))).argmax())](x)  # type: ignore[no-any-return]


@network((4, 3, 8, 8), frozen=0.6, trains=False)
class ExpertsBySample(Net):
    """Every sample to the expert its gate chooses, as far as any chooses it."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(16, 3)
        self.experts = nn.ModuleList(nn.Sequential(nn.Conv2d(16, 6, 1), nn.Conv2d(6, 16, 1)) for _ in range(3))

    def middle(self, x: Tensor) -> Tensor:
        chosen, out = self.gate(x.mean((2, 3))).argmax(1), torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            mine = chosen == number
            if mine.any():
                out[mine] = expert(x[mine])
        return out
