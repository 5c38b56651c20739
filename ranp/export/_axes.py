"""The sizes a file with dynamic axes may take: those along which the network does the same thing.

Such a file holds one path through the network's Python code (`ranp.surgery.paths`). The smallest step between sizes
that take it is what U-Nets call their divisor: 16 for four halvings.
"""

from ranp.errors import UnsupportedError, named
from ranp.surgery.paths import BATCH, STEPS, Axis, Paths, axes_of, resized


def free_axes(paths: Paths) -> list[Axis]:
    """Return the axes with the smallest step, a power of two, between sizes that take the example's path.

    Raises:
        UnsupportedError: no step up to 256 does.
    """
    return [_with_step(paths, axis) for axis in axes_of(paths.shapes)]


def _with_step(paths: Paths, axis: Axis) -> Axis:
    for step in STEPS:
        tried = (axis.size + times * step for times in (1, 2, 3))
        if all(paths.same(resized(paths.shapes, [(axis, size)])) for size in tried):
            return Axis(axis.name, axis.size, axis.places, step)
    raise UnsupportedError(
        f"{named('dynamic', True)}: what the network does changes with its {axis.name}, in steps of more than "
        f"{STEPS[-1]}: export it for one size, without {named('dynamic')}"
    )


__all__ = ["BATCH", "Axis", "Paths", "axes_of", "free_axes", "resized"]
