"""Sums of coefficients times products of widths, and how many of them are evaluated at once.

A **width** is how many units of a vector a plan keeps: the output channels of one layer, the joined channels of a
concat. Every size in a network is a product of widths and constants, so costs are polynomials in widths with integer
coefficients.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ranp.graph.flow import Ints
from ranp.graph.graph import Graph, Mask


@dataclass(frozen=True)
class Polynomial:
    """An integer polynomial: ascending numbers of widths, repeated for powers -> coefficient.

    >>> x, y = Polynomial({(1,): 1}), Polynomial({(2,): 1})
    >>> ((x + 1) * y * 3).terms
    {(1, 2): 3, (2,): 3}
    """

    terms: dict[tuple[int, ...], int] = field(default_factory=dict)

    def __add__(self, other: "Polynomial | int") -> "Polynomial":
        terms = Counter(self.terms)
        for key, value in as_polynomial(other).terms.items():
            terms[key] += value
        return Polynomial(dict(terms))

    def __mul__(self, other: "Polynomial | int") -> "Polynomial":
        terms: Counter[tuple[int, ...]] = Counter()
        for a, first in self.terms.items():
            for b, second in as_polynomial(other).terms.items():
                terms[tuple(sorted(a + b))] += first * second
        return Polynomial(dict(terms))


def as_polynomial(value: Polynomial | int) -> Polynomial:
    """Return a number as a polynomial without widths."""
    return value if isinstance(value, Polynomial) else Polynomial({(): value})


class Widths:
    """The widths polynomials speak of, each distinct one numbered once, from 1.

    Units that stand equally often in every vector are one **atom**: a width is then a linear function of how many units
    of each atom are kept.

    Args:
        graph: whose units are counted.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._vectors: list[Ints] = []
        self._others: list[tuple[int, Callable[[Mask], int]]] = []
        self._numbers: dict[bytes, int] = {}

    def of(self, units: Ints) -> Polynomial:
        """Return the width of a vector of units, in which negative ones always stay."""
        if (units < 0).all():
            return as_polynomial(units.size)
        key = np.sort(units, axis=None).tobytes()
        if key not in self._numbers:
            self._vectors.append(units.ravel())
            self._numbers[key] = len(self._vectors)
        return Polynomial({(self._numbers[key],): 1})

    def other(self, function: Callable[[Mask], int]) -> Polynomial:
        """Return a size that is no sum over units, evaluated by itself."""
        self._vectors.append(np.empty(0, dtype=np.int64))
        self._others.append((len(self._vectors), function))
        return Polynomial({(len(self._vectors),): 1})

    @property
    def summed(self) -> bool:
        """Whether every width is a sum over units."""
        return not self._others

    def compiled(self) -> Callable[[Mask], Ints]:
        """Return a function from a plan's mask (count,) to the widths by number; number 0 is 1."""
        atoms, count = self._atoms()
        sizes = np.maximum(np.bincount(atoms, minlength=count), 1)
        matrix = np.zeros((len(self._vectors) + 1, count), dtype=np.int64)
        constants = np.ones(len(self._vectors) + 1, dtype=np.int64)
        for number, units in enumerate(self._vectors, start=1):
            real = units[units >= 0]
            matrix[number] = np.bincount(atoms[real], minlength=count) // sizes
            constants[number] = units.size - real.size
        others = tuple(self._others)

        def evaluate(kept: Mask) -> Ints:
            values: Ints = matrix @ np.bincount(atoms[kept], minlength=count) + constants
            for number, function in others:
                values[number] = function(kept)
            return values

        return evaluate

    def _atoms(self) -> tuple[Ints, int]:
        """Return the atom of each unit and how many there are."""
        keys = np.zeros(self.graph.count, dtype=np.uint64)
        generator = np.random.default_rng(0)
        for units in self._vectors:
            key = generator.integers(1, 2**63, dtype=np.uint64)
            keys += key * np.bincount(units[units >= 0], minlength=self.graph.count).astype(np.uint64)
        distinct, atoms = np.unique(keys, return_inverse=True)
        return atoms.astype(np.int64), len(distinct)


class Evaluator:
    """Several polynomials, evaluated together.

    Args:
        polynomials: over the same widths.
    """

    def __init__(self, polynomials: Iterable[Polynomial]) -> None:
        terms_of = [polynomial.terms or {(): 0} for polynomial in polynomials]
        terms = [term for terms in terms_of for term in terms]
        self._starts = np.cumsum([0, *(len(terms) for terms in terms_of[:-1])])
        self._coefficients = np.array([value for terms in terms_of for value in terms.values()], dtype=np.int64)
        self._factors = padded(terms)

    def __call__(self, widths: Ints) -> NDArray[np.int64]:
        """Return the value of every polynomial at these widths, shape (numbers,), or at many, (numbers, n)."""
        coefficients = self._coefficients.reshape(-1, *(1,) * (widths.ndim - 1))
        products = coefficients * widths[self._factors].prod(axis=0)
        values: NDArray[np.int64] = np.add.reduceat(products, self._starts)
        return values


def padded(terms: Sequence[tuple[int, ...]]) -> Ints:
    """Return the numbers of each term's widths as columns of equal length, filled up with 0, the width that is 1."""
    longest = max(map(len, terms), default=0)
    filled = [(*term, *(0,) * (longest - len(term))) for term in terms]
    return np.array(filled, dtype=np.int64).reshape(len(terms), longest).T.copy()
