"""Panoptic quality over a data set, by torchmetrics (Kirillov et al., "Panoptic Segmentation", CVPR 2019)."""

from collections.abc import Collection

import torch
from torch import Tensor

from ranp.errors import UsageError


class PanopticScores:
    """Running counts of matched segments.

    Args:
        things: classes whose instances are told apart.
        stuff: classes of regions.

    Raises:
        UsageError: a class that is both, or none at all.

    >>> scores = PanopticScores(things={1}, stuff={0})
    >>> labels = torch.tensor([[[[0, 0], [1, 1], [1, 2]]]])
    >>> scores.update(labels, labels)
    >>> scores.compute()["pq"]
    1.0
    """

    def __init__(self, things: Collection[int], stuff: Collection[int]) -> None:
        if set(things) & set(stuff) or not set(things) | set(stuff):
            raise UsageError(f"things={sorted(things)}, stuff={sorted(stuff)}: expected classes that are either")
        from torchmetrics.detection import PanopticQuality  # most of a second to import

        self.things, self.stuff = set(things), set(stuff)
        self._quality = PanopticQuality(
            self.things, self.stuff, allow_unknown_preds_category=True, return_sq_and_rq=True, return_per_class=True
        )

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Count images.

        Args:
            prediction: (B, *spatial, 2) integer, class and number of the instance; that of stuff means nothing.
            target: likewise; pixels of other classes do not count.

        Raises:
            UsageError: shapes that differ.
        """
        if prediction.shape != target.shape or target.shape[-1] != 2:
            raise UsageError(
                f"prediction: expected (B, *spatial, 2) like the target {tuple(target.shape)}, got "
                f"{tuple(prediction.shape)}"
            )
        self._quality.update(prediction, target)

    def compute(self) -> dict[str, float]:
        """Return `pq`, `sq` and `rq`, means over classes that occur, and `pq_things`, `pq_stuff`; NaN of none."""
        if not self._quality.update_called:  # torchmetrics would warn
            return dict.fromkeys(("pq", "sq", "rq", "pq_things", "pq_stuff"), float("nan"))
        each = self._quality.compute()  # (classes, [pq, sq, rq]), things before stuff, each sorted
        seen = (self._quality.true_positives + self._quality.false_positives + self._quality.false_negatives) > 0
        places = self._quality.cat_id_to_continuous_id
        things = torch.tensor([category in self.things for category in sorted(places, key=lambda c: places[c])])

        def mean(column: int, among: Tensor) -> float:
            return float(each[among, column].mean()) if bool(among.any()) else float("nan")

        names = {name: mean(column, seen) for column, name in enumerate(("pq", "sq", "rq"))}
        return {**names, "pq_things": mean(0, seen & things), "pq_stuff": mean(0, seen & ~things)}
