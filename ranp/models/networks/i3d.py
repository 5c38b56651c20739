"""I3D, the inflated Inception-v1 for video clips.

Carreira and Zisserman, "Quo Vadis, Action Recognition?", CVPR 2017 (https://arxiv.org/abs/1705.07750). As published,
padding is TensorFlow's "same": computed from the size of the input, uneven where it must be, zeros also under the
max pools (their inputs are never negative).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ranp.models.networks._blocks import scaled
from ranp.models.registry import Preset, register

# Widths of [b0, b1a, b1b, b2a, b2b, b3b] for the blocks between one max pool and the next.
_MIXED = (
    ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
    (
        (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64),
        (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128),
    ),
    ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
)


def pad_same(x: Tensor, kernel: Sequence[int], stride: Sequence[int]) -> Tensor:
    """Pad (B, C, *spatial) with zeros so that a window of that size and stride gives ceil(size / stride) outputs."""
    pads: list[int] = []
    for size, k, s in zip(x.shape[2:], kernel, stride, strict=True):
        total = max(k - (size % s or s), 0)
        pads = [total // 2, total - total // 2, *pads]  # F.pad reads the last dimension first
    return F.pad(x, pads) if any(pads) else x


class Unit(nn.Module):
    """A convolution padded "same", batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, kernel, stride=stride, bias=False)
        self.norm = nn.BatchNorm3d(outputs, eps=1e-3, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, T, H, W) to (B, outputs, T / stride, H / stride, W / stride), rounded up."""
        return F.relu(self.norm(self.conv(pad_same(x, self.conv.kernel_size, self.conv.stride))))


class SamePool(nn.MaxPool3d):
    """Max pooling padded "same" with zeros."""

    def __init__(self, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> None:
        super().__init__(kernel, stride)
        self.window, self.step = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, T, H, W) to (B, C, T / t, H / h, W / w), rounded up."""
        out: Tensor = super().forward(pad_same(x, self.window, self.step))
        return out


class Mixed(nn.Module):
    """An Inception block: four branches over the same input, concatenated."""

    def __init__(self, inputs: int, widths: Sequence[int]) -> None:
        super().__init__()
        b0, b1a, b1b, b2a, b2b, b3b = widths
        self.b0 = Unit(inputs, b0, 1)
        self.b1 = nn.Sequential(Unit(inputs, b1a, 1), Unit(b1a, b1b, 3))
        self.b2 = nn.Sequential(Unit(inputs, b2a, 1), Unit(b2a, b2b, 3))
        self.b3 = nn.Sequential(SamePool((3, 3, 3), (1, 1, 1)), Unit(inputs, b3b, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, T, H, W) to (B, b0 + b1b + b2b + b3b, T, H, W)."""
        return torch.cat([self.b0(x), self.b1(x), self.b2(x), self.b3(x)], dim=1)


class I3D(nn.Module):
    """The RGB stream: a 7-wide stem, nine mixed blocks, average pooling, dropout and a 1-wide convolution to logits.

    Args:
        in_channels: channels of the clip.
        classes: of the answer.
        width: multiplies every channel count.
        pool: window of the average pool, (T, H, W), of stride 1; what it leaves is averaged after the logits.
    """

    def __init__(self, in_channels: int, classes: int, width: float, pool: tuple[int, int, int]) -> None:
        super().__init__()
        w64, channels = scaled(64, width), scaled(192, width)
        layers: list[nn.Module] = [
            Unit(in_channels, w64, 7, stride=2),
            SamePool((1, 3, 3), (1, 2, 2)),
            Unit(w64, w64, 1),
            Unit(w64, channels, 3),
            SamePool((1, 3, 3), (1, 2, 2)),
        ]
        for stage, window in zip(_MIXED, (3, 2, None), strict=True):
            for published in stage:
                widths = [scaled(c, width) for c in published]
                layers.append(Mixed(channels, widths))
                channels = widths[0] + widths[2] + widths[4] + widths[5]
            if window is not None:
                layers.append(SamePool((window,) * 3, (2, 2, 2)))
        self.features = nn.Sequential(*layers)
        self.pool = nn.AvgPool3d(pool, stride=1)
        self.dropout = nn.Dropout(0.5)
        self.logits = nn.Conv3d(channels, classes, 1)

    def forward(self, clip: Tensor) -> Tensor:
        """Map (B, in_channels, T, H, W) to logits (B, classes)."""
        logits: Tensor = self.logits(self.dropout(self.pool(self.features(clip))))
        return logits.mean(dim=(2, 3, 4))


@register(
    "i3d",
    spatial=(16, 224, 224),
    presets=[Preset("ucf101", {"in_channels": 3, "classes": 101}, ((3, 16, 224, 224),), strength=80.0)],
)
def i3d(in_channels: int = 3, classes: int = 101, width: float = 1.0, pool: tuple[int, int, int] = (2, 7, 7)) -> I3D:
    """I3D of 58 layers; `pool` is the size of the last feature map, smaller for smaller clips."""
    return I3D(in_channels, classes, width, (pool[0], pool[1], pool[2]))
