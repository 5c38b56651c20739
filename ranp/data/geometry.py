"""Where two images of one case lie in space: orientation, spacing and origin."""

from itertools import product

import numpy as np
from numpy.typing import NDArray

from ranp.errors import need

_SLACK = 0.1  # of a voxel: what tools round
_SPACING = 0.01  # relative


def difference(first: NDArray[np.float64], second: NDArray[np.float64], shape: tuple[int, ...]) -> str | None:
    """Return in words how the geometry of two images differs, or None.

    Args:
        first: affine (4, 4) from voxels to millimetres.
        second: of the other image.
        shape: spatial size, two or three sizes.
    """
    ends = [(0, side - 1) for side in (*shape, 1)[:3]]
    corners = np.array([(*corner, 1) for corner in product(*ends)])  # (8, 4)
    spacings = [np.linalg.norm(affine[:3, :3], axis=0) for affine in (first, second)]
    gap = np.linalg.norm(corners @ (first - second).T, axis=1).max()
    if gap <= _SLACK * min(each[: len(shape)].min() for each in spacings):
        return None
    axes = ["".join(map(str, need("nibabel", "medical").aff2axcodes(affine))) for affine in (first, second)]
    if axes[0] != axes[1]:
        return f"orientation {axes[0]}, not {axes[1]}"
    if not np.allclose(spacings[0], spacings[1], rtol=_SPACING):
        return f"spacing {_spell(spacings[0])}, not {_spell(spacings[1])}"
    if not np.allclose(first[:3, 3], second[:3, 3], atol=_SLACK * float(spacings[0].min())):
        return f"origin {_spell(first[:3, 3])}, not {_spell(second[:3, 3])}"
    return f"axes turned by up to {gap:.3g} mm at a corner"


def _spell(values: NDArray[np.float64]) -> str:
    return " x ".join(f"{value:.4g}" for value in values)
