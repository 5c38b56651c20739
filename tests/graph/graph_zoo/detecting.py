"""Detectors: boxes are found in features by value, and features are sampled in boxes.

torchvision need not be installed: the two ops it has for this are defined here where it is not, slow and plain.
"""

from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graph_zoo.case import network
from graph_zoo.sharing import block

if find_spec("torchvision") is not None:
    import torchvision  # type: ignore[import-not-found]  # noqa: F401
else:
    LIBRARY = torch.library.Library("torchvision", "FRAGMENT")
    LIBRARY.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    LIBRARY.define(
        "roi_align(Tensor input, Tensor rois, float spatial_scale, int pooled_height, int pooled_width, "
        "int sampling_ratio, bool aligned) -> Tensor"
    )

    def _nms(dets: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
        left: list[int] = scores.argsort(descending=True).tolist()
        stays: list[int] = []
        while left:
            first, *others = left
            stays.append(first)
            box, rest = dets[first], dets[others]
            low, high = torch.maximum(box[:2], rest[:, :2]), torch.minimum(box[2:], rest[:, 2:])
            shared = (high - low).clamp(0).prod(-1)
            areas = [(each[..., 2:] - each[..., :2]).prod(-1) for each in (box, rest)]
            over = shared / (areas[0] + areas[1] - shared)
            left = [number for number, share in zip(others, over.tolist(), strict=True) if share <= iou_threshold]
        return torch.tensor(stays, dtype=torch.int64)

    def _roi_align(
        input: Tensor, rois: Tensor, scale: float, height: int, width: int, ratio: int, aligned: bool
    ) -> Tensor:
        steps = [(torch.arange(n, dtype=input.dtype) + 0.5) / n for n in (height, width)]
        out = []
        for number, *box in rois.tolist():
            left, top, right, bottom = (scale * side for side in box)
            y, x = top + steps[0] * (bottom - top), left + steps[1] * (right - left)
            grid = torch.stack(torch.meshgrid(x / input.shape[3], y / input.shape[2], indexing="xy"), -1) * 2 - 1
            out.append(F.grid_sample(input[int(number)][None], grid[None], align_corners=False)[0])
        return torch.stack(out) if out else input.new_zeros((0, input.shape[1], height, width))

    LIBRARY.impl("nms", _nms, "CPU")
    LIBRARY.impl("roi_align", _roi_align, "CPU")


class _Boxes(nn.Module):
    """A backbone and a layer that says of each place how good a box there is, and how large."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.boxes = block(3, 8), block(8, 12), nn.Conv2d(12, 5, 1)

    def found(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return boxes (N, 4) and scores (N,), those worth looking at."""
        told = self.boxes(features).flatten(2)[0].t()
        told = told[told[:, 4] > told[:, 4].mean()]
        corner = told[:, :2].sigmoid() * 4
        return torch.cat([corner, corner + 1 + told[:, 2:4].sigmoid() * 3], 1), told[:, 4]


@network((1, 3, 8, 8), frozen=0.14)
class OneStageDetector(_Boxes):
    """Boxes that no better one overlaps; how many there are is a matter of values."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        boxes, scores = self.found(self.b(self.a(x)))
        stays = torch.ops.torchvision.nms(boxes, scores, 0.5)
        return boxes[stays], scores[stays]


@network((1, 3, 8, 8), frozen=0.2)
class TwoStageDetector(_Boxes):
    """Features in the best boxes, and what each box holds."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.classes = nn.Linear(48, 10), nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        features = self.b(self.a(x))
        boxes, scores = self.found(features)
        boxes = boxes[torch.ops.torchvision.nms(boxes, scores, 0.5)]
        rois = torch.cat([torch.zeros_like(boxes[:, :1]), boxes], 1)
        parts = torch.ops.torchvision.roi_align(features, rois, 1.0, 2, 2, 2, True)
        return self.classes(F.relu(self.inner(parts.flatten(1))))  # type: ignore[no-any-return]
