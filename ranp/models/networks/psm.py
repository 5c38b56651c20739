"""PSMNet with the stacked hourglass: dense disparity from a pair of rectified images.

Chang and Chen, "Pyramid Stereo Matching Network", CVPR 2018 (https://arxiv.org/abs/1803.08669).

The third hourglass adds the first one's inner feature (not the second's), as in the published measurements. Each side
of the images must be a multiple of 16 and at least four times the largest pooling window.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ranp.errors import UsageError, setting
from ranp.models.networks._blocks import conv_norm
from ranp.models.registry import Preset, register


class BasicBlock(nn.Module):
    """Two 3-wide convolutions and an addition; no activation after the addition."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        around = {"padding": dilation, "dilation": dilation}
        self.a = nn.Sequential(conv_norm(2, inputs, outputs, 3, stride=stride, **around), nn.ReLU(inplace=True))
        self.b = conv_norm(2, outputs, outputs, 3, **around)
        changes = stride != 1 or inputs != outputs
        self.shortcut = conv_norm(2, inputs, outputs, 1, stride=stride) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        out: Tensor = self.b(self.a(x))
        return out + (x if self.shortcut is None else self.shortcut(x))


def _stage(inputs: int, outputs: int, blocks: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    first = BasicBlock(inputs, outputs, stride, dilation)
    return nn.Sequential(first, *(BasicBlock(outputs, outputs, 1, dilation) for _ in range(blocks - 1)))


class Features(nn.Module):
    """A residual network at a quarter of the resolution, and spatial pyramid pooling on top of it."""

    def __init__(self, in_channels: int, width: int, pools: tuple[int, ...]) -> None:
        super().__init__()
        self.first = nn.Sequential(
            conv_norm(2, in_channels, width, 3, stride=2, padding=1),
            nn.ReLU(inplace=True),
            conv_norm(2, width, width, 3, padding=1),
            nn.ReLU(inplace=True),
            conv_norm(2, width, width, 3, padding=1),
            nn.ReLU(inplace=True),
        )
        self.layer1 = _stage(width, width, 3)
        self.layer2 = _stage(width, 2 * width, 16, stride=2)
        self.layer3 = _stage(2 * width, 4 * width, 3)
        self.layer4 = _stage(4 * width, 4 * width, 3, dilation=2)
        self.branches = nn.ModuleList(
            nn.Sequential(nn.AvgPool2d(size, size), conv_norm(2, 4 * width, width, 1), nn.ReLU(inplace=True))
            for size in pools
        )
        self.last = nn.Sequential(
            conv_norm(2, (6 + len(pools)) * width, 4 * width, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(4 * width, width, 1, bias=False),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, width, H / 4, W / 4)."""
        raw = self.layer2(self.layer1(self.first(image)))  # (B, 2 width, H / 4, W / 4)
        deep = self.layer4(self.layer3(raw))  # (B, 4 width, H / 4, W / 4)
        pyramid = [_resize(branch(deep), deep.shape[2:], "bilinear") for branch in self.branches]
        features: Tensor = self.last(torch.cat([raw, deep, *reversed(pyramid)], dim=1))
        return features


class Hourglass(nn.Module):
    """Down to a quarter and up again, handing its two half-resolution features on to the next hourglass."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.c1 = nn.Sequential(conv_norm(3, width, 2 * width, 3, stride=2, padding=1), nn.ReLU(inplace=True))
        self.c2 = conv_norm(3, 2 * width, 2 * width, 3, padding=1)
        self.c3 = nn.Sequential(conv_norm(3, 2 * width, 2 * width, 3, stride=2, padding=1), nn.ReLU(inplace=True))
        self.c4 = nn.Sequential(conv_norm(3, 2 * width, 2 * width, 3, padding=1), nn.ReLU(inplace=True))
        self.t5 = _up(2 * width, 2 * width)
        self.t6 = _up(2 * width, width)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor, before: Tensor | None = None, after: Tensor | None = None) -> tuple[Tensor, ...]:
        """Map a cost volume to (out, pre, post).

        Args:
            x: (B, width, D, H, W).
            before: (B, 2 width, D / 2, H / 2, W / 2), an earlier hourglass's `pre`, added on the way up.
            after: the same shape, an earlier hourglass's `post`, added on the way down.
        """
        pre = self.c2(self.c1(x))
        pre = self.relu(pre if after is None else pre + after)
        post = self.t5(self.c4(self.c3(pre)))
        post = self.relu(post + (pre if before is None else before))
        return self.t6(post), pre, post


def _up(inputs: int, outputs: int) -> nn.Sequential:
    deconv = nn.ConvTranspose3d(inputs, outputs, 3, stride=2, padding=1, output_padding=1, bias=False)
    return nn.Sequential(deconv, nn.BatchNorm3d(outputs))


class Classifier(nn.Module):
    """One score per disparity from a cost volume: (B, width, D, H, W) to (B, 1, D, H, W)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.Sequential(conv_norm(3, width, width, 3, padding=1), nn.ReLU(inplace=True))
        self.score = nn.Conv3d(width, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width, D, H, W) to (B, 1, D, H, W)."""
        score: Tensor = self.score(self.norm(x))
        return score


class PSMNet(nn.Module):
    """Shared features of both images, a cost volume, three hourglasses, three disparity maps.

    Args:
        in_channels: channels of each image.
        maxdisp: disparities 0 to maxdisp - 1 are told apart; a multiple of 16.
        width: channels of the finest features; the others are 2 and 4 times that.
        pools: windows of the pyramid pooling at a quarter of the resolution, largest first.
    """

    def __init__(self, in_channels: int, maxdisp: int, width: int, pools: tuple[int, ...]) -> None:
        super().__init__()
        self.maxdisp = maxdisp
        self.features = Features(in_channels, width, pools)
        self.dres0 = nn.Sequential(
            conv_norm(3, 2 * width, width, 3, padding=1),
            nn.ReLU(inplace=True),
            conv_norm(3, width, width, 3, padding=1),
            nn.ReLU(inplace=True),
        )
        self.dres1 = nn.Sequential(
            conv_norm(3, width, width, 3, padding=1), nn.ReLU(inplace=True), conv_norm(3, width, width, 3, padding=1)
        )
        self.hourglass1, self.classifier1 = Hourglass(width), Classifier(width)
        self.hourglass2, self.classifier2 = Hourglass(width), Classifier(width)
        self.hourglass3, self.classifier3 = Hourglass(width), Classifier(width)

    def forward(self, left: Tensor, right: Tensor) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        """Map two images (B, in_channels, H, W) to the left one's disparity in pixels, (B, H, W).

        In training three maps are returned, coarse to fine; in eval the last.
        """
        volume = self._cost_volume(self.features(left), self.features(right))
        start = self.dres0(volume)
        start = self.dres1(start) + start
        out, pre1, post = self.hourglass1(start)
        out1 = out + start
        out, _, post = self.hourglass2(out1, pre1, post)
        out2 = out + start
        out, _, _ = self.hourglass3(out2, pre1, post)
        out3 = out + start
        cost1 = self.classifier1(out1)
        cost2 = self.classifier2(out2) + cost1
        cost3 = self.classifier3(out3) + cost2
        size = (self.maxdisp, *left.shape[2:])
        if not self.training:
            return _disparity(cost3, size)
        return _disparity(cost1, size), _disparity(cost2, size), _disparity(cost3, size)

    def _cost_volume(self, left: Tensor, right: Tensor) -> Tensor:
        """Left features over shifted right ones, zeros where the shift leaves the image: (B, 2 C, D, H, W)."""
        batch, channels, height, width = left.shape
        volume = left.new_zeros(batch, 2 * channels, self.maxdisp // 4, height, width)
        for shift in range(min(self.maxdisp // 4, width)):
            volume[:, :channels, shift, :, shift:] = left[:, :, :, shift:]
            volume[:, channels:, shift, :, shift:] = right[:, :, :, : width - shift]
        return volume


def _disparity(cost: Tensor, size: tuple[int, ...]) -> Tensor:
    """The expected disparity under the softmax of the resized cost: (B, 1, d, h, w) to (B, H, W)."""
    probability = F.softmax(_resize(cost, size, "trilinear").squeeze(1), dim=1)  # (B, D, H, W)
    disparities = torch.arange(size[0], dtype=cost.dtype, device=cost.device)
    return (probability * disparities.view(1, -1, 1, 1)).sum(dim=1)


def _resize(x: Tensor, size: tuple[int, ...], mode: str) -> Tensor:
    return F.interpolate(x, size=size, mode=mode, align_corners=True)


@register(
    "psm",
    spatial=(256, 512),
    inputs=2,
    loss="stereo",
    presets=[
        Preset(
            "sceneflow",
            {"in_channels": 3, "maxdisp": 192},
            ((3, 256, 512), (3, 256, 512)),
            strength=100.0,
            batch=3,
            loss="stereo",
        )
    ],
)
def psm(in_channels: int = 3, maxdisp: int = 192, width: int = 32, pools: tuple[int, ...] = (64, 32, 16, 8)) -> PSMNet:
    """PSMNet of 89 layers; smaller `pools` and `maxdisp` let it run on smaller images.

    Raises:
        UsageError: a `maxdisp` that is no multiple of 16.
    """
    if maxdisp % 16:
        raise UsageError(f"{setting('maxdisp', maxdisp)}: psm expects a multiple of 16")
    return PSMNet(in_channels, maxdisp, width, tuple(pools))
