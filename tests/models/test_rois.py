"""RoIAlign and RoIPool, by hand and against the recorded values."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ranp.models.networks._rois import roi_align, roi_pool
from ranp.models.networks.maskrcnn import box_features

FIXTURE = Path(__file__).parents[2] / ".." / "shared" / "fixtures" / "dense" / "slides_ops.npz"


@pytest.mark.data
@pytest.mark.skipif(not FIXTURE.exists(), reason="the recorded values are not beside the checkout")
def test_the_recorded_values() -> None:
    known = np.load(FIXTURE)
    features, boxes = torch.tensor(known["roi_feat"])[None], torch.tensor(known["roi_box"])[None, None]
    scale = float(known["roi_scale"])
    found = {
        "roialign_sr2": roi_align(features, boxes, (3, 4), scale=scale),
        "roialign_sr2_legacy": roi_align(features, boxes, (3, 4), scale=scale, aligned=False),
        "roipool": roi_pool(features, boxes, (3, 4), scale=scale),
    }
    for name, value in found.items():
        torch.testing.assert_close(value[0, 0], torch.tensor(known[name]), rtol=0, atol=1e-12)


def interpolated(feature: Tensor, point: tuple[float, ...]) -> float:
    """The value of one channel at a point: linear inside, the border's up to one position outside, then 0."""
    if any(p < -1 or p > n for p, n in zip(point, feature.shape, strict=True)):
        return 0.0
    inside = [min(max(p, 0.0), n - 1.0) for p, n in zip(point, feature.shape, strict=True)]
    total = 0.0
    for corner in itertools.product((0, 1), repeat=len(point)):
        place = [min(int(p) + c, n - 1) for p, c, n in zip(inside, corner, feature.shape, strict=True)]
        share = math.prod(p - int(p) if c else 1 - (p - int(p)) for p, c in zip(inside, corner, strict=True))
        total += share * float(feature[tuple(place)])
    return total


def boxes_in(sizes: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Boxes (2, 3, 2 n) that lie inside, outside and across the border, the last dimension first."""
    whole = torch.tensor(sizes[::-1] * 2, dtype=torch.float64)
    boxes = torch.rand(2, 3, 2 * len(sizes), generator=generator, dtype=torch.float64) * 1.6 * whole - 0.3 * whole
    low, high = boxes.view(2, 3, 2, -1).sort(2)[0].unbind(2)
    return torch.cat([low, high], dim=-1)


@pytest.mark.parametrize("sizes", [(9,), (7, 5), (4, 5, 3), (1, 6)])
@pytest.mark.parametrize("aligned", [True, False])
def test_roi_align_is_the_mean_of_its_points(sizes: tuple[int, ...], aligned: bool) -> None:
    generator = torch.Generator().manual_seed(len(sizes))
    features = torch.randn(2, 2, *sizes, generator=generator, dtype=torch.float64)
    boxes, bins, scale, samples = boxes_in(sizes, generator), (2, 3, 2)[: len(sizes)], 0.5, 2
    found = roi_align(features, boxes * 2, bins, scale=scale, samples=samples, aligned=aligned)
    assert found.shape == (2, 3, 2, *bins)
    for image, box, channel in itertools.product(range(2), range(3), range(2)):
        low, high = boxes[image, box].view(2, -1).flip(-1).tolist()
        low, high = ([side - 0.5 * aligned for side in corner] for corner in (low, high))
        long = [(b - a) if aligned else max(b - a, 1.0) for a, b in zip(low, high, strict=True)]
        for place in itertools.product(*map(range, bins)):
            points = [
                [a + n / b * (p + (step + 0.5) / samples) for step in range(samples)]
                for a, n, b, p in zip(low, long, bins, place, strict=True)
            ]
            values = [interpolated(features[image, channel], point) for point in itertools.product(*points)]
            assert float(found[(image, box, channel, *place)]) == pytest.approx(sum(values) / len(values), abs=1e-12)


@pytest.mark.parametrize("sizes", [(9,), (7, 5), (4, 5, 3)])
def test_roi_pool_is_the_maximum_of_its_positions(sizes: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(len(sizes))
    features = torch.randn(2, 2, *sizes, generator=generator, dtype=torch.float64)
    boxes, bins = boxes_in(sizes, generator), (2, 3, 2)[: len(sizes)]
    found = roi_pool(features, boxes * 4, bins, scale=0.25)
    for image, box, channel in itertools.product(range(2), range(3), range(2)):
        low, high = boxes[image, box].view(2, -1).flip(-1).tolist()
        first = [math.floor(abs(a) + 0.5) * (1 if a > 0 else -1) for a in low]
        long = [
            max(math.floor(abs(b) + 0.5) * (1 if b > 0 else -1) - a + 1, 1) for a, b in zip(first, high, strict=True)
        ]
        for place in itertools.product(*map(range, bins)):
            ranges = [
                range(max(a + math.floor(p * n / b), 0), min(a + math.ceil((p + 1) * n / b), size))
                for a, n, b, p, size in zip(first, long, bins, place, sizes, strict=True)
            ]
            values = [float(features[(image, channel, *point)]) for point in itertools.product(*ranges)]
            assert float(found[(image, box, channel, *place)]) == pytest.approx(max(values, default=0.0), abs=1e-12)


def test_gradients_of_the_features_are_right() -> None:
    features = torch.randn(1, 1, 4, 5, dtype=torch.float64, requires_grad=True)
    boxes = torch.tensor([[[0.3, 0.4, 3.1, 2.6], [-2.0, 1.0, 2.2, 9.0]]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: roi_align(x, boxes, (2, 2)), features)


def test_a_box_takes_the_level_that_fits_its_size() -> None:
    levels = [torch.full((1, 1, 64 // 2**i, 64 // 2**i), float(i)) for i in range(4)]
    sides = torch.tensor([20.0, 111.0, 113.0, 223.0, 225.0, 449.0, 800.0]) / 1024
    boxes = torch.stack([torch.zeros(7), torch.zeros(7), sides, sides], dim=-1)[None]
    found = box_features(levels, boxes, (2, 2), (1024, 1024))
    assert found.shape == (7, 1, 2, 2)
    assert found[:, 0, 1, 1].tolist() == [0, 0, 1, 1, 2, 3, 3]
