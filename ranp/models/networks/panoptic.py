"""Panoptic FPN: classes of every pixel and instances in given boxes, from one feature pyramid.

Kirillov et al., "Panoptic Feature Pyramid Networks", CVPR 2019 (https://arxiv.org/abs/1901.02446): each level goes
through 3-wide convolutions, group norm and doublings until it is a 4th of the image, and the levels are summed. The
instance branch is Mask R-CNN's, with boxes as an input.
"""

from math import gcd

import torch.nn.functional as F
from torch import Tensor, nn

from ranp.models.networks.fpn import Pyramid
from ranp.models.networks.maskrcnn import RoIHeads
from ranp.models.registry import register

_GROUPS = 32
_LEVELS = 4


class SemanticBranch(nn.Module):
    """Levels brought to the finest one, summed, and classified.

    Args:
        inputs: channels of the pyramid.
        width: channels of the sum, published 128.
        classes: of each pixel.
    """

    def __init__(self, inputs: int, width: int, classes: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList()
        for level in range(_LEVELS):
            layers: list[nn.Module] = []
            for i in range(max(1, level)):
                layers += [
                    nn.Conv2d(width if i else inputs, width, 3, padding=1),
                    nn.GroupNorm(gcd(_GROUPS, width), width),
                    nn.ReLU(inplace=True),
                ]
            self.levels.append(nn.Sequential(*layers))
        self.classifier = nn.Conv2d(width, classes, 1)

    def forward(self, levels: list[Tensor]) -> Tensor:
        """Map the pyramid to logits (B, classes, h, w) of its finest level."""
        total: Tensor = self.levels[0](levels[0])
        for level in range(1, _LEVELS):
            x = levels[level]
            for start in range(0, 3 * level, 3):  # a convolution, its norm and its ReLU, then to the next finer level
                x = self.levels[level][start : start + 3](x)  # type: ignore[index]
                size = levels[level - start // 3 - 1].shape[2:]
                x = F.interpolate(x, size=size, mode="bilinear", align_corners=False)
            total = total + x
        logits: Tensor = self.classifier(total)
        return logits


class PanopticFPN(Pyramid):
    """The pyramid, the semantic branch and the instance branch.

    Args:
        in_channels: channels of the image.
        classes: of a box, the background among them.
        stuff: classes of a pixel.
        width: of the ResNet's stem, published 64.
    """

    def __init__(self, in_channels: int, classes: int, stuff: int, width: int) -> None:
        super().__init__(in_channels, width)
        self.semantic = SemanticBranch(4 * width, 2 * width, stuff)
        self.heads = RoIHeads(4 * width, classes, keypoints=0)

    def forward(self, image: Tensor, boxes: Tensor) -> tuple[Tensor, ...]:
        """Map (B, in_channels, H, W) and boxes (B, R, 4) to logits (B, stuff, H, W) and what `RoIHeads` returns."""
        levels = self.levels(image)
        logits = F.interpolate(self.semantic(levels), size=image.shape[2:], mode="bilinear", align_corners=False)
        return logits, *self.heads(levels, boxes, image.shape[2:])


@register("panoptic-fpn", spatial=(256, 256), boxes=8)
def panoptic_fpn(in_channels: int = 3, classes: int = 81, stuff: int = 54, width: int = 64) -> PanopticFPN:
    """Panoptic FPN over ResNet-50, for given boxes; `width` is that of the stem."""
    return PanopticFPN(in_channels, classes, stuff, width)
