import math

import numpy as np
import pytest
import torch
from torch import Tensor

from ranp.errors import UsageError
from ranp.metrics import matte_figures

pytest.importorskip("scipy.ndimage")


def drawn(seed: int, *shape: int) -> tuple[Tensor, Tensor, Tensor]:
    """A matte of few levels, one near it, and a region."""
    generator = torch.Generator().manual_seed(seed)
    true = torch.randint(0, 5, shape, generator=generator).double() / 4
    alpha = (true + 0.3 * torch.randn(shape, generator=generator, dtype=torch.float64)).clamp(0, 1)
    return alpha, true, torch.rand(shape, generator=generator) > 0.3


def gradient(matte: np.ndarray) -> np.ndarray:
    """The published filters, applied point by point with the border repeated."""
    sigma, half = 1.4, 4  # where the Gaussian is below 0.01
    x = np.arange(-half, half + 1)
    gauss = np.exp(-(x**2) / (2 * sigma**2)) / (sigma * np.sqrt(2 * np.pi))
    kernel = np.outer(gauss, -x * gauss / sigma**2)
    kernel /= np.sqrt((kernel**2).sum())
    wide = np.pad(matte, half, mode="edge")
    out = np.zeros((2, *matte.shape))
    for (y, z), _ in np.ndenumerate(matte):
        window = wide[y : y + 2 * half + 1, z : z + 2 * half + 1]
        out[:, y, z] = (window * kernel).sum(), (window * kernel.T).sum()
    return np.hypot(*out)


def largest(mask: np.ndarray) -> np.ndarray:
    """The largest region of 4-neighbours, by flooding; the first of equals."""
    best, seen = np.zeros_like(mask), np.zeros_like(mask)
    for start in zip(*np.nonzero(mask), strict=True):
        region, left = np.zeros_like(mask), [start]
        while left:
            y, x = left.pop()
            if not (0 <= y < mask.shape[0] and 0 <= x < mask.shape[1]) or not mask[y, x] or seen[y, x]:
                continue
            seen[y, x] = region[y, x] = True
            left += [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
        if region.sum() > best.sum():
            best = region
    return best


def connectivity(alpha: np.ndarray, true: np.ndarray) -> np.ndarray:
    joined = np.ones_like(alpha)
    open_ = np.ones(alpha.shape, bool)
    for step in range(1, 11):
        level = np.arange(0, 1.05, 0.1)[step]
        inside = largest((alpha >= level) & (true >= level))
        joined[open_ & ~inside] = np.arange(0, 1.05, 0.1)[step - 1]
        open_ &= inside
    phi = [1 - (matte - joined) * (matte - joined >= 0.15) for matte in (alpha, true)]
    return np.abs(phi[0] - phi[1])


@pytest.mark.parametrize("seed", range(4))
def test_the_definitions_point_by_point(seed: int) -> None:
    alpha, true, unknown = drawn(seed, 9, 11)
    found = matte_figures(alpha, true, unknown)
    off = (alpha - true)[unknown]
    inside = unknown.numpy()
    steep = gradient(alpha.numpy()) - gradient(true.numpy())
    assert found["sad"] == pytest.approx(float(off.abs().sum()) / 1000)
    assert found["mse"] == pytest.approx(float(off.square().mean()))
    assert found["grad"] == pytest.approx((steep[inside] ** 2).sum() / 1000)
    assert found["conn"] == pytest.approx(connectivity(alpha.numpy(), true.numpy())[inside].sum() / 1000)


def test_a_matte_is_as_good_as_itself_also_in_three_dimensions() -> None:
    _, true, _ = drawn(0, 5, 6, 7)
    assert set(matte_figures(true, true).values()) == {0.0}


def test_nothing_counted_and_mistakes() -> None:
    alpha, true, unknown = drawn(0, 4, 5)
    assert all(math.isnan(value) for value in matte_figures(alpha, true, unknown & False).values())
    with pytest.raises(UsageError, match=r"alpha: expected the truth's shape \(4, 5\), got \(4, 4\)"):
        matte_figures(alpha[:, :4], true)
