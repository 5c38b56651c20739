"""FCN-8s over VGG-16.

Long, Shelhamer, Darrell, "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015
(https://arxiv.org/abs/1411.4038). As published: the image is padded by 100, poolings round up, the two skips and the
result are cropped back, and upsampling starts as bilinear interpolation.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ranp.models.registry import register

VGG16 = ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3))  # (width in units of the first, convolutions) of each stage
_PADDING = 100  # what keeps the smallest image from vanishing before fc6
_CROP4, _CROP3, _CROP = 5, 9, 31  # where pool4, pool3 and the image begin inside what was padded


class FCN8s(nn.Module):
    """VGG-16 as convolutions, and the scores of pool3, pool4 and fc7 summed on the way back up.

    Args:
        in_channels: channels of the image.
        classes: of each pixel.
        width: of the first stage, published 64; the later ones are 2, 4, 8 and 8 times that.
        hidden: channels of fc6 and fc7.
    """

    def __init__(self, in_channels: int, classes: int, width: int, hidden: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        channels = in_channels
        for times, convolutions in VGG16:
            self.stages.append(_stage(channels, times * width, convolutions, 1 if len(self.stages) else _PADDING))
            channels = times * width
        self.classifier = nn.Sequential(
            nn.Conv2d(channels, hidden, 7),
            nn.ReLU(inplace=True),
            nn.Dropout2d(),
            nn.Conv2d(hidden, hidden, 1),
            nn.ReLU(inplace=True),
            nn.Dropout2d(),
            nn.Conv2d(hidden, classes, 1),
        )
        self.score4 = nn.Conv2d(8 * width, classes, 1)
        self.score3 = nn.Conv2d(4 * width, classes, 1)
        self.up5 = _bilinear(classes, 2)
        self.up4 = _bilinear(classes, 2)
        self.up3 = _bilinear(classes, 8)

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to logits (B, classes, H, W)."""
        pools = []
        x = image
        for stage in self.stages:
            x = stage(x)
            pools.append(x)
        x = self.up5(self.classifier(x))
        x = x + _crop(self.score4(pools[3]), x.shape[2:], _CROP4)
        x = self.up4(x)
        x = x + _crop(self.score3(pools[2]), x.shape[2:], _CROP3)
        return _crop(self.up3(x), image.shape[2:], _CROP)


def _stage(inputs: int, outputs: int, convolutions: int, padding: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i in range(convolutions):
        layers.append(nn.Conv2d(outputs if i else inputs, outputs, 3, padding=1 if i else padding))
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers, nn.MaxPool2d(2, stride=2, ceil_mode=True))


def _crop(x: Tensor, size: Sequence[int], start: int) -> Tensor:
    height, width = size
    return x[:, :, start : start + height, start : start + width]


def _bilinear(classes: int, factor: int) -> nn.ConvTranspose2d:
    """A transposed convolution that upsamples each class by itself, bilinearly, until it is trained."""
    layer = nn.ConvTranspose2d(classes, classes, 2 * factor, stride=factor, bias=False)
    ramp = 1 - (torch.arange(2 * factor) - (factor - 0.5)).abs() / factor
    with torch.no_grad():
        layer.weight.copy_(torch.eye(classes)[:, :, None, None] * ramp[:, None] * ramp)
    return layer


@register("fcn8s", spatial=(224, 224))
def fcn8s(in_channels: int = 3, classes: int = 21, width: int = 64, hidden: int = 4096) -> FCN8s:
    """FCN-8s; `width` is that of the first stage, `hidden` that of fc6 and fc7."""
    return FCN8s(in_channels, classes, width, hidden)
