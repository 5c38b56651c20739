"""Union-find over integer labels, vectorised over whole channel vectors.

A label stands for one index of one dimension of one parameter. Two values are no labels: `FIXED` marks an index that
can never go (an image channel, a voxel), `FREE` one that follows whatever it meets (a tensor of zeros made in the
forward).
"""

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

FREE = -1
FIXED = -2

Ints = NDArray[np.int64]
Entry = TypeVar("Entry", np.int64, np.bool_)


def look_up(table: NDArray[Entry], numbers: Ints, otherwise: Any = None) -> NDArray[Entry]:
    """Return the entry of a table for each label or unit; what is none has another one, or by default stays as it is.

    >>> look_up(np.array([False, True]), np.array([1, FREE, 0]), True).tolist()
    [True, True, False]
    """
    real = numbers >= 0
    entries = np.array(numbers if otherwise is None else np.full(numbers.shape, otherwise), dtype=table.dtype)
    entries[real] = table[numbers[real]]
    return entries


class Labels:
    """Disjoint sets of labels.

    >>> labels = Labels()
    >>> a, b = labels.new(3), labels.new(3)
    >>> labels.tie(a, b)
    >>> labels.find(b).tolist()
    [0, 1, 2]
    """

    def __init__(self, count: int = 0) -> None:
        self._parent: Ints = np.arange(max(count, 1024))
        self.count = count

    def copy(self) -> "Labels":
        """Return the same sets, to be changed apart."""
        other = Labels()
        other._parent, other.count = self._parent.copy(), self.count
        return other

    def new(self, count: int) -> Ints:
        """Return `count` fresh labels."""
        start, self.count = self.count, self.count + count
        if self.count > len(self._parent):
            grown = np.arange(max(2 * len(self._parent), self.count))
            grown[:start] = self._parent[:start]
            self._parent = grown
        return np.arange(start, self.count)

    def find(self, labels: Ints) -> Ints:
        """Return the smallest-known representative of each label; FREE and FIXED stand for themselves."""
        real = labels >= 0
        if not real.all():
            found = labels.copy()
            found[real] = self.find(labels[real])
            return found
        root = self._parent[labels]
        while True:
            above = self._parent[root]
            if np.array_equal(above, root):
                break
            root = above
        self._parent[labels] = root
        return root

    def tie(self, a: Ints, b: Ints) -> None:
        """Put `a[i]` and `b[i]` into one set, for each i; both hold labels only."""
        while True:
            first, second = self.find(a), self.find(b)
            differ = first != second
            if not differ.any():
                return
            first, second = first[differ], second[differ]
            np.minimum.at(self._parent, np.maximum(first, second), np.minimum(first, second))

    def roots(self) -> Ints:
        """Return the representative of every label ever made, shape (count,)."""
        return self.find(np.arange(self.count))
