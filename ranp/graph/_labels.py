"""Union-find over integer labels, vectorised over whole channel vectors."""

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


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
        """Return the smallest-known representative of each label; what is no label stands for itself."""
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
