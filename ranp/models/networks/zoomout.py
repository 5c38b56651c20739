"""Zoom-out features: each superpixel classified by what it, its surroundings and the whole image look like.

Mostajabi, Yadollahpour, Shakhnarovich, "Feedforward Semantic Segmentation with Zoom-out Features", CVPR 2015
(https://arxiv.org/abs/1412.0774): the thirteen convolutions of VGG-16, each upsampled to the image and averaged over
the superpixel; fc7 of the sub-scene, the box around the superpixels within three steps; fc7 of the whole image. Of the
12,416 features two hidden layers make scores.

Differs from the paper: the trunk learns with the rest, and superpixels may be blocks of pixels where none are given.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ranp.errors import UsageError, setting
from ranp.models.networks._blocks import max_pool, resized
from ranp.models.networks._vgg import VGG16, fully_connected, stages
from ranp.models.registry import register

_STEPS = 3  # from superpixel to superpixel, how far a sub-scene reaches
_POOLINGS = 2 ** len(VGG16)


class ZoomOut(nn.Module):
    """VGG-16 at three distances, and a perceptron over superpixels.

    Args:
        dims: number of spatial dimensions, 2 or 3.
        in_channels: channels of the image.
        classes: of each pixel.
        width: of the first stage, published 64; the later ones are 2, 4, 8 and 8 times that.
        hidden: channels of fc6 and fc7.
        units: of each of the perceptron's two hidden layers.
        side: pixels along each side of what fc6 sees, to which scenes are brought; a multiple of 32.
        superpixels: blocks along each side of an image that comes without superpixels, and the most that may come, to
            the power of the dimensions.
        scenes: see each superpixel's sub-scene, at the price of one run of the trunk for each superpixel.
    """

    def __init__(
        self,
        dims: int,
        in_channels: int,
        classes: int,
        width: int,
        hidden: int,
        units: int,
        side: int,
        superpixels: int,
        *,
        scenes: bool,
    ) -> None:
        super().__init__()
        self.side, self.blocks, self.scenes = side, superpixels, scenes
        self.stages = nn.ModuleList(stages(dims, in_channels, width))
        self.pool = max_pool(dims)(2, stride=2)
        self.scene = nn.Sequential(*fully_connected(dims, 8 * width, hidden, side // _POOLINGS))
        local = sum(times * width * count for times, count in VGG16)
        layers: list[nn.Module] = []
        for inputs in (local + hidden * (1 + scenes), units):
            layers += [nn.Conv1d(inputs, units, 1), nn.ReLU(inplace=True), nn.Dropout()]
        self.classifier = nn.Sequential(*layers, nn.Conv1d(units, classes, 1))

    def forward(self, image: Tensor, superpixels: Tensor | None = None) -> Tensor:
        """Map an image to scores, equal inside each superpixel.

        Args:
            image: (B, in_channels, H, W).
            superpixels: the number of each pixel's, (B, H, W), whole; None for blocks.

        Returns:
            (B, classes, H, W).
        """
        size = image.shape[2:]
        if superpixels is None:
            superpixels = blocks(size, self.blocks, image.device).expand(image.shape[0], *size)
        places = superpixels.flatten(1)[:, None]  # (B, 1, N)
        count = self.blocks ** len(size)
        area = _sums(torch.ones_like(places, dtype=image.dtype), places, count).clamp_min(1)  # (B, 1, S)
        parts = []
        x = image
        for i, stage in enumerate(self.stages):
            x = self.pool(x) if i else x
            for layer in stage:  # type: ignore[attr-defined]
                x = layer(x)
                if isinstance(layer, nn.ReLU):
                    parts.append(_sums(resized(x, size).flatten(2), places, count) / area)  # (B, C, S)
        if self.scenes:
            parts.append(self._scenes(image, superpixels, count))
        whole = self._seen(image)  # (B, hidden, 1)
        parts.append(whole.expand(-1, -1, count))
        scores: Tensor = self.classifier(torch.cat(parts, dim=1))  # (B, classes, S)
        return scores.gather(2, places.expand(-1, scores.shape[1], -1)).view(*scores.shape[:2], *size)

    def _seen(self, scene: Tensor) -> Tensor:
        """Map scenes (B, in_channels, h, w) to what fc7 makes of each, (B, hidden, 1)."""
        x = resized(scene, [self.side] * (scene.dim() - 2))
        for stage in self.stages:
            x = self.pool(stage(x))
        out: Tensor = self.scene(x).flatten(2)
        return out

    def _scenes(self, image: Tensor, superpixels: Tensor, count: int) -> Tensor:
        """See the box around each superpixel's neighbours: (B, hidden, S)."""
        low, high = scene_boxes(superpixels, count)  # (B, S, dims)
        dims, batch = image.dim() - 2, image.shape[0]
        sizes = torch.tensor(image.shape[2:], device=image.device)
        centre, half = (low + high) / sizes - 1, (high - low) / sizes  # in halves of the image, from its middle
        axes = torch.diag_embed(half.flip(-1)).to(image.dtype)  # grid_sample counts dimensions from the last
        theta = torch.cat([axes, centre.flip(-1)[..., None].to(image.dtype)], dim=-1)  # (B, S, dims, dims + 1)
        grid = F.affine_grid(
            theta.flatten(0, 1), [batch * count, 1, *[self.side] * dims], align_corners=False
        )  # (B S, side, side, dims)
        images = image.repeat_interleave(count, dim=0)
        crops = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
        return self._seen(crops).view(batch, count, -1).movedim(1, 2)


