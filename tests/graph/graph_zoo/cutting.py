"""Channels cut, joined, shuffled and written into place."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graph_zoo.case import network
from graph_zoo.sharing import block


class Net(nn.Module):
    """A stem of 16 channels, something in the middle that leaves `after`, and a head."""

    def __init__(self, after: int = 16, width: int = 16) -> None:
        super().__init__()
        self.stem, self.head = block(3, width), nn.Sequential(block(after, 8), nn.Conv2d(8, 2, 1))

    def middle(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.middle(self.stem(x)))


@network((1, 3, 9, 9))
class Crops(nn.Module):
    """Valid convolutions whose skips are cropped to size."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 3), nn.Conv2d(14, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.a(x))
        y = F.relu(self.b(x))
        cut = (x.shape[2] - y.shape[2]) // 2
        return self.head(torch.cat([x[:, :, cut:-cut, cut:-cut], y], 1))


@network((1, 3, 8, 8))
class ChunkHalves(Net):
    def middle(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, dim=1)
        return torch.cat([b * 2, torch.sigmoid(a)], 1)


@network((1, 3, 8, 8))
class ChunkGate(Net):
    """The halves multiply: a gated linear unit by hand."""

    def __init__(self) -> None:
        super().__init__(after=8)

    def middle(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, dim=1)
        return a * torch.sigmoid(b)


@network((1, 3, 8, 8))
class GLU(Net):
    def __init__(self) -> None:
        super().__init__(after=8)

    def middle(self, x: Tensor) -> Tensor:
        return F.glu(x, 1)


@network((1, 3, 8, 8), frozen=0.6)
class UnequalSplit(Net):
    """Parts of baked sizes can't shrink."""

    def middle(self, x: Tensor) -> Tensor:
        a, b, c = torch.split(x, [4, 4, 8], dim=1)
        return torch.cat([c, a * b, a], 1)


@network((1, 3, 8, 8))
class SplitByShape(Net):
    """Parts of sizes computed from the tensor."""

    def middle(self, x: Tensor) -> Tensor:
        half = x.shape[1] // 2
        a, b = x[:, :half], x[:, half:]
        return torch.cat([b, a + 1], 1)


