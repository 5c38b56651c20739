"""DeconvNet: VGG-16 to a single position, and its mirror of unpooling and transposed convolutions.

Noh, Hong, Han, "Learning Deconvolution Network for Semantic Segmentation", ICCV 2015
(https://arxiv.org/abs/1505.04366). As published, there is no dropout, and every convolution and transposed convolution
but the last has batch norm and ReLU.

Differs from the paper: fc6 and fc7 have no batch norm, which can't be trained on the one value per channel that a batch
of one image leaves there.
"""

from torch import Tensor, nn

from ranp.models.networks._blocks import batch_norm, conv, conv_transpose, max_pool, max_unpool
from ranp.models.networks._unpooling import pooled, unpooled
from ranp.models.networks._vgg import convolutions, mirrored, stages
from ranp.models.registry import register


class DeconvNet(nn.Module):
    """Five max-pooled stages, a bottleneck that covers `bottleneck` positions, and the stages' mirrors.

    Args:
        dims: number of spatial dimensions.
        in_channels: channels of the image.
        classes: of each pixel.
        width: of the first stage, published 64; the later ones are 2, 4, 8 and 8 times that.
        hidden: channels of fc6 and fc7.
        bottleneck: width of fc6 and of its mirror; images have at least 32 times as many pixels along each side.
    """

    def __init__(self, dims: int, in_channels: int, classes: int, width: int, hidden: int, bottleneck: int) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(stages(dims, in_channels, width, norm=True))
        self.bottleneck = nn.Sequential(
            *(conv(dims)(8 * width, hidden, bottleneck), nn.ReLU(inplace=True)),
            *(conv(dims)(hidden, hidden, 1), nn.ReLU(inplace=True)),
            conv_transpose(dims)(hidden, 8 * width, bottleneck),
            *(batch_norm(dims)(8 * width), nn.ReLU(inplace=True)),
        )
        self.decoder = nn.ModuleList(
            convolutions(dims, widths, norm=True, transposed=True) for widths in mirrored(width)
        )
        self.classifier = conv(dims)(width, classes, 1)
        self.pool = max_pool(dims)(2, stride=2, return_indices=True)
        self.unpool = max_unpool(dims)(2, stride=2)

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to logits (B, classes, H, W)."""
        x, places = pooled(self.encoder, self.pool, image)
        logits: Tensor = self.classifier(unpooled(self.decoder, self.unpool, self.bottleneck(x), places))
        return logits


@register("deconvnet", spatial=(224, 224))
def deconvnet(
    in_channels: int = 3,
    classes: int = 21,
    width: int = 64,
    hidden: int = 4096,
    bottleneck: int = 7,
    spatial_dims: int = 2,
) -> DeconvNet:
    """DeconvNet; `bottleneck` is the width of fc6, for which the image must leave positions."""
    return DeconvNet(spatial_dims, in_channels, classes, width, hidden, bottleneck)
