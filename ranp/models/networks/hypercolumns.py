"""Hypercolumns over VGG-16: each pixel classified by the features of several layers above it.

Hariharan, Arbelaez, Girshick, Malik, "Hypercolumns for Object Segmentation and Fine-grained Localization", CVPR 2015
(https://arxiv.org/abs/1411.5752): pool2, conv4 and fc7, each upsampled to the image, one behind the other, and a linear
classifier for every cell of a coarse grid over the image, interpolated in between (10 x 10 in the paper, whose image is
the box of one object; here 1 by default).

A linear classifier of upsampled and concatenated features is the sum of upsampled scores of each layer, which is how
the paper runs it and how it stands here: the features of 4,736 channels at the size of the image are never made.

Differs from the paper: conv4 is VGG-16's fourth stage after its pooling, and fc7 keeps the grid of pool5.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ranp.errors import UsageError, setting
from ranp.models.networks._blocks import conv, max_pool, resized
from ranp.models.networks._vgg import VGG16, fully_connected, stages
from ranp.models.registry import register

_FC7 = len(VGG16) + 1


class Hypercolumns(nn.Module):
    """VGG-16 and the summed scores of its levels.

    Args:
        dims: number of spatial dimensions.
        in_channels: channels of the image.
        classes: of each pixel.
        width: of the first stage, published 64; the later ones are 2, 4, 8 and 8 times that.
        hidden: channels of fc6 and fc7.
        taps: levels that are classified: 1 to 5 the pooled stages, 6 fc7.
        grid: classifiers along each side of the image.
    """

    def __init__(
        self, dims: int, in_channels: int, classes: int, width: int, hidden: int, taps: Sequence[int], grid: int
    ) -> None:
        super().__init__()
        self.taps, self.grid = sorted(taps), grid
        self.levels = nn.ModuleList(
            nn.Sequential(*stage, max_pool(dims)(2, stride=2)) for stage in stages(dims, in_channels, width)
        )
        self.levels.append(nn.Sequential(*fully_connected(dims, 8 * width, hidden, padding=3)))
        del self.levels[self.taps[-1] :]
        widths = [*(times * width for times, _ in VGG16), hidden]
        self.classifiers = nn.ModuleList(
            conv(dims)(widths[tap - 1], grid**dims * classes, 1, bias=tap == self.taps[0]) for tap in self.taps
        )

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to logits (B, classes, H, W)."""
        x, features = image, []
        for level in self.levels:
            x = level(x)
            features.append(x)
        levels = [classifier(features[tap - 1]) for tap, classifier in zip(self.taps, self.classifiers, strict=True)]
        total = resized(levels[0], image.shape[2:])  # (B, grid^2 classes, H, W)
        for scores in levels[1:]:
            total = total + resized(scores, image.shape[2:])
        return total if self.grid == 1 else self._interpolated(total)

    def _interpolated(self, scores: Tensor) -> Tensor:
        """Weigh each cell's scores, (B, grid^2 classes, H, W), by how near each pixel is to the cell's centre."""
        cells = torch.arange(self.grid, device=scores.device, dtype=scores.dtype)
        for axis, size in enumerate(scores.shape[2:]):
            places = torch.arange(size, device=scores.device, dtype=scores.dtype) + 0.5
            places = (places * self.grid / size - 0.5).clamp(0, self.grid - 1)  # (size,), in cells
            share = (1 - (places - cells[:, None]).abs()).clamp_min(0)  # (grid, size)
            share = share.view(self.grid, 1, *[size if other == axis else 1 for other in range(scores.dim() - 2)])
            scores = (scores.unflatten(1, (self.grid, -1)) * share).sum(1)
        return scores


@register("hypercolumns", spatial=(224, 224))
def hypercolumns(
    in_channels: int = 3,
    classes: int = 21,
    width: int = 64,
    hidden: int = 4096,
    taps: tuple[int, ...] = (2, 4, 6),
    grid: int = 1,
    spatial_dims: int = 2,
) -> Hypercolumns:
    """Hypercolumns over VGG-16; `taps` 1 to 5 are its pooled stages, 6 fc7; `grid` classifiers along each side.

    Raises:
        UsageError: taps that are no levels, or none.
    """
    if not taps or len({*taps}) < len(taps) or not {*taps} <= {*range(1, _FC7 + 1)}:
        raise UsageError(f"{setting('taps', list(taps))}: hypercolumns expects different levels from 1 to {_FC7}")
    return Hypercolumns(spatial_dims, in_channels, classes, width, hidden, taps, grid)
