"""SegNet: an encoder of VGG-16's thirteen convolutions and its mirror, joined by max-pooling indices.

Badrinarayanan, Kendall, Cipolla, "SegNet: A Deep Convolutional Encoder-Decoder Architecture for Image Segmentation",
TPAMI 2017 (https://arxiv.org/abs/1511.00561).
"""

from torch import Tensor, nn

from ranp.models.networks._blocks import conv, max_pool, max_unpool
from ranp.models.networks._unpooling import pooled, unpooled
from ranp.models.networks._vgg import convolutions, mirrored, stages
from ranp.models.registry import register


class SegNet(nn.Module):
    """Five max-pooled stages, and five that unpool to the places the maxima came from.

    Args:
        dims: number of spatial dimensions.
        in_channels: channels of the image.
        classes: of each pixel.
        width: of the first stage, published 64; the later ones are 2, 4, 8 and 8 times that.
    """

    def __init__(self, dims: int, in_channels: int, classes: int, width: int) -> None:
        super().__init__()
        *decoder, last = mirrored(width)
        self.encoder = nn.ModuleList(stages(dims, in_channels, width, norm=True))
        self.decoder = nn.ModuleList(convolutions(dims, widths, norm=True) for widths in decoder)
        self.decoder.append(
            nn.Sequential(*convolutions(dims, last[:-1], norm=True), conv(dims)(width, classes, 3, padding=1))
        )
        self.pool = max_pool(dims)(2, stride=2, return_indices=True)
        self.unpool = max_unpool(dims)(2, stride=2)

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to logits (B, classes, H, W)."""
        x, places = pooled(self.encoder, self.pool, image)
        return unpooled(self.decoder, self.unpool, x, places)


@register("segnet", spatial=(224, 224))
def segnet(in_channels: int = 3, classes: int = 21, width: int = 64, spatial_dims: int = 2) -> SegNet:
    """SegNet; `width` is that of the first stage."""
    return SegNet(spatial_dims, in_channels, classes, width)
