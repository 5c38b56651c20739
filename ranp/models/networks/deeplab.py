"""DeepLabv3: a dilated ResNet-50 and atrous spatial pyramid pooling.

Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation", 2017 (https://arxiv.org/abs/1706.05587),
with the multi-grid (1, 2, 4) of the paper's best model.

Differs from the paper: the image-pooling branch has a bias instead of batch norm, which can't be trained on the one
value per channel that a batch of one image leaves there.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ranp.errors import UsageError, setting
from ranp.models.networks._blocks import conv_norm
from ranp.models.networks._resnet import ResNet50
from ranp.models.registry import register

_MULTI_GRID = (1, 2, 4)
# strides of the ResNet's stages, dilations of its last two, rates of the pyramid
_LAYOUTS = {16: ((1, 2, 2, 1), (1, 2), (6, 12, 18)), 8: ((1, 2, 1, 1), (2, 4), (12, 24, 36))}


class ASPP(nn.Module):
    """A feature seen through a 1-wide convolution, three dilated ones and its mean; concatenated and projected."""

    def __init__(self, inputs: int, outputs: int, rates: Sequence[int]) -> None:
        super().__init__()
        self.branches = nn.ModuleList([_relu(conv_norm(2, inputs, outputs, 1))])
        self.branches.extend(_relu(conv_norm(2, inputs, outputs, 3, padding=rate, dilation=rate)) for rate in rates)
        self.mean = nn.Sequential(nn.AdaptiveAvgPool2d(1), _relu(nn.Conv2d(inputs, outputs, 1)))
        self.project = _relu(conv_norm(2, (len(rates) + 2) * outputs, outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H, W)."""
        mean = self.mean(x).expand(-1, -1, *x.shape[2:])
        out: Tensor = self.project(torch.cat([*(branch(x) for branch in self.branches), mean], dim=1))
        return out


class DeepLab(nn.Module):
    """DeepLabv3.

    Args:
        in_channels: channels of the image.
        classes: of each pixel.
        width: of the ResNet's stem, published 64; the pyramid has 4 times as many channels.
        output_stride: resolution of the features, 16 or 8.
    """

    def __init__(self, in_channels: int, classes: int, width: int, output_stride: int) -> None:
        super().__init__()
        strides, (third, fourth), rates = _LAYOUTS[output_stride]
        grid = [fourth * step for step in _MULTI_GRID]
        self.backbone = ResNet50(in_channels, width, strides, ((1,), (1,), (third,), grid))
        self.aspp = ASPP(self.backbone.widths[-1], 4 * width, rates)
        self.classifier = nn.Conv2d(4 * width, classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to logits (B, classes, H, W)."""
        logits = self.classifier(self.aspp(self.backbone(image)[-1]))
        return F.interpolate(logits, size=image.shape[2:], mode="bilinear", align_corners=False)


def _relu(layer: nn.Module) -> nn.Sequential:
    return nn.Sequential(layer, nn.ReLU(inplace=True))


@register("deeplab", spatial=(256, 256))
def deeplab(in_channels: int = 3, classes: int = 21, width: int = 64, output_stride: int = 16) -> DeepLab:
    """DeepLabv3 over ResNet-50; `width` is that of the stem.

    Raises:
        UsageError: an `output_stride` other than 16 and 8.
    """
    if output_stride not in _LAYOUTS:
        raise UsageError(f"{setting('output_stride', output_stride)}: deeplab expects 16 or 8")
    return DeepLab(in_channels, classes, width, output_stride)
