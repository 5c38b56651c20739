"""Figures of masks against what their definitions say, counted by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ranp.metrics import mask_figures

pytest.importorskip("scipy")


def random_mask(shape: tuple[int, ...], seed: int, share: float = 0.3) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < share


def surface(mask: np.ndarray) -> np.ndarray:
    """Places of the mask with a neighbour along an axis that is not of it, or outside."""
    padded = np.pad(mask, 1)
    inner = padded.copy()
    for axis in range(mask.ndim):
        inner &= np.roll(padded, 1, axis) & np.roll(padded, -1, axis)
    return np.argwhere(mask & ~inner[tuple(slice(1, -1) for _ in mask.shape)])


def distances(a: np.ndarray, b: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """From every place of the surface of a to the nearest of b's."""
    gaps = (surface(a)[:, None] - surface(b)[None]) * np.array(spacing)
    return np.asarray(np.sqrt((gaps**2).sum(-1)).min(1))


def by_hand(a: Tensor, b: Tensor, spacing: tuple[float, ...], tolerance: float) -> dict[str, float]:
    x, y = a.numpy(), b.numpy()
    both, there, back = (x & y).sum(), distances(x, y, spacing), distances(y, x, spacing)
    near = (there <= tolerance).sum() + (back <= tolerance).sum()
    return {
        "dice": float(2 * both / (x.sum() + y.sum())),
        "iou": float(both / (x | y).sum()),
        "hd95": float(max(np.percentile(there, 95), np.percentile(back, 95))),
        "surface_dice": float(near / (len(there) + len(back))),
    }


@pytest.mark.parametrize(("shape", "spacing"), [((9, 11), (1.0, 2.5)), ((7, 6, 8), (0.7, 1.0, 3.0))])
@given(seed=st.integers(0, 1000))
def test_figures_are_those_of_their_definitions(shape: tuple[int, ...], spacing: tuple[float, ...], seed: int) -> None:
    a, b = random_mask(shape, seed), random_mask(shape, seed + 7919)
    measured = mask_figures(a, b, spacing, tolerance=1.5)
    for name, value in by_hand(a, b, spacing, 1.5).items():
        assert measured[name] == pytest.approx(value, rel=1e-5), name


def test_without_a_spacing_distances_are_in_voxels() -> None:
    a, b = torch.zeros(2, 12, 12, dtype=torch.bool)
    a[2:5, 2:5], b[2:5, 6:9] = True, True
    assert mask_figures(a, b)["hd95"] == 4
    assert mask_figures(a, b, (1.0, 0.5))["hd95"] == 2


def test_a_class_that_is_nowhere_has_no_figure() -> None:
    empty = torch.zeros(4, 4, dtype=torch.bool)
    assert all(math.isnan(value) for value in mask_figures(empty, empty).values())


@pytest.mark.parametrize("turned", [False, True])
def test_a_class_on_one_side_is_missed_and_infinitely_far(turned: bool) -> None:
    pair = [torch.zeros(4, 4, dtype=torch.bool), torch.ones(4, 4, dtype=torch.bool)]
    given_one, true = reversed(pair) if turned else pair
    assert mask_figures(given_one, true) == {"dice": 0, "iou": 0, "hd95": math.inf, "surface_dice": 0}


def test_what_does_not_count_changes_nothing() -> None:
    a, b = random_mask((10, 10), 0), random_mask((10, 10), 1)
    used = torch.ones(10, 10, dtype=torch.bool)
    used[:, 7:] = False
    other = b.clone()
    other[:, 7:] = ~other[:, 7:]
    assert mask_figures(a, b, used=used) == mask_figures(a, other, used=used)
    assert mask_figures(a, b, used=used) != mask_figures(a, b)
