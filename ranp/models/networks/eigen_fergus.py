"""Depth and surface normals from one image, from coarse to fine over three scales.

Eigen and Fergus, "Predicting Depth, Surface Normals and Semantic Labels with a Common Multi-Scale Convolutional
Architecture", ICCV 2015 (https://arxiv.org/abs/1411.4734), the variant over VGG-16 whose first scale both tasks share.

Differs from the paper: convolutions are padded, so that images of any size go through; where the published 228 x 304
gives maps of 55 x 74 and 109 x 147, here it gives 57 x 76 and 114 x 152. What fc6 reads is brought to half of `coarse`,
which at the published size changes nothing.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ranp.errors import UsageError, setting
from ranp.models.networks._blocks import resized
from ranp.models.networks._vgg import stages
from ranp.models.registry import register

_BALANCE = 0.5  # lambda: how much of a difference in scale is forgiven
DEPTH, NORMALS = 1, 3  # channels of each task


class Coarse(nn.Module):
    """VGG-16, a fully connected layer that sees the whole image, and another that draws a coarse map.

    Args:
        in_channels: channels of the image.
        width: of VGG-16's first stage, published 64.
        hidden: units of the first fully connected layer.
        features: channels of the map.
        size: its height and width.
    """

    def __init__(self, in_channels: int, width: int, hidden: int, features: int, size: Sequence[int]) -> None:
        super().__init__()
        height, width_ = size
        self.size = (height, width_)
        self.seen = (max(height // 2, 1), max(width_ // 2, 1))
        pooled = [layer for stage in stages(2, in_channels, width) for layer in (stage, nn.MaxPool2d(2, stride=2))]
        self.trunk = nn.Sequential(*pooled)
        self.see = nn.Linear(8 * width * self.seen[0] * self.seen[1], hidden)
        self.draw = nn.Linear(hidden, features * height * width_)
        self.drop = nn.Dropout()

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, features, *size)."""
        x = resized(self.trunk(image), self.seen).flatten(1)
        x = F.relu(self.draw(self.drop(F.relu(self.see(x)))))
        return x.view(x.shape[0], -1, *self.size)


class Refinement(nn.Module):
    """Features of the image at a finer resolution, beside what the coarser scale gave, and a map of them.

    Args:
        in_channels: channels of the image.
        own: channels of the features of the image itself.
        coarse: channels that the coarser scale gives.
        width: channels in between.
        outputs: channels of the map.
        depth: 5-wide convolutions in between.
        stride: of the features: 4 or 2.
    """

    def __init__(
        self, in_channels: int, own: int, coarse: int, width: int, outputs: int, depth: int, stride: int
    ) -> None:
        super().__init__()
        pool = nn.MaxPool2d(2, stride=2) if stride == 4 else nn.MaxPool2d(3, stride=1, padding=1)
        self.look = nn.Sequential(nn.Conv2d(in_channels, own, 9, stride=2, padding=4), nn.ReLU(inplace=True), pool)
        layers: list[nn.Module] = []
        for i in range(depth):
            layers += [nn.Conv2d(width if i else own + coarse, width, 5, padding=2), nn.ReLU(inplace=True)]
        self.refine = nn.Sequential(*layers, nn.Conv2d(width, outputs, 5, padding=2))

    def forward(self, image: Tensor, coarse: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) and (B, coarse, h, w) to (B, outputs, H / stride, W / stride)."""
        own = self.look(image)
        out: Tensor = self.refine(torch.cat([own, resized(coarse, own.shape[2:])], dim=1))
        return out


class EigenFergus(nn.Module):
    """A shared coarse scale, and two finer ones for each task.

    Args:
        in_channels: channels of the image.
        width: of VGG-16's first stage and of all in between in the finer scales, published 64.
        hidden: units of the first fully connected layer.
        coarse: height and width of the coarsest map.
    """

    def __init__(self, in_channels: int, width: int, hidden: int, coarse: Sequence[int]) -> None:
        super().__init__()
        own = width * 3 // 2  # 96 as published
        self.scale1 = Coarse(in_channels, width, hidden, width, coarse)
        tasks = (DEPTH, NORMALS)
        self.scale2 = nn.ModuleList(Refinement(in_channels, own, width, width, outputs, 3, 4) for outputs in tasks)
        self.scale3 = nn.ModuleList(Refinement(in_channels, own, outputs, width, outputs, 2, 2) for outputs in tasks)

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, 4, H / 2, W / 2): the log of the depth, and a unit normal."""
        x = self.scale1(image)
        depth, normals = (fine(image, middle(image, x)) for middle, fine in zip(self.scale2, self.scale3, strict=True))
        return torch.cat([depth, F.normalize(normals, dim=1)], dim=1)


def depth_loss(log_depth: Tensor, log_truth: Tensor) -> Tensor:
    """The scale-invariant squared difference of logarithms, and that of their slopes.

    mean(d^2) - mean(d)^2 / 2 + mean(d_x^2 + d_y^2), averaged over the batch.

    Args:
        log_depth: (B, 1, H, W).
        log_truth: the same shape; not finite where it is not known.
    """
    known = log_truth.isfinite()
    d = torch.where(known, log_depth - log_truth, 0)  # (B, 1, H, W)
    count = known.sum((1, 2, 3)).clamp_min(1)
    loss = d.square().sum((1, 2, 3)) / count - _BALANCE * (d.sum((1, 2, 3)) / count).square()
    for axis in (2, 3):
        pairs = known.narrow(axis, 1, d.shape[axis] - 1) & known.narrow(axis, 0, d.shape[axis] - 1)
        loss = loss + (d.diff(dim=axis).square() * pairs).sum((1, 2, 3)) / count
    return loss.mean()


def normals_loss(normals: Tensor, truth: Tensor) -> Tensor:
    """Minus the mean cosine of the angle between unit normals, (B, 3, H, W) both; zero vectors are not known."""
    known = truth.square().sum(1) > 0
    return -(normals * truth).sum(1).sum() / known.sum().clamp_min(1)


def depth_and_normals(outputs: Tensor, target: Tensor) -> Tensor:
    """Both losses of both tasks, for `--loss ranp.models.networks.eigen_fergus:depth_and_normals`.

    Args:
        outputs: (B, 4, h, w), as the network gives them.
        target: log depth and unit normal, (B, 4, H, W); read at the nearest pixel of each of the output's.
    """
    truth = F.interpolate(target, size=outputs.shape[2:], mode="nearest")
    return depth_loss(outputs[:, :DEPTH], truth[:, :DEPTH]) + normals_loss(outputs[:, DEPTH:], truth[:, DEPTH:])


@register("eigen-fergus", spatial=(228, 304), loss="mse")
def eigen_fergus(
    in_channels: int = 3, width: int = 64, hidden: int = 4096, coarse: tuple[int, int] = (14, 19)
) -> EigenFergus:
    """Multi-scale depth and normals over VGG-16; `coarse` is the size of the coarsest map, a 16th of the image's.

    Raises:
        UsageError: a size that is none.
    """
    if min(coarse) < 1:
        raise UsageError(f"{setting('coarse', list(coarse))}: eigen-fergus expects a height and a width")
    return EigenFergus(in_channels, width, hidden, coarse)
