"""Constructs that look harmless and are not: each either prunes exactly or freezes what it must."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graph_zoo.case import network
from graph_zoo.cutting import Net
from graph_zoo.sharing import block


@network((2, 3, 8, 8))
class GroupNormByHand(Net):
    """Statistics of 4 groups by a view."""

    def middle(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        y = x.reshape(b, 4, -1)
        y = (y - y.mean(-1, keepdim=True)) / (y.var(-1, keepdim=True, unbiased=False) + 1e-5).sqrt()
        return y.reshape(b, c, h, w)


@network((2, 3, 8, 8))
class GroupwiseCorrelation(nn.Module):
    """Products of two feature maps averaged in 4 groups."""

    def __init__(self) -> None:
        super().__init__()
        self.arm, self.head = block(3, 16), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.arm(x), self.arm(x.flip(-1))
        n, c, h, w = a.shape
        return self.head((a * b).view(n, 4, c // 4, h, w).mean(2))


@network((2, 3, 8, 8))
class Correlation(nn.Module):
    """One number for each shift: a sum over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.arm, self.head = block(3, 16), nn.Conv2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.arm(x)
        return self.head(torch.stack([(a * a.roll(shift, -1)).sum(1) for shift in range(3)], 1))


@network((2, 3, 8, 8))
class NormGate(Net):
    """A gate by the energy over all channels and positions."""

    def middle(self, x: Tensor) -> Tensor:
        return x / (1 + x.pow(2).mean().sqrt())


