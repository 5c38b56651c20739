"""Sizes that a forward reads, holds or writes: what was read follows, what a module holds is set, the rest stays."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graph_zoo.case import add, network
from graph_zoo.cutting import Net
from graph_zoo.sharing import block

SHAPES = ((2, 3, 8, 8),)


@network(*SHAPES)
class SplitByNumbers(Net):
    """Parts of the widths that a module holds, as RAFT's context network is cut."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.context = 6, 10
        self.a, self.b = nn.Conv2d(6, 8, 3, padding=1), nn.Conv2d(10, 8, 3, padding=1)

    def middle(self, x: Tensor) -> Tensor:
        hidden, context = torch.split(x, [self.hidden, self.context], dim=1)
        return torch.cat([torch.tanh(self.a(hidden)), F.relu(self.b(context))], 1)


@network(*SHAPES)
class SplitByList(Net):
    """Kernels of several sizes, each for its part of the channels: a mixed convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.splits = [8, 8]
        self.parts = nn.ModuleList(nn.Conv2d(8, 8, k, padding=k // 2, groups=8) for k in (3, 5))

    def middle(self, x: Tensor) -> Tensor:
        return torch.cat([conv(part) for conv, part in zip(self.parts, x.split(self.splits, 1), strict=True)], 1)


@network(*SHAPES, frozen=0.7)
class SplitByWrittenNumber(Net):
    """Parts of eight, whatever the width: nothing of them may go."""

    def middle(self, x: Tensor) -> Tensor:
        a, b = x.split(8, 1)
        return torch.cat([a * torch.sigmoid(b), b], 1)


@network(*SHAPES, frozen=0.2)
class WrittenCut(Net):
    """The first four channels are cut off by number: they stay, the others need not."""

    def middle(self, x: Tensor) -> Tensor:
        return torch.cat([x[:, 4:], torch.tanh(x[:, :4])], 1)


@network(*SHAPES, frozen=0.2)
class ShuffledAfterACut(Net):
    """A single channel is cut off by number; what comes to stand beside it in the shuffle stays with it."""

    def middle(self, x: Tensor) -> Tensor:
        x = torch.cat([x[:, 1:], x[:, :1]], 1)
        return x.unflatten(1, (2, x.shape[1] // 2)).transpose(1, 2).flatten(1, 2)


class _Attention(nn.Module):
    """Queries, keys and values of one layer; heads as a number, or heads and their width."""

    def __init__(self, *, fused: bool, width: bool) -> None:
        super().__init__()
        self.fused, self.given = fused, width
        self.heads, self.width = 4, 4
        self.stem, self.qkv, self.proj, self.out = block(3, 16), nn.Linear(16, 48), nn.Linear(16, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2)
        b, n, c = x.shape
        width = self.width if self.given else c // self.heads
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, width).permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v) if self.fused else (q @ k.mT * 0.5).softmax(-1) @ v
        return self.out((x + self.proj(y.transpose(1, 2).reshape(b, n, c))).mean(1))


for _fused in (False, True):
    for _width in (False, True):
        _name = f"Heads{'Fused' if _fused else 'ByHand'}{'OfAWidth' if _width else ''}"
        add(_name, lambda f=_fused, w=_width: _Attention(fused=f, width=w), ((2, 3, 4, 4),))


@network(*SHAPES)
class HaarWavelet(nn.Module):
    """Four filters, repeated for every channel there is."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = block(3, 8), nn.Conv2d(32, 2, 1)
        self.register_buffer("bank", torch.tensor([[1.0, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        bank = self.bank.view(4, 1, 2, 2).repeat(x.shape[1], 1, 1, 1)
        return self.head(F.conv2d(x, bank, stride=2, groups=x.shape[1]))


@network(*SHAPES)
class Octave(Net):
    """Slices of one weight for the high and the low frequencies."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.high = nn.Parameter(torch.randn(16, 16, 3, 3) * 0.1), 12

    def middle(self, x: Tensor) -> Tensor:
        high, low = x[:, : self.high], x[:, self.high :]
        high = F.conv2d(high, self.weight[: self.high, : self.high], padding=1)
        low = F.conv2d(low, self.weight[self.high :, self.high :], padding=1)
        return torch.cat([high, low], 1)


@network(*SHAPES)
class PooledChannelsLast(nn.Module):
    """An adaptive pool of a permuted map gives back its memory format by other strides."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.mix, self.out = block(3, 8), nn.Linear(8, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mix(self.stem(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.out(F.adaptive_avg_pool2d(x, 1).flatten(1))


@network(*SHAPES, trains=False)
class ListOfValues(Net):
    """Values in a list, of a feature map and of a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("sizes", torch.tensor([1, 2]))

    def middle(self, x: Tensor) -> Tensor:
        for size in self.sizes.tolist():
            x = x + F.avg_pool2d(x, 2 * size + 1, 1, size)
        return x * x.mean((1, 2, 3)).tolist()[0]


class _Unit(nn.Module):
    """Halves the channels, transforms one half, joins and shuffles."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.branch = nn.Sequential(
            *(nn.Conv2d(half, half, 1, bias=False), nn.BatchNorm2d(half), nn.ReLU()),
            *(nn.Conv2d(half, half, 3, padding=1, groups=half, bias=False), nn.BatchNorm2d(half)),
            *(nn.Conv2d(half, half, 1, bias=False), nn.BatchNorm2d(half), nn.ReLU()),
        )

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, dim=1)
        x = torch.cat((left, self.branch(right)), dim=1)
        b, c, h, w = x.shape
        return x.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)


for _count in (3, 7):  # the inner widths of each are free, however many there are
    add(
        f"ShuffledUnits{_count}",
        lambda count=_count: nn.Sequential(block(3, 16), *[_Unit(16) for _ in range(count)], nn.Conv2d(16, 5, 1)),
        SHAPES,
        frozen=0.0 if _count == 3 else 0.34,  # pairs that live and die together are their groups
    )


@network(*SHAPES)
class ConstantTime(nn.Module):
    """The embedding of a time that the forward makes: its layers read nothing of the input, and shrink as any."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = block(3, 8), block(8, 8), nn.Conv2d(8, 2, 1)
        self.first, self.second, self.shift = nn.Linear(4, 12), nn.Linear(12, 10), nn.Linear(10, 8)

    def forward(self, x: Tensor) -> Tensor:
        time = torch.full((x.shape[0], 1), 7.0, dtype=x.dtype, device=x.device)
        waves = time * torch.exp(-torch.arange(2, dtype=x.dtype, device=x.device))
        told = self.second(F.silu(self.first(torch.cat([waves.sin(), waves.cos()], 1))))
        return self.head(self.b(self.a(x) + self.shift(F.silu(told))[:, :, None, None]))


class _Standardised(nn.Conv2d):
    """A filter minus its mean over its deviation, by batch norm of the weight or by hand."""

    by_norm = True

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight
        if self.by_norm:
            flat = weight.reshape(1, self.out_channels, -1)
            weight = F.batch_norm(flat, None, None, training=True, momentum=0.0, eps=1e-6).reshape_as(weight)
        else:
            deviation, mean = torch.std_mean(weight, (1, 2, 3), correction=0, keepdim=True)
            weight = (weight - mean) / (deviation + 1e-6)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


class _ByHand(_Standardised):
    by_norm = False


for _kind in (_Standardised, _ByHand):  # the statistics run over what a filter reads, which stays
    add(
        f"Filters{_kind.__name__}",
        lambda kind=_kind: nn.Sequential(
            *(kind(3, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.ReLU()),
            *(kind(8, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.ReLU(), nn.Conv2d(8, 2, 1)),
        ),
        SHAPES,
        frozen=0.5,
    )


@network(*SHAPES, frozen=0.7)
class OctaveByNumbers(Net):
    """Slices of one weight at written places."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.after = nn.Parameter(torch.randn(16, 16, 3, 3) * 0.1), nn.Conv2d(16, 8, 1)

    def middle(self, x: Tensor) -> Tensor:
        high = F.conv2d(x[:, :12], self.weight[:12, :12], padding=1)
        low = F.conv2d(x[:, 12:], self.weight[12:, 12:], padding=1)
        return self.after(torch.cat([high, low], 1)).repeat(1, 2, 1, 1)


@network(*SHAPES, frozen=0.7)
class SelectedByBuffer(Net):
    """Channels in an order that a buffer holds: another state of the buffer would mean others."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("order", torch.randperm(16))
        self.after = nn.Conv2d(16, 16, 1)

    def middle(self, x: Tensor) -> Tensor:
        return self.after(torch.relu(x).index_select(1, self.order))
