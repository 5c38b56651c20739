"""Mask R-CNN over a feature pyramid: what an image shows in given boxes, by heads that share the pyramid.

He et al., "Mask R-CNN", ICCV 2017 (https://arxiv.org/abs/1703.06870). A box takes its features from the level that fits
its size (Lin et al., CVPR 2017, Eq. 1). The box head classifies it and corrects its corners, the mask head draws a mask
of 28 x 28 for each class, the keypoint head a map of 56 x 56 for each joint.

Differs from the paper: boxes are an input, as shares of the image, where the paper's region proposals stand; every box
is sampled in all levels and one of them counts, so that no op depends on the values of the boxes.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from ranp.models.networks._rois import roi_align
from ranp.models.networks.fpn import Pyramid
from ranp.models.registry import register

_BOX, _MASK = (7, 7), (14, 14)  # bins of a box
_CANONICAL, _LEVEL = 224, 2  # a box of that many pixels takes the third level
_BOXES = 8  # of the example


def box_features(levels: Sequence[Tensor], boxes: Tensor, size: Sequence[int], image: Sequence[int]) -> Tensor:
    """Sample each box in the level that fits its size.

    Args:
        levels: (B, C, h, w) each, the finest first.
        boxes: (B, R, 4), left, top, right and bottom as shares of the image.
        size: bins of a box.
        image: height and width, pixels.

    Returns:
        (B * R, C, *size).
    """
    sides = (boxes[..., 2:] - boxes[..., :2]).abs() * boxes.new_tensor([image[1], image[0]])  # pixels
    pixels = sides.prod(-1).clamp(min=1e-6).sqrt()
    level = (_LEVEL + (pixels / _CANONICAL).log2()).floor().clamp(0, len(levels) - 1)  # (B, R)
    sampled = [roi_align(each, boxes, size, scale=each.shape[2:]) for each in levels]
    total = sampled[0] * (level == 0).to(sampled[0].dtype)[..., None, None, None]
    for place, each in enumerate(sampled[1:], 1):
        total = total + each * (level == place).to(each.dtype)[..., None, None, None]
    return total.flatten(0, 1)


class RoIHeads(nn.Module):
    """The heads of Mask R-CNN.

    Args:
        inputs: channels of the pyramid; the published 256 decide all other widths.
        classes: of a box, the background among them.
        keypoints: joints; 0 for no keypoint head.
    """

    def __init__(self, inputs: int, classes: int, keypoints: int) -> None:
        super().__init__()
        hidden = 4 * inputs
        self.box = nn.Sequential(
            nn.Flatten(),
            nn.Linear(inputs * _BOX[0] * _BOX[1], hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
        )
        self.scores = nn.Linear(hidden, classes)
        self.corrections = nn.Linear(hidden, 4 * classes)
        self.mask = nn.Sequential(
            *_convolutions(inputs, inputs, 4),
            nn.ConvTranspose2d(inputs, inputs, 2, stride=2),
            nn.ReLU(inplace=True),
            nn.Conv2d(inputs, classes, 1),
        )
        self.keypoint = None
        if keypoints:
            upsample = nn.ConvTranspose2d(2 * inputs, keypoints, 4, stride=2, padding=1)
            self.keypoint = nn.Sequential(*_convolutions(inputs, 2 * inputs, 8), upsample)

    def forward(self, levels: Sequence[Tensor], boxes: Tensor, image: Sequence[int]) -> tuple[Tensor, ...]:
        """Return scores (B, R, classes), corrections (B, R, 4 classes), masks (B, R, classes, 28, 28), maps of joints.

        The last are (B, R, keypoints, 56, 56), where there is such a head.
        """
        count = boxes.shape[:2]
        seen = self.box(box_features(levels, boxes, _BOX, image))
        shared = box_features(levels, boxes, _MASK, image)
        found = [self.scores(seen), self.corrections(seen), self.mask(shared)]
        if self.keypoint is not None:
            maps = self.keypoint(shared)
            found.append(F.interpolate(maps, scale_factor=2.0, mode="bilinear", align_corners=False))
        return tuple(each.unflatten(0, count) for each in found)


def _convolutions(inputs: int, width: int, times: int) -> list[nn.Module]:
    """3-wide convolutions and their ReLUs."""
    layers: list[nn.Module] = []
    for i in range(times):
        layers += [nn.Conv2d(width if i else inputs, width, 3, padding=1), nn.ReLU(inplace=True)]
    return layers


class MaskRCNN(Pyramid):
    """The pyramid and the heads.

    Args:
        in_channels: channels of the image.
        classes: of a box, the background among them.
        width: of the ResNet's stem, published 64.
        keypoints: joints, published 17.
    """

    def __init__(self, in_channels: int, classes: int, width: int, keypoints: int) -> None:
        super().__init__(in_channels, width)
        self.heads = RoIHeads(4 * width, classes, keypoints)

    def forward(self, image: Tensor, boxes: Tensor) -> tuple[Tensor, ...]:
        """Map (B, in_channels, H, W) and boxes (B, R, 4) to what `RoIHeads` returns."""
        found: tuple[Tensor, ...] = self.heads(self.levels(image), boxes, image.shape[2:])
        return found


@register("maskrcnn", spatial=(256, 256), boxes=_BOXES)
def maskrcnn(in_channels: int = 3, classes: int = 81, width: int = 64, keypoints: int = 17) -> MaskRCNN:
    """Mask R-CNN with box, mask and keypoint heads over ResNet-50-FPN, for given boxes; `width` is that of the stem."""
    return MaskRCNN(in_channels, classes, width, keypoints)
