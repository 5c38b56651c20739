"""SegNet: an encoder of VGG-16's thirteen convolutions and its mirror, joined by max-pooling indices.

Badrinarayanan, Kendall, Cipolla, "SegNet: A Deep Convolutional Encoder-Decoder Architecture for Image Segmentation",
TPAMI 2017 (https://arxiv.org/abs/1511.00561).
"""

from itertools import pairwise

from torch import Tensor, nn

from ranp.models.networks.fcn8s import VGG16
from ranp.models.registry import register


class SegNet(nn.Module):
    """Five max-pooled stages, and five that unpool to the places the maxima came from.

    Args:
        in_channels: channels of the image.
        classes: of each pixel.
        width: of the first stage, published 64; the later ones are 2, 4, 8 and 8 times that.
    """

    def __init__(self, in_channels: int, classes: int, width: int) -> None:
        super().__init__()
        widths = [times * width for times, _ in VGG16]
        depths = [convolutions for _, convolutions in VGG16]
        inputs = [in_channels, *widths[:-1]]
        self.encoder = nn.ModuleList(_convolutions([inputs[i], *[widths[i]] * depths[i]]) for i in range(len(VGG16)))
        self.decoder = nn.ModuleList(
            _convolutions([*[widths[i]] * depths[i], inputs[i]]) for i in range(len(VGG16) - 1, 0, -1)
        )
        last = _convolutions([width] * depths[0])
        self.decoder.append(nn.Sequential(*last, nn.Conv2d(width, classes, 3, padding=1)))
        self.pool = nn.MaxPool2d(2, stride=2, return_indices=True)
        self.unpool = nn.MaxUnpool2d(2, stride=2)

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to logits (B, classes, H, W)."""
        x, places = image, []
        for stage in self.encoder:
            full = stage(x)
            x, indices = self.pool(full)
            places.append((indices, full.shape[2:]))
        for stage in self.decoder:
            indices, size = places.pop()
            x = stage(self.unpool(x, indices, output_size=size))
        return x


def _convolutions(widths: list[int]) -> nn.Sequential:
    """3-wide convolutions from each width to the next, each with batch norm and ReLU."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


@register("segnet", spatial=(224, 224))
def segnet(in_channels: int = 3, classes: int = 21, width: int = 64) -> SegNet:
    """SegNet; `width` is that of the first stage."""
    return SegNet(in_channels, classes, width)
