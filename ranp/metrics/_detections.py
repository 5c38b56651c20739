"""Average precision of boxes or masks, as COCO counts it, by pycocotools.

Lin et al., "Microsoft COCO", ECCV 2014: precision averaged over recalls, over IoU thresholds from 0.5 to 0.95, and over
classes. torchmetrics wraps the same library, and needs torchvision besides. No region
is taken for a crowd.
"""

import contextlib
import io
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ranp.errors import UsageError, need

FIGURES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")


class DetectionScores:
    """Detections and objects of a data set.

    Args:
        of: what is compared, boxes or masks.

    Raises:
        MissingExtra: pycocotools is not installed.
    """

    def __init__(self, of: Literal["boxes", "masks"] = "boxes") -> None:
        if of not in ("boxes", "masks"):
            raise UsageError(f"of={of!r}: expected boxes or masks")
        need("pycocotools.cocoeval", "detection")
        self.of = of
        self.images: list[dict[str, int]] = []
        self.detections: list[dict[str, object]] = []
        self.objects: list[dict[str, object]] = []

    def update(self, found: Tensor, scores: Tensor, classes: Tensor, true: Tensor, true_classes: Tensor) -> None:
        """Enter an image.

        Args:
            found: (N, 4) boxes, left, top, right and bottom in pixels; or (N, H, W) bool masks.
            scores: (N,).
            classes: (N,) integer.
            true: (M, 4) or (M, H, W), the objects.
            true_classes: (M,) integer.

        Raises:
            UsageError: counts that differ, or neither boxes nor masks.
        """
        for name, shapes, labels in (("found", found, classes), ("true", true, true_classes)):
            if shapes.ndim != (2 if self.of == "boxes" else 3) or len(shapes) != len(labels):
                raise UsageError(f"{name}: expected {self.of} for {len(labels)} classes, got {tuple(shapes.shape)}")
        height, width = (0, 0) if self.of == "boxes" else found.shape[1:]
        self.images.append({"id": len(self.images) + 1, "height": height, "width": width})
        for shape, score, label in zip(found, scores.tolist(), classes.tolist(), strict=True):
            self.detections.append(self._entry(shape, label, len(self.detections)) | {"score": score})
        for shape, label in zip(true, true_classes.tolist(), strict=True):
            self.objects.append(self._entry(shape, label, len(self.objects)))

    def _entry(self, shape: Tensor, label: int, number: int) -> dict[str, object]:
        common = {"id": number + 1, "image_id": len(self.images), "category_id": label, "iscrowd": 0}
        if self.of == "boxes":
            left, top, right, bottom = shape.double().tolist()
            return {**common, "bbox": [left, top, right - left, bottom - top], "area": (right - left) * (bottom - top)}
        encoded = need("pycocotools.mask", "detection").encode(np.asfortranarray(shape.cpu().numpy().astype(np.uint8)))
        return {**common, "segmentation": encoded, "area": float(shape.sum())}

    def compute(self) -> dict[str, float]:
        """Return `FIGURES`, as shares; NaN where there is no object, of that size for the last three."""
        if not self.objects:
            return dict.fromkeys(FIGURES, float("nan"))
        coco, evaluation = need("pycocotools.coco", "detection"), need("pycocotools.cocoeval", "detection")
        classes = {int(str(each["category_id"])) for each in (*self.objects, *self.detections)}
        categories = [{"id": label} for label in sorted(classes)]
        sides = []
        with contextlib.redirect_stdout(io.StringIO()):  # it prints
            for entries in (self.objects, self.detections):
                side = coco.COCO()
                side.dataset = {"images": self.images, "annotations": entries, "categories": categories}
                side.createIndex()
                sides.append(side)
            judge = evaluation.COCOeval(*sides, iouType="bbox" if self.of == "boxes" else "segm")
            judge.evaluate()
            judge.accumulate()
            judge.summarize()
        values = torch.tensor(judge.stats[: len(FIGURES)]).tolist()
        return {name: value if value >= 0 else float("nan") for name, value in zip(FIGURES, values, strict=True)}
