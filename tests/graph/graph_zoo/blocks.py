"""Blocks as people write them: recurrence, kinds of attention, octave and masked convolutions."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graph_zoo.case import add, network
from graph_zoo.sharing import block


class _Recurrent(nn.Module):
    """Two layers, or two directions, over the columns of an image."""

    def __init__(self, kind: type[nn.Module], **settings: Any) -> None:
        super().__init__()
        self.stem, self.rnn = block(3, 8), kind(8, 6, batch_first=True, **settings)
        self.out = nn.Linear(12 if settings.get("bidirectional") else 6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(self.stem(x).mean(2).transpose(1, 2))[0].mean(1))


add("LSTMOfTwoLayers", lambda: _Recurrent(nn.LSTM, num_layers=2), ((2, 3, 8, 8),))
add("GRUOfTwoDirections", lambda: _Recurrent(nn.GRU, bidirectional=True), ((2, 3, 8, 8),))


@network((2, 3, 8, 8))
class ConvLSTM(nn.Module):
    """Its states start as zeros of its input's width: both keep equally many without being the same channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.cell, self.out = block(3, 8), nn.Conv2d(16, 32, 3, padding=1), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        hidden, cell = torch.zeros_like(x), torch.zeros_like(x)
        for _ in range(2):
            i, f, g, o = self.cell(torch.cat([x, hidden], 1)).chunk(4, 1)
            cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
            hidden = torch.sigmoid(o) * torch.tanh(cell)
        return self.out(hidden)


