"""U-Nets over any number of spatial dimensions.

`unet3d`: Cicek et al., "3D U-Net", MICCAI 2016 (https://arxiv.org/abs/1606.06650) in the widths that neuron pruning
was measured with: upsampling by nearest neighbour, the first convolution of a level half as wide as its second.
`unet2d`: Ronneberger et al., "U-Net", MICCAI 2015 (https://arxiv.org/abs/1505.04597): upsampling by transposed
convolutions, both convolutions of a level equally wide.

Differs from both papers: convolutions are padded so that the output has the size of the input, and each is followed
by batch norm (the 2D paper has none).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ranp.errors import UsageError, setting
from ranp.models.networks._blocks import batch_norm, conv, conv_transpose, max_pool
from ranp.models.registry import Preset, register
from ranp.models.upsampling import upsampled

_WIDEST = 1024  # no level of either network is wider
_DEEPEST = 12  # levels: they halve 2048 pixels down to one


def conv_norm_relu(dims: int, inputs: int, outputs: int) -> nn.Sequential:
    """A padded 3-wide convolution, batch norm, ReLU in place."""
    layer = conv(dims)(inputs, outputs, 3, padding=1, bias=False)
    return nn.Sequential(layer, batch_norm(dims)(outputs), nn.ReLU(inplace=True))


class Up(nn.Module):
    """One decoder level: bring the deeper feature to the skip's size, concatenate [skip, deeper], convolve twice.

    Args:
        dims: number of spatial dimensions.
        deeper: channels of the deeper feature.
        skip: channels of the encoder's feature, and of the result.
        transposed: upsample by a transposed convolution to `skip` channels instead of nearest neighbour.
    """

    def __init__(self, dims: int, deeper: int, skip: int, *, transposed: bool) -> None:
        super().__init__()
        self.upsample = conv_transpose(dims)(deeper, skip, 2, stride=2) if transposed else None
        self.a = conv_norm_relu(dims, skip + (skip if transposed else deeper), skip)
        self.b = conv_norm_relu(dims, skip, skip)

    def forward(self, skip: Tensor, deeper: Tensor) -> Tensor:
        """Map (B, skip, D, H, W) and (B, deeper, d, h, w) to (B, skip, D, H, W)."""
        if self.upsample is not None:
            deeper = self.upsample(deeper)
        if deeper.shape[2:] != skip.shape[2:]:
            deeper = F.interpolate(deeper, size=skip.shape[2:], mode="nearest")
        out: Tensor = self.b(self.a(torch.cat([skip, deeper], dim=1)))
        return out


class UNet(nn.Module):
    """An encoder of max-pooled levels, a decoder with skips, and a 1-wide convolution to the classes.

    Args:
        dims: number of spatial dimensions.
        in_channels: channels of the image.
        classes: channels of the output.
        levels: (first, second) convolution's width of each encoder level, finest first.
        transposed: how the decoder upsamples; see `Up`.
        softmax: end in a softmax over the classes in eval mode; in training the output is always logits.
    """

    def __init__(
        self,
        dims: int,
        in_channels: int,
        classes: int,
        levels: Sequence[tuple[int, int]],
        *,
        transposed: bool = False,
        softmax: bool = False,
    ) -> None:
        super().__init__()
        inputs = [in_channels, *(second for _, second in levels)]
        self.encoder = nn.ModuleList(
            nn.Sequential(
                *([max_pool(dims)(2, stride=2)] if i else []),
                conv_norm_relu(dims, inputs[i], first),
                conv_norm_relu(dims, first, second),
            )
            for i, (first, second) in enumerate(levels)
        )
        widths = [second for _, second in levels]
        self.decoder = nn.ModuleList(
            Up(dims, deeper, skip, transposed=transposed)
            for deeper, skip in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.final = conv(dims)(widths[0], classes, 1)
        self.softmax = nn.Softmax(dim=1) if softmax else None

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, in_channels, D, H, W) to (B, classes, D, H, W)."""
        features = [image]
        for level in self.encoder:
            features.append(level(features[-1]))
        out: Tensor = features.pop()
        for up in self.decoder:
            out = up(features.pop(), out)
        out = self.final(out)
        if self.softmax is not None and not self.training:
            out = self.softmax(out)
        return out


@register(
    "unet3d",
    spatial=(64, 64, 64),
    presets=[
        Preset(
            "shapenet-15",
            {"in_channels": 1, "classes": 50, "base_width": 64, "depth": 4, "softmax": True},
            ((1, 64, 64, 64),),
            strength=11.0,
        ),
        Preset(
            "shapenet-23",
            {"in_channels": 1, "classes": 50, "base_width": 64, "depth": 6, "softmax": True},
            ((1, 64, 64, 64),),
            strength=11.0,
        ),
        Preset(
            "brats-15",
            {"in_channels": 4, "classes": 5, "base_width": 32, "depth": 4},
            ((4, 128, 128, 128),),
            strength=15.0,
            loss="ce-dice",
        ),
    ],
)
def unet3d(
    in_channels: int = 1,
    classes: int = 4,
    base_width: int = 32,
    depth: int = 4,
    softmax: bool = False,
    upsampling: str | None = None,
) -> nn.Module:
    """3D U-Net of `4 * depth - 1` layers; level i is min(base_width * 2^i, 1024) wide."""
    levels, inputs = [], in_channels
    for width in _widths(base_width, depth):
        levels.append((max(width // 2, inputs), width))
        inputs = width
    network = UNet(3, in_channels, classes, levels, softmax=softmax)
    return upsampled(network, upsampling, _image(in_channels, 3, depth))


@register("unet2d", spatial=(256, 256))
def unet2d(
    in_channels: int = 3,
    classes: int = 21,
    base_width: int = 64,
    depth: int = 5,
    width: int | None = None,
    upsampling: str | None = None,
) -> nn.Module:
    """2D U-Net; both convolutions of level i are min(base_width * 2^i, 1024) wide; `width` says the same."""
    levels = [(each, each) for each in _widths(width or base_width, depth)]
    network = UNet(2, in_channels, classes, levels, transposed=True)
    return upsampled(network, upsampling, _image(in_channels, 2, depth))


def _image(channels: int, dims: int, depth: int) -> Tensor:
    """Return an image, shape alone, that the deepest level sees as two pixels wide."""
    return torch.empty(1, channels, *[2**depth] * dims, device="meta")


def _widths(base_width: int, depth: int) -> list[int]:
    if depth > _DEEPEST:
        raise UsageError(
            f"{setting('depth', depth)}: expected at most {_DEEPEST} levels, which halve 2048 pixels to one"
        )
    return [min(base_width * 2**level, _WIDEST) for level in range(depth)]
