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

    def __init__(self) -> None:
        self._parent: Ints = np.arange(1024)
        self.count = 0

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
            if (above == root).all():
                break
            root = above
        self._parent[labels] = root
        return root

    def alike(self, a: int, b: int) -> bool:
        """Whether two labels, or what is none, are of one set."""
        return a == b or (min(a, b) >= 0 and self._root(a) == self._root(b))

    def _root(self, label: int) -> int:
        while (above := int(self._parent[label])) != label:
            label = above
        return label

    def tie(self, a: Ints, b: Ints) -> None:
        """Put `a[i]` and `b[i]` into one set, for each i; both hold labels only."""
        while True:
            first, second = self.find(a), self.find(b)
            differ = first != second
            if not differ.any():
                return
            first, second = first[differ], second[differ]
            high, low = np.maximum(first, second), np.minimum(first, second)
            np.minimum.at(self._parent, high, low)
            if (self._parent[high] == low).all():
                return  # else one is tied to several, and those are not yet tied to one another

    def roots(self) -> Ints:
        """Return the representative of every label ever made, shape (count,)."""
        return self.find(np.arange(self.count))