@network((1, 3, 8, 8))
class ChannelShuffle(Net):
    def middle(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        return x.view(b, 4, c // 4, h, w).transpose(1, 2).reshape(b, c, h, w)


@network((1, 3, 8, 8))
class ShuffleModule(Net):
    def middle(self, x: Tensor) -> Tensor:
        return F.channel_shuffle(x, 4)


@network((1, 3, 8, 8))
class PixelShuffle2D(Net):
    def __init__(self) -> None:
        super().__init__(after=4)

    def middle(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(x, 2)


@network((1, 3, 8, 8))
class PixelUnshuffle2D(Net):
    def __init__(self) -> None:
        super().__init__(after=64)

    def middle(self, x: Tensor) -> Tensor:
        return F.pixel_unshuffle(x, 2)


@network((1, 1, 4, 4, 4))
class PixelShuffle3D(nn.Module):
    """Written by hand: (B, 8 C, D, H, W) -> (B, C, 2 D, 2 H, 2 W)."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv3d(1, 48, 3, padding=1), nn.Conv3d(6, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.a(x))
        b, c, d, h, w = x.shape
        x = x.view(b, c // 8, 2, 2, 2, d, h, w).permute(0, 1, 5, 2, 6, 3, 7, 4)
        return self.b(x.reshape(b, c // 8, 2 * d, 2 * h, 2 * w))


@network((1, 1, 4, 4, 4))
class PixelUnshuffle3D(nn.Module):
    """Written by hand: (B, C, 2 D, 2 H, 2 W) -> (B, 8 C, D, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv3d(1, 6, 3, padding=1), nn.Conv3d(48, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.a(x))
        b, c, d, h, w = x.shape
        x = x.view(b, c, d // 2, 2, h // 2, 2, w // 2, 2).permute(0, 1, 3, 5, 7, 2, 4, 6)
        return self.b(x.reshape(b, 8 * c, d // 2, h // 2, w // 2))


@network((1, 3, 8, 8))
class ShuffleNetUnit(Net):
    """Half passes, half is convolved, then the channels are shuffled."""

    def __init__(self) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(block(8, 8), nn.Conv2d(8, 8, 3, padding=1, groups=8), block(8, 8)) for _ in range(2)
        )

    def middle(self, x: Tensor) -> Tensor:
        for branch in self.branches:
            a, b = x.chunk(2, 1)
            x = torch.cat([a, branch(b)], 1)
            n, c, h, w = x.shape
            x = x.reshape(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return x


@network((1, 3, 8, 8))
class GhostModule(Net):
    """Cheap depthwise copies beside the channels they come from, cut to a width."""

    def __init__(self) -> None:
        super().__init__(after=32)
        self.cheap = nn.Conv2d(16, 16, 3, padding=1, groups=16)

    def middle(self, x: Tensor) -> Tensor:
        return torch.cat([x, F.relu(self.cheap(x))], 1)


@network((1, 3, 8, 8))
class Interleaved(Net):
    """Every second channel, by a strided slice; written back by slice assignment."""

    def middle(self, x: Tensor) -> Tensor:
        out = torch.zeros_like(x)
        out[:, : x.shape[1] // 2] = x[:, ::2]
        out[:, x.shape[1] // 2 :] = x[:, 1::2]
        return out


@network((1, 3, 8, 8))
class StackedMax(Net):
    """Maxout: pairs of channels, the larger one passes."""

    def __init__(self) -> None:
        super().__init__(after=8)

    def middle(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, 1)
        return torch.stack([a, b]).amax(0)


@network((1, 3, 8, 8), frozen=0.55)
class PartialConvolution(Net):
    """FasterNet: a convolution of the first quarter of the channels, a baked number."""

    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Conv2d(4, 4, 3, padding=1)

    def middle(self, x: Tensor) -> Tensor:
        a, b = torch.split(x, [4, 12], dim=1)
        return torch.cat([self.part(a), b], 1)


@network((1, 3, 8, 8))
class Res2Net(Net):
    """Four parts convolved one after another, each with what the last one left."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in range(3))

    def middle(self, x: Tensor) -> Tensor:
        first, *parts = x.chunk(4, 1)
        outs, last = [first], None
        for part, conv in zip(parts, self.convs, strict=True):
            last = F.relu(conv(part if last is None else part + last))
            outs.append(last)
        return torch.cat(outs, 1)


@network((1, 3, 8, 8), frozen=0.7)
class PickedChannels(Net):
    """Channels reordered by an index buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("order", torch.arange(15, -1, -1))

    def middle(self, x: Tensor) -> Tensor:
        return x[:, self.order]


@network((1, 3, 8, 8))
class FlattenToLinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = block(3, 6), block(6, 8)
        self.fc, self.out = nn.Linear(8 * 16, 10), nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.b(self.a(x)), 2)
        return self.out(F.relu(self.fc(x.flatten(1))))


@network((1, 3, 8, 8), frozen=0.4)
class FlattenBaked(nn.Module):
    """The size of the flattened features is a number in the code: their width can't change."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = block(3, 6), block(6, 8)
        self.fc, self.out = nn.Linear(8 * 16, 10), nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.b(self.a(x)), 2)
        return self.out(F.relu(self.fc(x.view(-1, 8 * 16))))


@network((1, 3, 8, 8))
class Squeezes(nn.Module):
    """`squeeze()` drops every dimension of length 1: a width of 1 would change its meaning."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.fc, self.out = block(3, 6), block(6, 8), nn.Linear(8, 10), nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(self.b(self.a(x)), 1).squeeze()
        return self.out(F.relu(self.fc(x)))


@network((2, 3, 8, 8))
class PadsChannels(nn.Module):
    """A residual shortcut that pads channels with zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = block(3, 8), block(8, 12), nn.Conv2d(12, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        y = self.b(x)
        return self.head(y + F.pad(x, (0, 0, 0, 0, 0, y.shape[1] - x.shape[1])))


@network((2, 3, 8, 8))
class RepeatsChannels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = block(3, 8), block(24, 6), nn.Conv2d(12, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.b(self.a(x).repeat(1, 3, 1, 1))
        return self.head(torch.repeat_interleave(x, 2, dim=1))


@network((2, 3, 8, 8))
class Einsum(nn.Module):
    """A mixing of channels by einsum with an own parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.head = block(3, 8), nn.Conv2d(6, 2, 1)
        self.mix = nn.Parameter(torch.randn(6, 8))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(torch.einsum("oc,bchw->bohw", self.mix, self.a(x))))


@network((2, 3, 8, 8))
class ShuffleOfGroups(Net):
    """Shuffled channels of a grouped convolution, whose groups keep equally many whatever the plan."""

    def __init__(self) -> None:
        super().__init__(after=16)
        self.grouped = nn.Conv2d(16, 16, 1, groups=2)

    def middle(self, x: Tensor) -> Tensor:
        x = self.grouped(x)
        b, c, h, w = x.shape
        return x.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)


@network((2, 3, 8, 8))
class MaxoutOfNeighbours(Net):
    """Pairs of neighbouring channels, the larger one passes."""

    def __init__(self) -> None:
        super().__init__(after=8)

    def middle(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (-1, 2)).amax(2)


@network((2, 3, 8, 8))
class SplitAttentionByView(Net):
    """Two blocks of channels of a grouped convolution by a view, weighted against one another and summed."""

    def __init__(self) -> None:
        super().__init__()
        self.parts, self.squeeze, self.excite = block(16, 32, groups=2), nn.Conv2d(16, 8, 1), nn.Conv2d(8, 32, 1)

    def middle(self, x: Tensor) -> Tensor:
        x = self.parts(x)
        b, c, h, w = x.shape
        x = x.view(b, 2, c // 2, h, w)
        weights = self.excite(F.relu(self.squeeze(x.sum(1).mean((2, 3), keepdim=True))))
        return (x * weights.view(b, 2, -1, 1, 1).softmax(1)).sum(1)