def blocks(size: Sequence[int], count: int, device: torch.device) -> Tensor:
    """Superpixels that are blocks, `count` along each axis: the number of each pixel's, (H, W)."""
    numbers = torch.zeros((), dtype=torch.long, device=device)
    for length in size:
        numbers = numbers[..., None] * count + torch.arange(length, device=device) * count // length
    return numbers


def scene_boxes(superpixels: Tensor, count: int, steps: int = _STEPS) -> tuple[Tensor, Tensor]:
    """The boxes around the superpixels within some steps of each, from one to what it touches.

    Args:
        superpixels: the number of each pixel's, (B, H, W), below `count`.
        count: S.
        steps: how many.

    Returns:
        The first pixel and the one behind the last along each axis, (B, S, dims) each; the whole image of numbers that
        no pixel has.
    """
    batch, *size = superpixels.shape
    touches = torch.eye(count, device=superpixels.device).repeat(batch, 1, 1).flatten(1)  # (B, S S)
    low, high = [], []
    flat = superpixels.flatten(1)
    for axis, length in enumerate(size, start=1):
        one, other = (superpixels.narrow(axis, start, length - 1).flatten(1) for start in (0, 1))
        for pairs in (one * count + other, other * count + one):
            touches = touches.scatter(1, pairs, 1.0)
        places = torch.arange(length, device=flat.device).view(-1, *[1] * (len(size) - axis))
        places = places.expand(size).flatten().expand(batch, -1)  # (B, N)
        empty = flat.new_zeros(batch, count)
        low.append((empty + length).scatter_reduce(1, flat, places, "amin"))
        high.append(empty.scatter_reduce(1, flat, places + 1, "amax"))
    reached = torch.linalg.matrix_power(touches.view(batch, count, count), steps) > 0  # (B, S, S)
    first, behind = torch.stack(low, dim=-1), torch.stack(high, dim=-1)  # (B, S, dims)
    ends = torch.tensor(size, device=flat.device)
    first = torch.where(reached[..., None], first[:, None], ends).amin(2)
    behind = torch.where(reached[..., None], behind[:, None], 0).amax(2)
    empty_ones = behind <= first
    return first.masked_fill(empty_ones, 0), torch.where(empty_ones, ends, behind)


def _sums(x: Tensor, places: Tensor, count: int) -> Tensor:
    """Sums of (B, C, N) over the pixels of each superpixel, whose numbers are (B, 1, N): (B, C, S)."""
    return x.new_zeros(*x.shape[:2], count).scatter_add(2, places.expand(-1, x.shape[1], -1), x)


@register("zoomout", spatial=(224, 224))
def zoomout(
    in_channels: int = 3,
    classes: int = 21,
    width: int = 64,
    hidden: int = 4096,
    units: int = 1024,
    side: int = 224,
    superpixels: int = 22,
    scenes: bool = False,
    spatial_dims: int = 2,
) -> ZoomOut:
    """Zoom-out features of superpixels, by default blocks; `scenes` looks at the surroundings of each too.

    Raises:
        UsageError: a side that the five poolings do not divide, or one spatial dimension.
    """
    if side % _POOLINGS:
        raise UsageError(f"{setting('side', side)}: zoomout expects a multiple of {_POOLINGS}")
    if spatial_dims < 2:
        raise UsageError(f"{setting('spatial_dims', spatial_dims)}: zoomout expects 2 or 3")
    return ZoomOut(spatial_dims, in_channels, classes, width, hidden, units, side, superpixels, scenes=scenes)
