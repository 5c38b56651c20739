"""Kinds of convolution, and tensors used without a module of their own."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, spectral_norm, weight_norm

from graph_zoo.case import add, network
from graph_zoo.cutting import Net
from graph_zoo.sharing import block


def _sequence(*modules: nn.Module) -> nn.Module:
    return nn.Sequential(block(3, 8), *modules)


add("Grouped", lambda: _sequence(block(8, 12, groups=4), block(12, 8), nn.Conv2d(8, 2, 1)), ((1, 3, 8, 8),))
add(
    "GroupedTransposed",
    lambda: _sequence(nn.ConvTranspose2d(8, 12, 2, stride=2, groups=4), nn.ReLU(), block(12, 8), nn.Conv2d(8, 2, 1)),
    ((1, 3, 8, 8),),
)
add(
    "Transposed",
    lambda: _sequence(nn.ConvTranspose2d(8, 12, 2, stride=2), nn.BatchNorm2d(12), nn.Conv2d(12, 2, 1)),
    ((1, 3, 8, 8),),
)
add("Depthwise", lambda: _sequence(block(8, 8, groups=8), block(8, 6), nn.Conv2d(6, 2, 1)), ((1, 3, 8, 8),))
add("DepthwiseMultiplier", lambda: _sequence(block(8, 24, groups=8), block(24, 6), nn.Conv2d(6, 2, 1)), ((1, 3, 8, 8),))
add(
    "DepthwiseTransposed",
    lambda: _sequence(
        nn.ConvTranspose2d(8, 16, 2, stride=2, groups=8), nn.BatchNorm2d(16), block(16, 6), nn.Conv2d(6, 2, 1)
    ),
    ((1, 3, 8, 8),),
)
add(
    "Dilated",
    lambda: _sequence(nn.Conv2d(8, 6, 3, padding=2, dilation=2), nn.ELU(), nn.Conv2d(6, 2, 1)),
    ((1, 3, 8, 8),),
)
add(
    "CircularPadding",
    lambda: _sequence(nn.Conv2d(8, 6, 3, padding=1, padding_mode="circular"), nn.Conv2d(6, 2, 1)),
    ((1, 3, 8, 8),),
)
add(
    "ReflectPadding",
    lambda: _sequence(nn.ReflectionPad2d(1), nn.Conv2d(8, 6, 3), nn.ZeroPad2d(2), nn.Conv2d(6, 2, 3)),
    ((1, 3, 8, 8),),
)
add(
    "Conv1D", lambda: nn.Sequential(nn.Conv1d(3, 8, 3), nn.BatchNorm1d(8), nn.ReLU(), nn.Conv1d(8, 2, 1)), ((2, 3, 16),)
)
add("PReLUEach", lambda: _sequence(nn.Conv2d(8, 6, 3), nn.PReLU(6), nn.Conv2d(6, 2, 1)), ((1, 3, 8, 8),))
add("PReLUOne", lambda: _sequence(nn.Conv2d(8, 6, 3), nn.PReLU(), nn.Conv2d(6, 2, 1)), ((1, 3, 8, 8),))
add(
    "WeightNormOld",
    lambda: _sequence(_quiet(weight_norm, nn.Conv2d(8, 6, 3)), nn.ReLU(), nn.Conv2d(6, 2, 1)),
    ((1, 3, 8, 8),),
)
add(
    "WeightNormOldTransposed",
    lambda: _sequence(_quiet(weight_norm, nn.ConvTranspose2d(8, 6, 3)), nn.Conv2d(6, 2, 1)),
    ((1, 3, 8, 8),),
    frozen=0.45,  # the norm of each input's filters runs over the outputs
)
add(
    "WeightNormOfAll",
    lambda: _sequence(_quiet(lambda m: weight_norm(m, dim=None), nn.Conv2d(8, 6, 3)), nn.Conv2d(6, 2, 1)),
    ((1, 3, 8, 8),),
    frozen=0.45,  # one norm over all filters
)
add(
    "WeightNormNew",
    lambda: _sequence(parametrizations.weight_norm(nn.Conv2d(8, 6, 3)), nn.ReLU(), nn.Conv2d(6, 2, 1)),
    ((1, 3, 8, 8),),
)
add(
    "SpectralNormOld",
    lambda: _sequence(spectral_norm(nn.Conv2d(8, 6, 3)), nn.ReLU(), nn.Conv2d(6, 2, 1)),
    ((1, 3, 8, 8),),
)
add(
    "SpectralNormNew",
    lambda: _sequence(parametrizations.spectral_norm(nn.Conv2d(8, 6, 3)), nn.ReLU(), nn.Conv2d(6, 2, 1)),
    ((1, 3, 8, 8),),
)
add(
    "Dropout",
    lambda: _sequence(nn.Dropout2d(0.5), nn.Conv2d(8, 6, 3), nn.AlphaDropout(0.1), nn.Conv2d(6, 2, 1)),
    ((1, 3, 8, 8),),
)


def _quiet(wrap: object, module: nn.Module) -> nn.Module:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the old form warns that it is old
        return wrap(module)  # type: ignore[operator]


@network((1, 1, 6, 6, 6))
class RawConvolution(nn.Module):
    """`F.conv3d` on parameters of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.randn(8, 1, 3, 3, 3))
        self.shift = nn.Parameter(torch.randn(8))
        self.second = nn.Parameter(torch.randn(2, 8, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv3d(F.relu(F.conv3d(x, self.first, self.shift, padding=1)), self.second)


@network((1, 3, 8, 8))
class StandardisedWeights(nn.Module):
    """Weight standardisation: every filter less its own mean, over its own deviation."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 3), nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        for conv in (self.a, self.b):
            scale = conv.weight.pow(2).sum((2, 3), keepdim=True).add(1).sqrt()
            x = F.relu(F.conv2d(x, conv.weight / scale, conv.bias))
        return self.head(x)


@network((1, 3, 8, 8))
class LayerScale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = block(3, 8), block(8, 8), nn.Conv2d(8, 2, 1)
        self.gamma = nn.Parameter(torch.randn(8, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.head(x + self.gamma * self.b(x))


@network((1, 3, 8, 8))
class ChannelBuffer(nn.Module):
    """A buffer with channels, one without a name in the state, and one in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.head = block(3, 8), nn.Conv2d(8, 2, 1)
        self.register_buffer("mean", torch.randn(1, 8, 1, 1))
        self.register_buffer("other", torch.randn(8, 1, 1), persistent=False)
        self.plain = torch.randn(8, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((self.a(x) - self.mean) * self.other + self.plain)


@network((1, 3, 8, 8))
class SqueezeExcite(Net):
    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 4, 1), nn.ReLU(), nn.Conv2d(4, 16, 1), nn.Sigmoid()
        )

    def middle(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


@network((2, 3, 8, 8))
class SqueezeExciteLinear(Net):
    """The gate as linear layers, with views of baked-free sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(16, 4), nn.Linear(4, 16)

    def middle(self, x: Tensor) -> Tensor:
        b, c = x.shape[:2]
        gate = torch.sigmoid(self.up(F.relu(self.down(x.mean((2, 3)).view(b, c)))))
        return x * gate.view(b, c, 1, 1).expand_as(x)


@network((2, 3, 8, 8))
class SpatialGate(Net):
    """A one-channel gate for all channels."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Conv2d(16, 1, 1)

    def middle(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.gate(x))


@network((1, 3, 16, 16))
class Unpooling(nn.Module):
    """Max-unpooling at the places the encoder found."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.head = block(3, 8), block(8, 12), block(12, 8), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x, first = F.max_pool2d(self.a(x), 2, return_indices=True)
        x, second = F.max_pool2d(self.b(x), 2, return_indices=True)
        x = F.max_unpool2d(x, second, 2)
        return self.head(F.max_unpool2d(self.c(x), first, 2))


@network((1, 3, 8, 8))
class Inception(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = block(3, 8)
        self.branches = nn.ModuleList(
            [block(8, 4), nn.Sequential(block(8, 3), block(3, 5)), nn.Sequential(nn.MaxPool2d(3, 1, 1), block(8, 3))]
        )
        self.head = nn.Conv2d(12, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(torch.cat([branch(x) for branch in self.branches], 1))


@network((1, 3, 8, 8))
class Dense(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.layers = block(3, 6), nn.ModuleList(block(6 + 4 * i, 4) for i in range(4))
        self.head = nn.Conv2d(22, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        return self.head(x)


@network((1, 3, 16, 16))
class Hourglass(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = block(3, 8), nn.Conv2d(8, 2, 1)
        self.down, self.up = nn.ModuleList(block(8, 8) for _ in range(3)), nn.ModuleList(block(8, 8) for _ in range(3))

    def level(self, x: Tensor, depth: int) -> Tensor:
        if depth == 3:
            return x
        low = self.up[depth](self.level(self.down[depth](F.avg_pool2d(x, 2)), depth + 1))
        return x + F.interpolate(low, scale_factor=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.level(self.stem(x), 0))


@network((1, 3, 8, 8), frozen=0.12)
class Deformable(nn.Module):
    """Offsets from a convolution, features sampled at them."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.offsets, self.head = (
            block(3, 8),
            nn.Sequential(block(8, 6), nn.Conv2d(6, 2, 1)),
            nn.Conv2d(8, 2, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        theta = torch.eye(2, 3, dtype=x.dtype, device=x.device)[None].expand(x.shape[0], 2, 3)
        grid = F.affine_grid(theta, list(x.shape), align_corners=False)
        return self.head(F.grid_sample(x, grid + self.offsets(x).permute(0, 2, 3, 1), align_corners=False))


@network((1, 3, 8, 8), frozen=0.8)
class DynamicConvolution(nn.Module):
    """Filters that a network computes for each image: their layer is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.make, self.head = block(3, 4), nn.Linear(4, 4 * 4), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        weight = self.make(x.mean((2, 3))).view(4, 4, 1, 1)
        return self.head(F.conv2d(x, weight))


@network((2, 3, 8, 8), frozen=0.12)
class MixtureOfWeights(nn.Module):
    """Conditional convolution: two experts' outputs, weighted by a softmax over the experts."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.experts = block(3, 8), nn.ModuleList(nn.Conv2d(8, 6, 3, padding=1) for _ in range(2))
        self.route, self.head = nn.Linear(8, 2), nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        route = torch.softmax(self.route(x.mean((2, 3))), 1)
        outs = torch.stack([expert(x) for expert in self.experts], 1)
        return self.head((outs * route[:, :, None, None, None]).sum(1))