class _Cell(nn.Module):
    """A cell that keeps its width as a number, from which its states and parts are made."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.hidden, self.gates = hidden, nn.Conv2d(inputs + hidden, 4 * hidden, 3, padding=1)

    def start(self, x: Tensor) -> tuple[Tensor, Tensor]:
        zeros = torch.zeros(x.shape[0], self.hidden, *x.shape[-2:], dtype=x.dtype, device=x.device)
        return zeros, zeros

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        hidden, cell = state
        i, f, o, g = torch.split(self.gates(torch.cat([x, hidden], 1)), self.hidden, dim=1)
        cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(cell), cell


@network((2, 3, 3, 8, 8))
class ConvLSTMOfFrames(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.cell, self.out = block(3, 8), _Cell(8, 6), nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        state = self.cell.start(x)
        for frame in x.unbind(1):
            state = self.cell(self.stem(frame), state)
        return self.out(state[0])


@network((2, 3, 4, 4), frozen=0.35)
class ValuesOfEqualWidth(nn.Module):
    """Attention whose values are viewed with the width of the features: both keep equally many."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.v, self.p, self.out = block(3, 12), nn.Conv2d(12, 12, 1), nn.Conv2d(12, 12, 1), nn.Conv2d(12, 2, 1)
        self.q, self.k = nn.Conv2d(12, 6, 1), nn.Conv2d(12, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        b, c, h, w = x.shape
        weights = (self.q(x).flatten(2).transpose(1, 2) @ self.k(x).flatten(2)).softmax(-1)
        y = torch.bmm(self.v(x).view(b, c, h * w), weights.transpose(1, 2)).view(b, c, h, w)
        return self.out(x + self.p(y))


@network((2, 3, 8, 8))
class CoordConv(nn.Module):
    """Coordinates beside the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.out = block(5, 8), block(10, 6), nn.Conv2d(6, 2, 1)

    def placed(self, x: Tensor) -> Tensor:
        line = torch.linspace(-1, 1, 8, dtype=x.dtype, device=x.device)
        rows, columns = line[None, None, :, None], line[None, None, None]
        return torch.cat([x, rows.expand(x.shape[0], 1, 8, 8), columns.expand(x.shape[0], 1, 8, 8)], 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.b(self.placed(self.a(self.placed(x)))))


class _Attending(nn.Module):
    """Attention with queries, keys and values from one convolution, then an MLP that must prune."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.qkv, self.proj = block(3, 16), nn.Conv2d(16, 48, 1, bias=False), nn.Conv2d(16, 16, 1)
        self.mlp, self.out = nn.Sequential(nn.Conv2d(16, 24, 1), nn.GELU(), nn.Conv2d(24, 16, 1)), nn.Conv2d(16, 2, 1)

    def attend(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        x = x + self.proj(self.attend(x))
        return self.out(x + self.mlp(x))


@network((2, 3, 4, 4), frozen=0.5)
class HeadsOverPositions(_Attending):
    def attend(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        q, k, v = self.qkv(x).reshape(b, 3, 4, c // 4, h * w).unbind(1)
        y = (q.transpose(-1, -2) @ k * (c // 4) ** -0.5).softmax(-1) @ v.transpose(-1, -2)
        return y.transpose(-1, -2).reshape(b, c, h, w)


@network((2, 3, 4, 4), frozen=0.8)
class ChannelsOverChannels(_Attending):
    """Transposed attention: channels attend to channels."""

    def attend(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).flatten(2).chunk(3, 1)
        y = (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-1, -2)).softmax(-1) @ v
        return y.view(x.shape)


@network((2, 3, 8, 8))
class SplitAttention(nn.Module):
    """Two parts of a grouped convolution, weighted against one another for each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.c, self.out = block(3, 8), block(8, 16, groups=2), nn.Conv2d(8, 2, 1)
        self.squeeze, self.excite = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.c(self.a(x))
        first, second = torch.split(x, x.shape[1] // 2, dim=1)
        weights = self.excite(F.relu(self.squeeze((first + second).mean((2, 3), keepdim=True))))
        weights = weights.view(x.shape[0], 1, 2, -1).transpose(1, 2).softmax(1).reshape(x.shape[0], -1, 1, 1)
        left, right = torch.split(weights, x.shape[1] // 2, dim=1)
        return self.out(first * left + second * right)


@network((2, 3, 8, 8))
class OctaveConvolution(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.high, self.low = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(3, 4, 3, padding=1)
        self.down, self.up, self.out = nn.Conv2d(6, 4, 1), nn.Conv2d(4, 6, 1), nn.Conv2d(10, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        high, low = self.high(x), self.low(F.avg_pool2d(x, 2))
        low = low + self.down(F.avg_pool2d(high, 2))
        high = high + F.interpolate(self.up(low), scale_factor=2)
        return self.out(torch.cat([high, F.interpolate(low, scale_factor=2)], 1))


@network((2, 3, 8, 8))
class DropPath(nn.Module):
    """Stochastic depth: the residual branch is left out at random in training."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.out = block(3, 8), block(8, 8), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        if self.training and torch.rand(1).item() > 0.5:
            return self.out(x)
        keep = x.new_empty(x.shape[0], 1, 1, 1).bernoulli_(0.8) / 0.8 if self.training else 1.0
        return self.out(x + self.b(x) * keep)


@network((2, 3, 8, 8))
class MaskedConvolution(nn.Module):
    """A weight times a mask kept as a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.out = block(3, 8), nn.Conv2d(8, 6, 3), nn.Conv2d(6, 2, 1)
        self.register_buffer("mask", (torch.rand(6, 8, 3, 3) > 0.5).float())

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.relu(F.conv2d(self.a(x), self.b.weight * self.mask, self.b.bias)))


@network((2, 3, 8, 8), frozen=0.6)
class CentredWeights(nn.Module):
    """Filters less their mean: the mean runs over inputs that masked weights hold as zeros, so those stay."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.out = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 3), nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.a, self.b):
            weight = layer.weight - layer.weight.mean((1, 2, 3), keepdim=True)
            x = F.relu(F.conv2d(x, weight, layer.bias))
        return self.out(x)


@network((2, 1, 5, 8, 8))
class Anisotropic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.plane, self.depth = nn.Conv3d(1, 8, (1, 3, 3)), nn.Conv3d(8, 8, (3, 1, 1), groups=4, bias=False)
        self.norm, self.up, self.out = (
            nn.BatchNorm3d(8),
            nn.ConvTranspose3d(8, 4, (1, 2, 2), (1, 2, 2)),
            nn.Conv3d(4, 2, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.up(F.leaky_relu_(self.norm(self.depth(self.plane(x))), 0.1)))
