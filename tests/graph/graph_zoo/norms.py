"""Statistics: norms that act on each channel, and norms that mix channels."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graph_zoo.case import add, network
from graph_zoo.cutting import Net
from graph_zoo.sharing import block


def _normed(norm: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), norm, nn.ReLU(), block(12, 6), nn.Conv2d(6, 2, 1))


SHAPES = ((2, 3, 8, 8),)
add("BatchNormPlain", lambda: _normed(nn.BatchNorm2d(12, affine=False)), SHAPES)
add("BatchNormNoTrack", lambda: _normed(nn.BatchNorm2d(12, track_running_stats=False)), SHAPES)
add("InstanceNorm", lambda: _normed(nn.InstanceNorm2d(12)), SHAPES)
add("InstanceNormAffine", lambda: _normed(nn.InstanceNorm2d(12, affine=True)), SHAPES)
add("InstanceNormRunning", lambda: _normed(nn.InstanceNorm2d(12, affine=True, track_running_stats=True)), SHAPES)
add("GroupNorm", lambda: _normed(nn.GroupNorm(4, 12)), SHAPES)
add("GroupNormOne", lambda: _normed(nn.GroupNorm(1, 12)), SHAPES)
add("GroupNormEach", lambda: _normed(nn.GroupNorm(12, 12)), SHAPES)
add("GroupNormPlain", lambda: _normed(nn.GroupNorm(3, 12, affine=False)), SHAPES)
add("LayerNormOfPositions", lambda: _normed(nn.LayerNorm([8, 8])), SHAPES)
add("LocalResponse", lambda: _normed(nn.LocalResponseNorm(3)), SHAPES, frozen=0.6)


@network(*SHAPES)
class LayerNormLast(Net):
    """Channels last, as in ConvNeXt's blocks, with its MLP and layer scale."""

    def __init__(self) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.norm, self.up, self.down = nn.LayerNorm(16), nn.Linear(16, 32), nn.Linear(32, 16)
        self.gamma = nn.Parameter(torch.randn(16))

    def middle(self, x: Tensor) -> Tensor:
        y = self.norm(self.spatial(x).permute(0, 2, 3, 1))
        y = self.gamma * self.down(F.gelu(self.up(y)))
        return x + y.permute(0, 3, 1, 2)


class _Functional(Net):
    """`F.layer_norm` with the shape read from the tensor."""

    def middle(self, x: Tensor) -> Tensor:
        y = x.permute(0, 2, 3, 1)
        return F.layer_norm(y, y.shape[-1:]).permute(0, 3, 1, 2)


add("LayerNormFunctional", _Functional, SHAPES)


@network(*SHAPES)
class LayerNormByHand(Net):
    """ConvNeXt's norm over dimension 1, by mean and squares."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(16)), nn.Parameter(torch.randn(16))

    def middle(self, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True)
        variance = (x - mean).pow(2).mean(1, keepdim=True)
        x = (x - mean) / torch.sqrt(variance + 1e-6)
        return self.weight[:, None, None] * x + self.bias[:, None, None]


@network(*SHAPES)
class VarianceByHand(Net):
    """The same by var() and std()."""

    def middle(self, x: Tensor) -> Tensor:
        y = (x - x.mean(dim=1, keepdim=True)) / torch.sqrt(x.var(dim=1, keepdim=True, unbiased=False) + 1e-6)
        variance, mean = torch.var_mean(y, dim=1, keepdim=True)
        return (y - mean) / (x.std(1, keepdim=True) + variance + 1)


@network(*SHAPES)
class GlobalResponse(Net):
    """ConvNeXt V2's global response norm: a mean over channels of norms over positions."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma, self.beta = nn.Parameter(torch.randn(1, 16, 1, 1)), nn.Parameter(torch.randn(1, 16, 1, 1))

    def middle(self, x: Tensor) -> Tensor:
        size = x.norm(p=2, dim=(2, 3), keepdim=True)
        return self.gamma * (x * size / (size.mean(1, keepdim=True) + 1e-6)) + self.beta + x


@network(*SHAPES)
class RootMeanSquare(Net):
    """An RMS norm over channels."""

    def middle(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(1, keepdim=True) + 1e-6)


@network(*SHAPES)
class RootMeanSquareModule(Net):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(16)

    def middle(self, x: Tensor) -> Tensor:
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@network(*SHAPES)
class UnitVectors(Net):
    """`F.normalize` over channels: its norm runs over the kept ones."""

    def middle(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=1)


@network(*SHAPES)
class SoftmaxOverChannels(Net):
    def middle(self, x: Tensor) -> Tensor:
        return x * torch.softmax(x, 1)


@network(*SHAPES)
class AttendedMaximum(Net):
    """CBAM: a channel gate by mean and maximum, then a spatial gate by mean and maximum over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Conv2d(16, 4, 1), nn.ReLU(), nn.Conv2d(4, 16, 1))
        self.spatial = nn.Conv2d(2, 1, 3, padding=1)

    def middle(self, x: Tensor) -> Tensor:
        x = x * torch.sigmoid(self.mlp(F.adaptive_avg_pool2d(x, 1)) + self.mlp(F.adaptive_max_pool2d(x, 1)))
        pair = torch.cat([x.mean(1, keepdim=True), x.max(1, keepdim=True)[0]], 1)
        return x * torch.sigmoid(self.spatial(pair))


@network((1, 3, 8, 8), frozen=0.7)
class EfficientChannelAttention(Net):
    """ECA: a convolution along the channel axis; channels are positions there and stay."""

    def __init__(self) -> None:
        super().__init__()
        self.along = nn.Conv1d(1, 1, 3, padding=1)

    def middle(self, x: Tensor) -> Tensor:
        y = self.along(x.mean((2, 3))[:, None])
        return x * torch.sigmoid(y)[:, 0, :, None, None]