@network((2, 3, 8, 8), frozen=0.1)
class FirstChannelGate(Net):
    """The first channel gates all others: it stays."""

    def middle(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(x[:, :1])


@network((2, 3, 8, 8))
class ShiftedChannels(Net):
    """A temporal-shift module: an eighth of the channels moves left, an eighth right, by numbers of channels."""

    def middle(self, x: Tensor) -> Tensor:
        fold = x.shape[1] // 4
        out = torch.zeros_like(x)
        out[:, :fold, :, :-1] = x[:, :fold, :, 1:]
        out[:, fold : 2 * fold, :, 1:] = x[:, fold : 2 * fold, :, :-1]
        out[:, 2 * fold :] = x[:, 2 * fold :]
        return out


@network((2, 3, 8, 8))
class InPlace(Net):
    """In-place ops on the features, on a part of them and on a view."""

    def middle(self, x: Tensor) -> Tensor:
        y = x.clone()
        y.mul_(2).add_(1)
        y[:, :, 2:4] = 0
        y.view(y.shape[0], -1)[:, :0].zero_()
        return F.relu(y, inplace=True) + x


@network((2, 3, 8, 8), frozen=0.2)
class Bilinear(nn.Module):
    """Features by features, summed over positions: a Gram matrix stays."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = block(3, 6), block(6, 8), nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.b(self.a(x)).flatten(2)
        return self.head((x @ x.transpose(1, 2)).flatten(1))


class Pair(NamedTuple):
    logits: Tensor
    aside: list[Tensor]


@network((2, 3, 8, 8))
class NamedOutput(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = block(3, 8), block(8, 6), nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Pair:
        x = self.a(x)
        return Pair(self.head(self.b(x)), [x.mean((1, 2, 3))])


@network((2, 3, 8, 8))
class OuterProduct(nn.Module):
    """A gate of channels times a gate of positions by an outer product."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.channel, self.place, self.head = (
            block(3, 8),
            nn.Linear(8, 8),
            nn.Conv2d(8, 1, 1),
            nn.Conv2d(8, 2, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        channel = torch.sigmoid(self.channel(x.mean((2, 3))))
        place = torch.sigmoid(self.place(x)).flatten(1)
        gate = torch.bmm(channel[:, :, None], place[:, None]).view_as(x)
        return self.head(x * gate)


@network((2, 3, 8, 8))
class EinsumGate(nn.Module):
    """The same by einsum, and a mixing of channels by einsum with a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.head, self.mix = block(3, 8), nn.Conv2d(6, 2, 1), nn.Parameter(torch.randn(8, 6))

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        x = torch.einsum("bchw,bc->bchw", x, x.mean((2, 3)))
        return self.head(torch.einsum("bchw,cd->bdhw", x, self.mix))


@network((2, 3, 8, 8), frozen=0.85)
class BatchedWeights(nn.Module):
    """Filters modulated for each sample, run as a grouped convolution of the batch folded into channels."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.style, self.head = block(3, 4), nn.Linear(4, 4), nn.Conv2d(4, 2, 1)
        self.weight = nn.Parameter(torch.randn(4, 4, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        b, c, h, w = x.shape
        weight = self.weight[None] * self.style(x.mean((2, 3)))[:, None, :, None, None]
        y = F.conv2d(x.reshape(1, b * c, h, w), weight.reshape(b * c, c, 3, 3), padding=1, groups=b)
        return self.head(y.reshape(b, c, h, w))


@network((2, 3, 8, 8))
class Memory(nn.Module):
    """Keeps a running mean of its features in a buffer, by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.head = block(3, 8), nn.Conv2d(8, 2, 1)
        self.register_buffer("mean", torch.zeros(8))

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        if self.training:
            self.mean.lerp_(x.detach().mean((0, 2, 3)), 0.1)
        return self.head(x - self.mean[:, None, None])


@network((2, 3, 8, 8))
class LearnedUpsampling(nn.Module):
    """Nearest, bilinear and transposed upsampling beside one another, cropped to one size."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.up, self.head = (
            block(3, 8),
            nn.ConvTranspose2d(8, 6, 3, stride=2, output_padding=1),
            nn.Conv2d(22, 2, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        near, smooth = F.interpolate(x, scale_factor=2), F.interpolate(x, size=(16, 16), mode="bicubic")
        return self.head(torch.cat([near, smooth, self.up(x)[..., :16, :16]], 1))


@network((2, 3, 8, 8))
class TwoHeadsOneLayer(nn.Module):
    """One convolution makes two things: its halves go different ways."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.both, self.x, self.y = block(3, 8), nn.Conv2d(8, 12, 1), nn.Conv2d(6, 2, 1), nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x, y = self.both(self.a(x)).tensor_split(2, dim=1)
        return self.x(x), self.y(F.relu(y))


@network((2, 3, 8, 8))
class Cosine(nn.Module):
    """A classifier by cosine similarity with learnt prototypes."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.prototypes = block(3, 6), block(6, 8), nn.Parameter(torch.randn(3, 8))

    def forward(self, x: Tensor) -> Tensor:
        x = self.b(self.a(x)).mean((2, 3))
        return F.normalize(x, dim=1) @ F.normalize(self.prototypes, dim=1).t()


@network((2, 3, 8, 8))
class Embeddings(nn.Module):
    """A table of positions added to the features, and distances to a codebook."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.rows, self.head = block(3, 8), nn.Embedding(8, 8), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.rows(torch.arange(x.shape[2], device=x.device))
        return self.head(self.a(x) + rows.t()[None, :, :, None])


@network((2, 3, 8, 8))
class MaxPool1x1Bias(nn.Module):
    """Batch norms in a row, a bias parameter of its own, a constant added, and an unused layer."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.n, self.head, self.idle = (
            nn.Conv2d(3, 8, 3),
            nn.BatchNorm2d(8),
            nn.Conv2d(8, 2, 1),
            nn.Conv2d(5, 7, 1),
        )
        self.shift = nn.Parameter(torch.randn(1, 8, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.n(self.n(self.a(x)) + self.shift).clamp(min=0) + 3.0)


@network((2, 3, 8, 8))
class Fourier(nn.Module):
    """A Fourier transform of the positions leaves channels where they are."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = block(3, 8), block(8, 8), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.fft.irfft2(torch.fft.rfft2(self.b(self.a(x))), s=x.shape[2:]))


@network((2, 1, 4, 4, 4))
class MixedDims(nn.Module):
    """A 3D encoder whose depth becomes channels of a 2D decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Conv3d(1, 6, 3, padding=1), nn.Conv2d(24, 8, 3, padding=1), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.b(F.relu(self.a(x)).flatten(1, 2))))


@network((2, 3, 8, 8))
class Autocast(nn.Module):
    """Half precision inside, as mixed training does."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = block(3, 8), block(8, 6), nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            x = self.a(x)
        return self.head(self.b(x.to(x.dtype)))


@network((2, 3, 8, 8))
class StackOfGates(nn.Module):
    """Selective kernels: two branches weighted by a softmax over the branches, for each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.x, self.y = block(3, 8), block(8, 8), block(8, 8)
        self.squeeze, self.excite, self.head = nn.Linear(8, 4), nn.Linear(4, 16), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        both = torch.stack([self.x(x), self.y(x)], 1)
        squeezed = F.relu(self.squeeze(both.sum(1).mean((2, 3))))
        weights = self.excite(squeezed).view(x.shape[0], 2, -1).softmax(1)
        return self.head((both * weights[..., None, None]).sum(1))


@network((2, 3, 8, 8), frozen=0.7)
class GroupsByShape(Net):
    """Two channels to a norm group, however many there are: the number of groups would change."""

    def middle(self, x: Tensor) -> Tensor:
        return F.group_norm(x, x.shape[1] // 2)


@network((2, 3, 8, 8))
class WeightedBranches(Net):
    """Branches weighted by a softmax over a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.branches = nn.ModuleList([block(16, 16), nn.Identity(), nn.MaxPool2d(3, 1, 1)])
        self.alpha = nn.Parameter(torch.randn(3))

    def middle(self, x: Tensor) -> Tensor:
        weights = F.softmax(self.alpha, 0)
        return torch.stack([weights[i] * branch(x) for i, branch in enumerate(self.branches)]).sum(0)


@network((2, 3, 8, 8))
class RepeatedGate(Net):
    """A single channel repeated as often as there are channels."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Conv2d(16, 1, 1)

    def middle(self, x: Tensor) -> Tensor:
        return x + self.gate(x).repeat(1, x.shape[1], 1, 1)


@network((2, 3, 8, 8), (2, 4))
class AdaptiveNorm(nn.Module):
    """Statistics of positions, scale and shift from a second input."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.style, self.head = block(3, 8), nn.Linear(4, 16), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        x = self.a(x)
        scale, shift = self.style(z).view(z.shape[0], 2, -1, 1, 1).unbind(1)
        variance, mean = torch.var_mean(x, (2, 3), keepdim=True)
        return self.head((x - mean) / (variance + 1e-5).sqrt() * (1 + scale) + shift)


@network((2, 10))
class Decoder(nn.Module):
    """A latent vector made into features by a view of free width."""

    def __init__(self) -> None:
        super().__init__()
        self.expand, self.a, self.head = nn.Linear(10, 6 * 16), block(6, 5), nn.Conv2d(5, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.a(F.relu(self.expand(x)).view(x.shape[0], -1, 4, 4)))


@network((2, 3, 8, 8), frozen=0.7)
class PiecewiseConstant(Net):
    """A constant that differs between the halves of the channels, wherever the halves are now."""

    def middle(self, x: Tensor) -> Tensor:
        half = x.shape[1] // 2
        scale = torch.ones(x.shape[1], dtype=x.dtype, device=x.device)
        scale[:half] = 2
        return x * scale[:, None, None]


@network((2, 3, 8, 8), frozen=0.7)
class JoinedConstants(Net):
    """The same by concatenation."""

    def middle(self, x: Tensor) -> Tensor:
        half = x.shape[1] // 2
        return x * torch.cat([x.new_ones(half), x.new_zeros(x.shape[1] - half)])[:, None, None]


@network((2, 3, 8, 8), frozen=0.7)
class CountedConstant(Net):
    """A ramp by a running sum of ones."""

    def middle(self, x: Tensor) -> Tensor:
        return x * torch.ones(x.shape[1], dtype=x.dtype, device=x.device).cumsum(0)[:, None, None]


@network((2, 3, 8, 8))
class RolledByHalf(Net):
    """Channels rotated by half their number: both halves keep equally many."""

    def middle(self, x: Tensor) -> Tensor:
        return x.roll(x.shape[1] // 2, 1)


@network((2, 3, 8, 8), frozen=0.7)
class RolledByNumber(Net):
    """Channels rotated by two, whatever their number."""

    def middle(self, x: Tensor) -> Tensor:
        return x.roll(2, 1)


@network((2, 4, 3, 8, 8), frozen=1.0)
class TemporalShift(nn.Module):
    """An eighth of the channels moves to the next frame, an eighth to the one before: a fixed part of them."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = block(3, 16), block(16, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        b, t = x.shape[:2]
        x = self.a(x.flatten(0, 1))
        frames = x.view(b, t, *x.shape[1:])
        moved, fold = torch.zeros_like(frames), x.shape[1] // 8
        moved[:, :-1, :fold] = frames[:, 1:, :fold]
        moved[:, 1:, fold : 2 * fold] = frames[:, :-1, fold : 2 * fold]
        moved[:, :, 2 * fold :] = frames[:, :, 2 * fold :]
        x = x + self.b(moved.view_as(x))
        return self.head(x.mean((2, 3)).view(b, t, -1).mean(1))


@network((2, 3, 8, 8))
class FourierConvolution(Net):
    """Real and imaginary parts as channels of a convolution over frequencies."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.norm = nn.Conv2d(32, 32, 1), nn.BatchNorm2d(32)
        self.weight = nn.Parameter(torch.randn(16, 1, 1, 2))

    def middle(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        y = torch.view_as_real(torch.fft.rfft2(x, norm="ortho")).permute(0, 1, 4, 2, 3).reshape(b, 2 * c, h, -1)
        y = F.hardswish(self.norm(self.mix(y))).view(b, c, 2, h, -1).permute(0, 1, 3, 4, 2)
        y = torch.view_as_complex(y.contiguous()) * torch.view_as_complex(self.weight)
        return x + torch.fft.irfft2(y, s=(h, w), norm="ortho")


@network((2, 3, 8, 8))
class UnfoldAndFold(Net):
    def middle(self, x: Tensor) -> Tensor:
        return F.fold(F.unfold(x, 3, padding=1) * 2, x.shape[2:], 3, padding=1)
