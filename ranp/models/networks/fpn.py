"""A feature pyramid over ResNet-50 for dense prediction: laterals summed top-down, one head shared by every level.

Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017 (https://arxiv.org/abs/1612.03144). The paper's
heads propose boxes; here the shared head scores classes at each level, and the levels' scores are summed at the finest.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from ranp.models.networks._resnet import ResNet50
from ranp.models.registry import register


class Pyramid(nn.Module):
    """ResNet-50, 1-wide laterals to a common width, nearest-neighbour top-down sums, 3-wide smoothing.

    Args:
        in_channels: channels of the image.
        width: of the ResNet's stem, published 64; the pyramid has 4 times as many channels.
    """

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.backbone = ResNet50(in_channels, width)
        pyramid = 4 * width
        self.laterals = nn.ModuleList(nn.Conv2d(channels, pyramid, 1) for channels in self.backbone.widths)
        self.smooth = nn.ModuleList(nn.Conv2d(pyramid, pyramid, 3, padding=1) for _ in self.backbone.widths)

    def levels(self, image: Tensor) -> list[Tensor]:
        """Map (B, in_channels, H, W) to the levels, (B, 4 width, H / 4, W / 4) first."""
        levels = [lateral(x) for lateral, x in zip(self.laterals, self.backbone(image), strict=True)]
        for i in range(len(levels) - 2, -1, -1):
            levels[i] = levels[i] + F.interpolate(levels[i + 1], size=levels[i].shape[2:], mode="nearest")
        return [smooth(level) for smooth, level in zip(self.smooth, levels, strict=True)]


class FPN(Pyramid):
    """The pyramid, and a head shared by its levels.

    Args:
        in_channels: channels of the image.
        classes: of each pixel.
        width: as in `Pyramid`.
    """

    def __init__(self, in_channels: int, classes: int, width: int) -> None:
        super().__init__(in_channels, width)
        pyramid = 4 * width
        self.head = nn.Sequential(
            nn.Conv2d(pyramid, pyramid, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(pyramid, classes, 1)
        )

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to logits (B, classes, H, W)."""
        scores = [self.head(level) for level in self.levels(image)]
        total = scores[0]
        for score in scores[1:]:
            total = total + F.interpolate(score, size=total.shape[2:], mode="bilinear", align_corners=False)
        return F.interpolate(total, size=image.shape[2:], mode="bilinear", align_corners=False)


@register("fpn", spatial=(256, 256))
def fpn(in_channels: int = 3, classes: int = 21, width: int = 64) -> FPN:
    """Feature pyramid network; `width` is that of the ResNet's stem."""
    return FPN(in_channels, classes, width)
