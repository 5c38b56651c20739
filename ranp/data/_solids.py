"""Solids, and the voxels or pixels that an object made of them fills.

A solid is a box, an ellipsoid, a cone (a cylinder is one, a tube a hollow one) or a ring, that is stretched, turned and
moved. Objects stand in coordinates of their own: x to the right, y up, z to the viewer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Form = Callable[[Array, Array], Mask]
"""What lies in a solid of half sizes 1: of coordinates (3, ...), and the thinnest that may be along each, (3,)."""

_TILT = 15.0  # degrees at most, out of upright
_SIZES = (0.65, 0.95)  # of an object, as shares of the patch
_THINNEST = 0.9  # half sizes, in voxels: more than half a voxel's diagonal, so that no turned plate has holes
_DEEPEST = 64  # places along the depth of a picture at which an object is looked for


@dataclass(frozen=True)
class Solid:
    """A part of an object, or a piece of one.

    Args:
        part: its place among the parts of the category.
        form: of half sizes 1.
        centre: (x, y, z).
        half: half its sizes along its own axes.
        turn: its own axes, the rows of a rotation.
    """

    part: int
    form: Form
    centre: tuple[float, float, float]
    half: tuple[float, float, float]
    turn: Array = field(default_factory=lambda: np.eye(3))


def box(u: Array, thinnest: Array) -> Mask:
    """A box."""
    inside: Mask = np.abs(u).max(axis=0) <= 1
    return inside


def ball(u: Array, thinnest: Array) -> Mask:
    """An ellipsoid."""
    inside: Mask = np.square(u).sum(axis=0) <= 1
    return inside


def dome(u: Array, thinnest: Array) -> Mask:
    """The upper half of an ellipsoid."""
    inside: Mask = ball(u, thinnest) & (u[1] >= 0)
    return inside


def cone(top: float = 1.0, wall: float = 1.0) -> Form:
    """A cone that stands upright.

    Args:
        top: its radius at the top, as a share of that at the bottom: 1 is a cylinder, 0 a point.
        wall: of a hollow one, as a share of the radius; 1 is solid.
    """

    def form(u: Array, thinnest: Array) -> Mask:
        radius = 1 + (max(top, thinnest[0]) - 1) * (u[1] + 1) / 2
        inner = radius - max(wall, 2 * thinnest[0])
        away = np.hypot(u[0], u[2])
        inside: Mask = (away <= radius) & ((away >= inner) | (wall >= 1)) & (np.abs(u[1]) <= 1)
        return inside

    return form


def ring(tube: float, *, arch: bool = False) -> Form:
    """A torus around its z axis.

    Args:
        tube: half the thickness of the tube, as a share of the outer radius.
        arch: only its upper half.
    """

    def form(u: Array, thinnest: Array) -> Mask:
        radius = min(max(tube, thinnest[0]), 0.5)
        across = (np.hypot(u[0], u[1]) - (1 - radius)) / radius
        inside: Mask = (np.square(across) + np.square(u[2]) <= 1) & ((u[1] >= 0) | (not arch))
        return inside

    return form


def voxels(solids: Sequence[Solid], size: Sequence[int], rng: np.random.Generator) -> NDArray[np.int64]:
    """Stand an object into a patch, at a random turn, size and place.

    Args:
        solids: later ones take what they share with earlier ones.
        size: (D, H, W), D away from the viewer and H down; or (H, W), seen from the front.
        rng: where the numbers come from.

    Returns:
        The part of every voxel whose centre lies in one, of every pixel the nearest, or -1: (*size).
    """
    pose = turned(0, 180 + rng.uniform(-_TILT, _TILT)) @ turned(2, rng.uniform(-_TILT, _TILT))
    pose = pose @ turned(1, rng.uniform(0, 360))  # half a turn about x: the patch's y is down, its z away
    centres = np.array([pose @ solid.centre for solid in solids])
    reach = np.array([np.abs(pose @ solid.turn.T) @ solid.half for solid in solids])
    low, extent = (centres - reach).min(axis=0), np.ptp([centres - reach, centres + reach], axis=(0, 1))
    flat = len(size) == 2
    sides = np.array([*size[::-1], np.inf][:3])  # of the patch, as (x, y, z)
    step = (extent / sides).max() / rng.uniform(*_SIZES)  # from voxel to voxel
    depth = int(np.clip(np.ceil(extent[2] / step), 1, _DEEPEST)) if flat else size[0]
    steps = np.array([step, step, extent[2] / depth if flat else step])
    shape = (depth, *size[-2:])
    room = np.array(shape[::-1]) * steps - extent
    origin = low - room * rng.uniform(size=3)  # the corner of the patch
    parts = np.full(shape, -1, dtype=np.int64)
    for solid, centre in zip(solids, centres, strict=True):
        _paint(parts, solid, solid.turn @ pose.T, centre - origin, steps)
    if not flat:
        return parts
    nearest = (parts >= 0).argmax(axis=0)[None]
    seen: NDArray[np.int64] = np.take_along_axis(parts, nearest, axis=0)[0]
    return seen


def _paint(parts: NDArray[np.int64], solid: Solid, axes: Array, centre: Array, steps: Array) -> None:
    """Enter a solid of these axes and centre into parts, (D, H, W); only the box around it is looked at."""
    thin = _THINNEST * steps.max()
    half = np.maximum(solid.half, thin)
    reach = np.abs(axes.T) @ half
    first = np.maximum(np.floor((centre - reach) / steps), 0).astype(int)
    last = np.minimum(np.ceil((centre + reach) / steps), parts.shape[::-1]).astype(int)
    if (first >= last).any():
        return
    x, y, z = ((np.arange(a, b) + 0.5) * step - c for a, b, step, c in zip(first, last, steps, centre, strict=True))
    # (3, D, H, W) of the box, in the solid's own axes
    u = axes[:, 0, None, None, None] * x + axes[:, 1, None, None, None] * y[:, None]
    u = (u + axes[:, 2, None, None, None] * z[:, None, None]) / half[:, None, None, None]
    window = parts[tuple(slice(a, b) for a, b in zip(first[::-1], last[::-1], strict=True))]
    window[solid.form(u, thin / half)] = solid.part


def turned(axis: int, degrees: float) -> Array:
    """Return the rotation about an axis of (x, y, z): x goes towards y, y towards z, z towards x."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    first, second = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(3)
    matrix[[first, second, first, second], [first, second, second, first]] = cosine, cosine, -sine, sine
    return matrix
