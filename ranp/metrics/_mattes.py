"""How far alpha mattes are off: SAD, MSE, Grad and Conn.

Rhemann et al., "A Perceptually Motivated Online Benchmark for Image Matting", CVPR 2009, in the units that papers
print: SAD, Grad and Conn in thousands. Grad compares gradients by derivatives of a Gaussian of 1.4 pixels, squared.
Conn compares how far each pixel's alpha is above the level at which it joins the largest region that both mattes share.

Differs from the benchmark's code: mattes are taken as they are, not stretched to 0 and 1 first.
"""

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ranp.errors import UsageError, need

Array = NDArray[np.float64]
_SIGMA, _SMALLEST = 1.4, 0.01  # of the Gaussian, and where its filter ends
_STEP, _SLACK = 0.1, 0.15  # between levels, and below which a pixel is joined


def matte_figures(alpha: Tensor, true: Tensor, unknown: Tensor | None = None) -> dict[str, float]:
    """Compare two mattes.

    Args:
        alpha: (H, W), or (D, H, W), from 0 to 1.
        true: likewise.
        unknown: likewise, bool: the region of the trimap that counts; None for all.

    Returns:
        `sad`, `grad` and `conn` in thousands, `mse` as a mean; NaN where nothing counts.

    Raises:
        UsageError: shapes that differ.

    >>> import torch
    >>> true = torch.zeros(8, 8)
    >>> true[2:6, 2:6] = 1
    >>> figures = matte_figures(true * 0.5, true)
    >>> figures["sad"], figures["mse"]
    (0.008, 0.0625)
    """
    if alpha.shape != true.shape or (unknown is not None and unknown.shape != true.shape):
        raise UsageError(f"alpha: expected the truth's shape {tuple(true.shape)}, got {tuple(alpha.shape)}")
    counted = np.ones(true.shape, bool) if unknown is None else unknown.bool().cpu().numpy()
    if not counted.any():
        return dict.fromkeys(("sad", "mse", "grad", "conn"), float("nan"))
    ndimage = need("scipy.ndimage", "medical")
    given, truth = (matte.double().cpu().numpy() for matte in (alpha, true))
    off = (given - truth)[counted]
    steep = (_gradient(given, ndimage) - _gradient(truth, ndimage))[counted]
    joined = _joined(given, truth, ndimage)
    loose = (_connected(given - joined) - _connected(truth - joined))[counted]
    return {
        "sad": float(np.abs(off).sum()) / 1000,
        "mse": float((off**2).mean()),
        "grad": float((steep**2).sum()) / 1000,
        "conn": float(np.abs(loose).sum()) / 1000,
    }


def _gradient(matte: Array, ndimage: Any) -> Array:
    """Return the length of the gradient by derivatives of a Gaussian, each filter of unit norm."""
    half = int(np.ceil(_SIGMA * np.sqrt(-2 * np.log(np.sqrt(2 * np.pi) * _SIGMA * _SMALLEST))))
    x = np.arange(-half, half + 1, dtype=np.float64)
    smooth = np.exp(-(x**2) / (2 * _SIGMA**2))
    filters = smooth / np.linalg.norm(smooth), (-x * smooth) / np.linalg.norm(x * smooth)
    total = np.zeros_like(matte)
    for axis in range(matte.ndim):
        along = matte
        for other in range(matte.ndim):
            along = ndimage.convolve1d(along, filters[other == axis], axis=other, mode="nearest")
        total += along**2
    length: Array = np.sqrt(total)
    return length


def _joined(given: Array, truth: Array, ndimage: Any) -> Array:
    """Return the highest level at which each pixel belongs to the largest region that both mattes share."""
    highest = np.full(given.shape, -1.0)
    levels = np.arange(0, 1 + _STEP / 2, _STEP)
    for below, level in pairwise(levels):
        regions, count = ndimage.label((given >= level) & (truth >= level))
        largest = np.zeros(given.shape, bool)
        if count:
            largest = regions == 1 + np.bincount(regions.ravel())[1:].argmax()
        highest[(highest < 0) & ~largest] = below
    return np.where(highest < 0, 1.0, highest)


def _connected(above: Array) -> Array:
    return 1 - above * (above >= _SLACK)
