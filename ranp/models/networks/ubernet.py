"""One trunk for several tasks, over an image pyramid.

Kokkinos, "UberNet: Training a Universal Convolutional Neural Network for Low-, Mid-, and High-Level Vision using
Diverse Datasets and Limited Memory", CVPR 2017 (https://arxiv.org/abs/1609.02132): VGG-16 with the same weights at each
scale of the image, batch norm of its own behind every level of every scale, scores of each task from each normed level,
summed over the levels and fused over the scales.

Differs from the paper: no task is detection, whose boxes are proposed and judged one by one; a level's scores are
shared by all scales, as the trunk is; and the scores of a scale are given in training only through the fused ones.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ranp.errors import UsageError, setting
from ranp.models.networks._blocks import batch_norm, conv, max_pool, resized
from ranp.models.networks._vgg import VGG16, fully_connected, stages
from ranp.models.registry import register


class Task(nn.Module):
    """Scores of one task: each level's, summed at the finest, and all scales' fused.

    Args:
        dims: number of spatial dimensions.
        widths: channels of the levels.
        scales: how many.
        outputs: channels of the scores.
    """

    def __init__(self, dims: int, widths: Sequence[int], scales: int, outputs: int) -> None:
        super().__init__()
        self.scores = nn.ModuleList(conv(dims)(width, outputs, 1) for width in widths)
        self.fuse = conv(dims)(scales * outputs, outputs, 1)

    def forward(self, pyramid: Sequence[Sequence[Tensor]], size: Sequence[int]) -> Tensor:
        """Map levels of each scale, (B, width, h, w) each, to (B, outputs, *size)."""
        scales = []
        for levels in pyramid:
            finest = levels[0].shape[2:]
            total = self.scores[0](levels[0])
            for score, level in zip(list(self.scores)[1:], levels[1:], strict=True):
                total = total + resized(score(level), finest)
            scales.append(resized(total, size))
        fused: Tensor = self.fuse(torch.cat(scales, dim=1))
        return fused


class UberNet(nn.Module):
    """VGG-16 tied over the scales of the image, and a head for each task.

    Args:
        dims: number of spatial dimensions.
        in_channels: channels of the image.
        tasks: channels that each task gives.
        width: of the first stage, published 64; the later ones are 2, 4, 8 and 8 times that.
        hidden: channels of fc6 and fc7.
        scales: of the image, as factors of its size; batch norm learns from a single image that has two positions left
            after five poolings at the smallest of them.
    """

    def __init__(
        self, dims: int, in_channels: int, tasks: Sequence[int], width: int, hidden: int, scales: Sequence[float]
    ) -> None:
        super().__init__()
        self.scales = tuple(scales)
        first, *rest = stages(dims, in_channels, width)
        last = nn.Sequential(max_pool(dims)(2, stride=2), *fully_connected(dims, 8 * width, hidden, padding=3))
        self.levels = nn.ModuleList(
            [first, *(nn.Sequential(max_pool(dims)(2, stride=2), *stage) for stage in rest), last]
        )
        widths = [*(times * width for times, _ in VGG16), hidden]
        self.norms = nn.ModuleList(nn.ModuleList(batch_norm(dims)(each) for each in widths) for _ in scales)
        self.tasks = nn.ModuleList(Task(dims, widths, len(scales), outputs) for outputs in tasks)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map (B, in_channels, H, W) to the scores of each task, (B, outputs, H, W)."""
        size = image.shape[2:]
        pyramid = []
        for scale, norms in zip(self.scales, self.norms, strict=True):
            x = resized(image, [max(round(length * scale), 1) for length in size])
            levels = []
            for level, norm in zip(self.levels, norms, strict=True):  # type: ignore[call-overload]
                x = level(x)
                levels.append(norm(x))
            pyramid.append(levels)
        return [task(pyramid, size) for task in self.tasks]


@register("ubernet", spatial=(320, 320))
def ubernet(
    in_channels: int = 3,
    tasks: tuple[int, ...] = (21, 7, 2, 2, 3),
    width: int = 64,
    hidden: int = 4096,
    scales: tuple[float, ...] = (1.0, 0.5, 0.25),
    spatial_dims: int = 2,
) -> UberNet:
    """Several tasks over an image pyramid; `tasks` says the channels of each: classes, parts, edges, saliency, normals.

    Raises:
        UsageError: no tasks or scales, or a number below 1 among the tasks or not above 0 among the scales.
    """
    if not tasks or min(tasks) < 1:
        raise UsageError(f"{setting('tasks', list(tasks))}: ubernet expects the channels of each task")
    if not scales or min(scales) <= 0:
        raise UsageError(f"{setting('scales', list(scales))}: ubernet expects factors of the image's size")
    return UberNet(spatial_dims, in_channels, tasks, width, hidden, scales)
