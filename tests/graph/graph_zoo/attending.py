"""Attention, recurrence, tokens, and ways of calling."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graph_zoo.case import add, network
from graph_zoo.cutting import Net
from graph_zoo.sharing import block


@network((2, 1, 4, 4, 4), frozen=0.5)
class VoxelAttention(nn.Module):
    """Non-local block: every voxel attends to all, queries and keys are summed with each other."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Sequential(nn.Conv3d(1, 12, 3, padding=1), nn.ReLU()), nn.Conv3d(12, 2, 1)
        self.q, self.k, self.v, self.out = (nn.Conv3d(a, b, 1) for a, b in ((12, 6), (12, 6), (12, 8), (8, 12)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        q, k, v = self.q(x).flatten(2), self.k(x).flatten(2), self.v(x).flatten(2)
        attention = torch.softmax(q.transpose(1, 2) @ k / q.shape[1] ** 0.5, -1)
        y = (v @ attention.transpose(1, 2)).view(x.shape[0], v.shape[1], *x.shape[2:])
        return self.head(x + self.out(y))


@network((2, 3, 4, 4), frozen=0.8)
class Multihead(nn.Module):
    """`nn.MultiheadAttention` keeps its own sizes: its width stays, the MLP behind it does not."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.attention = nn.Conv2d(3, 8, 1), nn.MultiheadAttention(8, 2, batch_first=True)
        self.mlp, self.out = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8)), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.stem(x).flatten(2).transpose(1, 2)
        tokens = tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]
        return self.out((tokens + self.mlp(tokens)).mean(1))


@network((2, 3, 4, 4), frozen=0.8)
class EncoderLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.layer = nn.Conv2d(3, 8, 1), nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.out = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.layer(self.stem(x).flatten(2).transpose(1, 2)).mean(1))


@network((2, 3, 4, 4), frozen=0.8)
class HandHeads(nn.Module):
    """A vision transformer's block with qkv in one layer and heads of a baked number."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.qkv, self.proj = (
            nn.Conv2d(3, 12, 1),
            nn.LayerNorm(12),
            nn.Linear(12, 36),
            nn.Linear(12, 12),
        )
        self.mlp, self.out = nn.Sequential(nn.Linear(12, 20), nn.GELU(), nn.Linear(20, 12)), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2)
        b, n, c = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(b, n, 3, 3, c // 3).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c)
        x = x + self.proj(y)
        return self.out((x + self.mlp(x)).mean(1))


@network((2, 3, 8, 8), frozen=0.2)
class ClassToken(nn.Module):
    """Tokens with positions and a token of their own; no attention, a mixer over tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.token, self.places = (
            nn.Conv2d(3, 10, 4, 4),
            nn.Parameter(torch.randn(1, 1, 10)),
            nn.Parameter(torch.randn(1, 5, 10)),
        )
        self.mix, self.up, self.down, self.out = nn.Linear(5, 5), nn.Linear(10, 16), nn.Linear(16, 10), nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.places
        x = x + self.mix(x.transpose(1, 2)).transpose(1, 2)
        return self.out((x + self.down(F.gelu(self.up(x))))[:, 0])


class _Recurrent(nn.Module):
    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.stem, self.rnn, self.out = block(3, 8), kind(8, 6, batch_first=True), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).mean(2).transpose(1, 2)
        return self.out(self.rnn(x)[0][:, -1])


for _kind in (nn.LSTM, nn.GRU, nn.RNN):
    add(_kind.__name__, lambda kind=_kind: _Recurrent(kind), ((2, 3, 8, 8),))


@network((2, 3, 8, 8))
class Cells(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.lstm, self.gru, self.out = block(3, 8), nn.LSTMCell(8, 6), nn.GRUCell(6, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x, h, g = self.stem(x).mean(2), None, None
        for step in range(2):
            h = self.lstm(x[..., step], h)
            g = self.gru(h[0], g)
        return self.out(g)


class _Keywords(Net):
    """Keyword inputs, one of them a condition that scales and shifts the features."""

    def __init__(self) -> None:
        super().__init__()
        self.film = nn.Linear(5, 32)

    def forward(self, *, image: Tensor, condition: Tensor) -> Tensor:  # type: ignore[override]
        x = self.stem(image)
        scale, shift = self.film(condition)[:, :, None, None].chunk(2, 1)
        return self.head(x * (1 + scale) + shift)


add("Keywords", _Keywords, {"image": (2, 3, 8, 8), "condition": (2, 5)})


class _StateDict(nn.Module):
    """Sizes kept as attributes that the forward reads."""

    def __init__(self) -> None:
        super().__init__()
        self.width = 8
        self.a, self.head = block(3, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.head(x.view(x.shape[0], self.width, -1).mean(2))


add("SizeAttribute", _StateDict, ((2, 3, 8, 8),), frozen=0.9)


@network((2, 3, 8, 8), frozen=0.5)
class ScaledBySize(nn.Module):
    """A factor computed from the number of channels."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = block(3, 8), block(8, 6), nn.Conv2d(6, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.head(self.b(x) * x.shape[1] ** -0.5)


@network((2, 3, 8, 8), frozen=0.6)
class Ramp(nn.Module):
    """A constant that differs from channel to channel."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = block(3, 8), block(8, 6), nn.Conv2d(6, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        x = x * torch.linspace(0, 1, x.shape[1], dtype=x.dtype, device=x.device)[:, None, None]
        return self.head(self.b(x))


@network((2, 3, 8, 8))
class TransposedSpace(nn.Module):
    """Positions and channels change places, and back."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = block(3, 8), nn.Linear(8, 6), nn.Conv2d(6, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        b, c, h, w = x.shape
        x = F.relu(self.b(x.reshape(b, c, h * w).transpose(1, 2)))
        return self.head(x.transpose(1, 2).reshape(b, -1, h, w))


@network((2, 4, 3, 8, 8))
class Frames(nn.Module):
    """Frames folded into the batch and back, then averaged."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.head = nn.Sequential(block(3, 8), block(8, 6)), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        b, t = x.shape[:2]
        x = self.a(x.flatten(0, 1)).mean((2, 3))
        return self.head(x.view(b, t, -1).mean(1))


@network((1, 3, 8, 8), frozen=0.5)
class Involution(nn.Module):
    """Unfolded neighbours weighted by a map: `F.unfold` and `F.fold`-free."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.weights, self.head = block(3, 8), nn.Conv2d(8, 9, 1), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        b, c, h, w = x.shape
        patches = F.unfold(x, 3, padding=1).view(b, c, 9, h, w)
        weights = torch.softmax(self.weights(x), 1).view(b, 1, 9, h, w)
        return self.head((patches * weights).sum(2))
