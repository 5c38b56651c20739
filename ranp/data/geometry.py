"""Where two images of one case lie in space: orientation, spacing and origin."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

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
    axes = [axes_of(affine) for affine in (first, second)]
    if axes[0] != axes[1]:
        return f"orientation {axes[0]}, not {axes[1]}"
    if not np.allclose(spacings[0], spacings[1], rtol=_SPACING):
        return f"spacing {_spell(spacings[0])}, not {_spell(spacings[1])}"
    if not np.allclose(first[:3, 3], second[:3, 3], atol=_SLACK * float(spacings[0].min())):
        return f"origin {_spell(first[:3, 3])}, not {_spell(second[:3, 3])}"
    return f"axes turned by up to {gap:.3g} mm at a corner"


def _spell(values: NDArray[np.float64]) -> str:
    return " x ".join(f"{value:.4g}" for value in values)


@dataclass(frozen=True)
class Turn:
    """How an image's axes are put in order and direction as another's, without a value being changed.

    Args:
        shape: spatial size after it.
        affine: from voxels to millimetres after it, None where the file says none.
        axes: of nibabel's `apply_orientation`, None where nothing turns.
    """

    shape: tuple[int, ...]
    affine: NDArray[np.float64] | None
    axes: NDArray[np.float64] | None = None

    def apply(self, values: NDArray[Any]) -> NDArray[Any]:
        """Turn (*spatial) or (*spatial, C)."""
        if self.axes is None:
            return values
        turned: NDArray[Any] = need("nibabel", "medical").orientations.apply_orientation(values, self.axes)
        return turned


def turn(shape: tuple[int, ...], affine: NDArray[np.float64] | None, reference: NDArray[np.float64] | None) -> Turn:
    """Return what turns an image of three dimensions as another lies; nothing where one does not say how it does.

    Args:
        shape: spatial size.
        affine: of the image, from voxels to millimetres.
        reference: of the other.
    """
    if affine is None or reference is None or len(shape) != 3:
        return Turn(shape, affine)
    orientations = need("nibabel", "medical").orientations
    axes = orientations.ornt_transform(*(orientations.io_orientation(each) for each in (affine, reference)))
    if (axes == [[0, 1], [1, 1], [2, 1]]).all():
        return Turn(shape, affine)
    after = affine @ orientations.inv_ornt_aff(axes, shape)
    places = {int(new): old for old, (new, _) in enumerate(axes)}
    return Turn(tuple(shape[places[axis]] for axis in range(3)), after, axes)


def axes_of(affine: NDArray[np.float64] | None) -> str:
    """Return where an image's axes point, as "RAS"; "" where it does not say."""
    return "" if affine is None else "".join(map(str, need("nibabel", "medical").aff2axcodes(affine)))


def spacing_of(affine: NDArray[np.float64] | None, dims: int) -> tuple[float, ...]:
    """Return the millimetres between voxels along each axis; () where it does not say."""
    return () if affine is None else tuple(np.linalg.norm(affine[:3, :dims], axis=0).tolist())


@dataclass(frozen=True)
class Grid:
    """Where the voxels of an image lie.

    Args:
        shape: spatial size.
        affine: (4, 4) from voxels to millimetres, or None where nobody says.
    """

    shape: tuple[int, ...]
    affine: NDArray[np.float64] | None

    def taking(self, affine: NDArray[np.float64] | None) -> Callable[[Tensor], Tensor]:
        """Return what brings values (K, *spatial) from another grid onto this one, which has the same axes.

        Args:
            affine: of the other grid.
        """
        return partial(self.resampled, affine=affine, axis=0, places=range(self.shape[0]))

    def resampled(self, values: Tensor, affine: NDArray[np.float64] | None, axis: int, places: range) -> Tensor:
        """Return values at a part of the grid, linearly between those of another one, at its border as they are there.

        Args:
            values: (K, *spatial) on the other grid.
            affine: of the other grid.
            axis: along which a part is asked for.
            places: on that axis.
        """
        assert self.affine is not None
        assert affine is not None
        between = np.linalg.inv(affine) @ self.affine  # from voxels here to voxels there
        order = sorted(range(len(self.shape)), key=lambda k: k != axis)  # the part first: then there is less to do
        for k in order:
            here = np.array(places if k == axis else range(self.shape[k]), dtype=np.float64)
            there = np.clip(between[k, k] * here + between[k, 3], 0, values.shape[k + 1] - 1)
            low = torch.from_numpy(np.floor(there).astype(np.int64)).to(values.device)
            share = torch.from_numpy(there).to(values.device) - low
            share = share.to(values.dtype).reshape(-1, *[1] * (values.dim() - k - 2))
            high = (low + 1).clamp(max=values.shape[k + 1] - 1)
            values = torch.lerp(values.index_select(k + 1, low), values.index_select(k + 1, high), share)
        return values
