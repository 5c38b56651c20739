import pytest
import torch

from ranp.errors import UsageError
from ranp.metrics import BoundaryScores
from ranp.metrics._boundaries import near_contour


@pytest.mark.parametrize("distance", [1, 2, 4])
def test_what_erosions_take_away(distance: int) -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    masks = torch.rand(3, 17, 13, generator=torch.Generator().manual_seed(0)) > 0.05
    masks[0] = True
    for mask, found in zip(masks, near_contour(masks, distance), strict=True):
        eroded = ndimage.binary_erosion(mask.numpy(), [[1] * 3] * 3, iterations=distance, border_value=0)
        assert torch.equal(found, mask & ~torch.from_numpy(eroded))


def test_counts_by_hand_one_column_off() -> None:
    prediction, target = torch.zeros(2, 1, 20, 20, dtype=torch.int64)
    target[..., 10:] = 1
    prediction[..., 11:] = 1
    scores = BoundaryScores(classes=3)  # 0.02 of 28.3: one pixel
    scores.update(prediction, target)
    # class 1: rings of 20 x 10 and 20 x 9, 56 and 54 pixels; rows 0 and 19 share 9 each, the last column 18 more
    assert scores.counts[1].tolist() == [36, 56 + 54 - 36]
    assert scores.counts[2].tolist() == [0, 0]
    assert scores.mean() == pytest.approx(scores.iou()[:2].mean())


def test_counts_are_added_up_and_volumes_are_measured_by_slices() -> None:
    labels = torch.randint(0, 2, (2, 2, 3, 12, 9), generator=torch.Generator().manual_seed(0))
    whole, parts = BoundaryScores(2, ratio=0.1), BoundaryScores(2, ratio=0.1)
    whole.update(labels[0], labels[1])
    for prediction, target in zip(labels[0].flatten(0, 1), labels[1].flatten(0, 1), strict=True):
        parts.update(prediction[None], target[None])
    assert torch.equal(whole.counts, parts.counts)
    assert whole.counts.min() > 0


def test_ignored_pixels_make_no_contour() -> None:
    target = torch.ones(1, 20, 20, dtype=torch.int64)
    prediction = target.clone()
    target[..., 8:12, 8:12] = 255
    scores = BoundaryScores(2, ignore=255)
    scores.update(prediction, target)
    assert scores.counts.tolist() == [[0, 0], [76, 76]]


def test_mistakes() -> None:
    with pytest.raises(UsageError, match=r"classes=0, ratio=0\.02"):
        BoundaryScores(0)
    with pytest.raises(UsageError, match=r"expected \(B, H, W\)"):
        BoundaryScores(2).update(torch.zeros(3, 3, dtype=torch.int64), torch.zeros(3, 3, dtype=torch.int64))
