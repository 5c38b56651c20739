"""The edges of a grid: tables of steps, opposite steps adjacent, so that `r ^ 1` is the opposite of direction `r`.

Message `r` of a node comes from the node one step `r` before it. Smaller tables are prefixes of larger ones. The two-
dimensional order is the one of Xu, Ajanthan, Vineet and Hartley, "Fast and Differentiable Message Passing on Pairwise
Markov Random Fields" (2020, https://arxiv.org/abs/1910.10892); the order matters to TRWP, which visits the directions
in sequence. The three-dimensional table goes beyond that paper.
"""

from itertools import product

from ranp.errors import UsageError, named

Step = tuple[int, ...]


def _with_opposites(steps: list[Step]) -> tuple[Step, ...]:
    return tuple(signed for step in steps for signed in (step, tuple(-entry for entry in step)))


def _lexicographic(entries: int) -> list[Step]:
    """Return the steps of {-1, 0, 1}^3 with so many non-zero entries, the first of them positive, in order."""
    steps = [step for step in product((-1, 0, 1), repeat=3) if sum(map(abs, step)) == entries]
    return [step for step in steps if next(entry for entry in step if entry) > 0]


PLANE = _with_opposites([(0, 1), (1, 0), (1, 1), (1, -1), (1, 2), (2, 1), (2, -1), (1, -2)])
"""(dh, dw) of the 16 directions of an image; 4 and 8 are prefixes."""

VOLUME = _with_opposites([(0, 0, 1), (0, 1, 0), (1, 0, 0), *_lexicographic(2), *_lexicographic(3)])
"""(dd, dh, dw) of the 26 directions of a volume; 6 and 18 are prefixes."""

_TABLES = {2: (PLANE, (4, 8, 16)), 3: (VOLUME, (6, 18, 26))}


def steps(directions: int, dims: int) -> tuple[Step, ...]:
    """Return the table of so many directions on a grid of 2 or 3 dimensions.

    >>> steps(4, dims=2)
    ((0, 1), (0, -1), (1, 0), (-1, 0))

    Raises:
        UsageError: the number is not in the table, or the grid is neither 2D nor 3D.
    """
    if dims not in _TABLES:
        raise UsageError(f"expected a grid of 2 or 3 dimensions, got {dims}")
    table, sizes = _TABLES[dims]
    if not isinstance(directions, int) or directions not in sizes:
        closest = min(sizes, key=lambda size: abs(size - directions)) if isinstance(directions, int) else sizes[0]
        known = ", ".join(map(str, sizes))
        raise UsageError(f"{named('directions', directions)}: expected {known} in {dims}D; the nearest is {closest}")
    return table[:directions]
