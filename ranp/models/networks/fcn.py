"""FCN-32s, FCN-16s and FCN-8s over VGG-16.

Long, Shelhamer, Darrell, "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015
(https://arxiv.org/abs/1411.4038). As published: the image is padded by 100, poolings round up, skips and result are
cropped to where they lie over each other, and upsampling starts as bilinear interpolation. In the paper the last
upsampling is fixed and the others learn; in the networks its authors released all are fixed (`learned=False`); here all
learn where nothing else is said.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from ranp.models.networks._bilinear import BilinearUpsampling, learned_bilinear
from ranp.models.networks._blocks import conv, max_pool
from ranp.models.networks._vgg import fully_connected, stages
from ranp.models.registry import register

_PADDING = 100  # what keeps the smallest image from vanishing before fc6
_CROP4, _CROP3 = 5, 9  # where pool4 and pool3 begin inside the scores that came up to them
_CROP = {32: 19, 16: 27, 8: 31}  # where the image begins inside the scores of each stride that were upsampled


class FCN(nn.Module):
    """VGG-16 as convolutions, and the scores of fc7, and of pool4 and pool3 where asked, summed on the way back up.

    Args:
        dims: number of spatial dimensions.
        in_channels: channels of the image.
        classes: of each pixel.
        width: of the first stage, published 64; the later ones are 2, 4, 8 and 8 times that.
        hidden: channels of fc6 and fc7.
        stride: of the finest scores: 32 those of fc7, 16 with pool4's, 8 with pool3's too.
        learned: whether the upsampling, which starts as bilinear, learns.
    """

    def __init__(
        self, dims: int, in_channels: int, classes: int, width: int, hidden: int, stride: int, *, learned: bool
    ) -> None:
        super().__init__()
        self.stride = stride
        self.stages = nn.ModuleList(
            nn.Sequential(*stage, max_pool(dims)(2, stride=2, ceil_mode=True))
            for stage in stages(dims, in_channels, width)
        )
        self.stages[0][0].padding = (_PADDING,) * dims  # type: ignore[index]
        self.classifier = nn.Sequential(*fully_connected(dims, 8 * width, hidden), conv(dims)(hidden, classes, 1))
        up = learned_bilinear if learned else BilinearUpsampling
        self.up5 = up(dims, classes, 2 if stride < 32 else 32)
        self.score4 = conv(dims)(8 * width, classes, 1) if stride < 32 else None
        self.up4 = up(dims, classes, 2 if stride < 16 else 16) if stride < 32 else None
        self.score3 = conv(dims)(4 * width, classes, 1) if stride < 16 else None
        self.up3 = up(dims, classes, 8) if stride < 16 else None

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to logits (B, classes, H, W)."""
        pools = []
        x = image
        for stage in self.stages:
            x = stage(x)
            pools.append(x)
        x = self.up5(self.classifier(x))
        if self.score4 is not None and self.up4 is not None:
            x = self.up4(x + _crop(self.score4(pools[3]), x.shape[2:], _CROP4))
        if self.score3 is not None and self.up3 is not None:
            x = self.up3(x + _crop(self.score3(pools[2]), x.shape[2:], _CROP3))
        return _crop(x, image.shape[2:], _CROP[self.stride])


def _crop(x: Tensor, size: Sequence[int], start: int) -> Tensor:
    for axis, length in enumerate(size, start=2):
        x = x.narrow(axis, start, length)
    return x


@register("fcn32s", spatial=(224, 224))
def fcn32s(
    in_channels: int = 3,
    classes: int = 21,
    width: int = 64,
    hidden: int = 4096,
    learned: bool = True,
    spatial_dims: int = 2,
) -> FCN:
    """FCN-32s; `width` is that of the first stage, `hidden` that of fc6 and fc7; `learned` upsampling or fixed."""
    return FCN(spatial_dims, in_channels, classes, width, hidden, 32, learned=learned)


@register("fcn16s", spatial=(224, 224))
def fcn16s(
    in_channels: int = 3,
    classes: int = 21,
    width: int = 64,
    hidden: int = 4096,
    learned: bool = True,
    spatial_dims: int = 2,
) -> FCN:
    """FCN-16s; as FCN-32s, with the scores of pool4."""
    return FCN(spatial_dims, in_channels, classes, width, hidden, 16, learned=learned)


@register("fcn8s", spatial=(224, 224))
def fcn8s(
    in_channels: int = 3,
    classes: int = 21,
    width: int = 64,
    hidden: int = 4096,
    learned: bool = True,
    spatial_dims: int = 2,
) -> FCN:
    """FCN-8s; as FCN-16s, with the scores of pool3."""
    return FCN(spatial_dims, in_channels, classes, width, hidden, 8, learned=learned)
