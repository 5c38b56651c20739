"""Peak memory as a function of the plan, without a network being built for each.

A step, or a forward, makes and frees the same storages in the same order whatever the widths; only their sizes change.
It is followed on the full network and on a few slim ones. The size of a storage is a product of widths and a constant,
found from its shape in these runs. What is alive at a moment is then a sum of such sizes, and the peak is the largest
of these sums over the moments of which no other holds all that they hold.

Slim networks are chosen until every two widths of the network differ in one of them by more than a factor, so that a
storage is never taken for another width's.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain, groupby
from math import gcd, lcm, prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ranp.cost._costs import CostFunction
from ranp.cost._tracker import BLOCK, Block, StorageTracker
from ranp.cost._training import Step, followed
from ranp.cost.polynomials import padded
from ranp.errors import UnsupportedError
from ranp.figures import share
from ranp.graph.constraints import random_plan
from ranp.graph.flow import Ints
from ranp.graph.graph import Graph, Mask
from ranp.graph.resize import resized
from ranp.inputs import Inputs
from ranp.modules import copy_with

CANDIDATES = 64  # plans that tell widths apart, of which few are followed
LEAST = 2  # that are followed in any case
Ratio = tuple[int, ...]
"""A size in each run, divided by what all have in common: equal for two sizes of which one is a multiple."""


@dataclass(frozen=True)
class Peak:
    """The most bytes that are alive at once.

    Args:
        numerators: of the constant of each kind of storage, in bytes, shape (kinds,).
        denominators: of the same.
        factors: numbers of the widths of each kind, filled up with 0, the width that is 1, shape (longest, kinds).
        moments: how many storages of each kind are alive at a moment, shape (moments, kinds).
        phases: of the step, that each moment falls into.
        made: the same by kind and what made them, shape (moments, makers).
        makers: the kind and what made it, in words, of each column of that.
        scale: what the bytes are multiplied by: measured by predicted.
    """

    numerators: Ints
    denominators: Ints
    factors: Ints
    moments: NDArray[np.float64]
    phases: tuple[str, ...]
    made: Ints
    makers: tuple[tuple[int, str], ...]
    scale: float = 1.0

    @classmethod
    def of(cls, graph: Graph, price: CostFunction, model: nn.Module, inputs: Inputs, step: Step | None) -> "Peak":
        """Follow a network and slim ones.

        Args:
            graph: of the network.
            price: whose widths are spoken of.
            model: the network; it is untouched.
            inputs: that the graph was traced with.
            step: of a training; None for a forward in evaluation mode.

        Raises:
            UnsupportedError: it can't be followed without data, or does something else at other widths.
        """
        model = copy_with(model, lambda _, tensor: torch.empty_like(tensor, device="meta"))
        plans = _telling(graph, price)
        runs = [_Run.of(followed(resized(graph, model, kept), inputs, step)) for kept in plans]
        for run in runs[1:]:
            if run.changes != runs[0].changes:
                pairs = zip(runs[0].changes, run.changes, strict=False)
                place = next((abs(own) for own, other in pairs if own != other), 1)
                raise UnsupportedError(
                    f"{runs[0].blocks[place - 1].where or 'the top'}: at other widths it makes other tensors than in "
                    "the full network, so that its memory can't be predicted"
                )
        kinds = _Kinds(np.array([price.widths(kept) for kept in plans]).T)
        of_block = [kinds.of(sizes) for sizes in zip(*(run.blocks for run in runs), strict=True)]
        constants, factors = zip(*kinds.known, strict=True)
        kind_of = np.array([kind for kind, _ in kinds.makers])
        made, phases = runs[0].moments(of_block, kind_of)
        moments = made @ np.equal.outer(kind_of, np.arange(len(constants)))
        return cls(
            np.array([each.numerator for each in constants], dtype=np.int64),
            np.array([each.denominator for each in constants], dtype=np.int64),
            padded(factors), moments.astype(np.float64), phases, made, tuple(kinds.makers),
        )  # fmt: skip

    def __call__(self, widths: Ints) -> Ints:
        """Return the peak at these widths, shape (numbers,), or at many, (numbers, n); shape () or (n,)."""
        if widths.ndim == 1:
            return np.asarray(self._taken(widths).max(axis=0))
        above = self._taken(widths.max(axis=1))  # of widths that none is above, so that no moment takes more anywhere
        most = self._taken(widths, np.array([above.argmax()]))[0]
        near = np.flatnonzero(above >= most.min())
        return np.asarray(self._taken(widths, near).max(axis=0) if len(near) else most)

    def at(self, widths: Ints) -> int:
        """Return the number of the moment that the peak of these widths, (numbers,), falls into."""
        return int(self._taken(widths).argmax())

    def place(self, widths: Ints) -> str:
        """Say what takes most of the peak of these widths, (numbers,), and when that is."""
        moment, blocks = self.at(widths), self._blocks(widths).tolist()
        taken = Counter[str]()
        for (kind, maker), storages in zip(self.makers, self.made[moment].tolist(), strict=True):
            taken[maker] += storages * blocks[kind]
        (maker, most), *_ = taken.most_common(1)
        return f"of which {maker} takes {share(most / taken.total())} when it is most, in the {self.phases[moment]}"

    def terms(self, moment: int) -> dict[tuple[int, ...], float]:
        """Return what is alive at a moment as a polynomial in widths: no more than there is, as storages round up."""
        terms: Counter[tuple[int, ...]] = Counter()
        for kind in np.flatnonzero(self.moments[moment]).tolist():
            key = tuple(sorted(number for number in self.factors[:, kind].tolist() if number))
            constant = self.numerators[kind] / self.denominators[kind]
            terms[key] += self.moments[moment, kind] * float(constant) * self.scale
        return dict(terms)

    def scaled(self, factor: float) -> "Peak":
        """Return the same with all multiplied by a factor."""
        return replace(self, scale=self.scale * factor)

    def _taken(self, widths: Ints, moments: Ints | slice = slice(None)) -> Ints:
        """Return the bytes that are alive at each of some moments, (moments,) or (moments, n)."""
        taken = self.moments[moments] @ self._blocks(widths).astype(
            np.float64
        )  # float64 is exact for whole numbers below 2**53
        return np.asarray(np.ceil(taken * (BLOCK * self.scale)), dtype=np.int64)

    def _blocks(self, widths: Ints) -> Ints:
        """Return the blocks that a storage of each kind takes, (kinds,) or (kinds, n)."""
        shape = (-1, *(1,) * (widths.ndim - 1))
        sizes = self.numerators.reshape(shape) * widths[self.factors].prod(axis=0) // self.denominators.reshape(shape)
        return np.asarray(-(-sizes // BLOCK))


def _telling(graph: Graph, price: CostFunction) -> list[Mask]:
    """Return the full plan and a few that tell all widths apart."""
    generator = np.random.default_rng(0)
    plans = [np.ones(graph.count, dtype=bool)]
    plans += [random_plan(graph, generator.uniform(0.1, 0.9, len(graph.groups)), generator) for _ in range(CANDIDATES)]
    widths = np.array([price.widths(kept) for kept in plans]).T  # (numbers, plans)
    chosen = [0]

    def told(some: list[int]) -> int:
        return len({_ratio(row) for row in widths[:, some].tolist()})

    whole = told(list(range(len(plans))))
    while len(chosen) <= LEAST or told(chosen) < whole:
        others = [number for number in range(1, len(plans)) if number not in chosen]
        chosen.append(max(others, key=lambda number: told([*chosen, number])))
    return [plans[number] for number in chosen]


def _ratio(sizes: Iterable[int]) -> Ratio:
    sizes = tuple(sizes)
    common = gcd(*sizes)
    return tuple(size // common for size in sizes) if common else sizes


@dataclass(frozen=True)
class _Run:
    """What was alive when.

    Args:
        blocks: all, those first that were there at the beginning.
        changes: the place of a block in `blocks`, from 1, where it appears, and minus that where it goes.
    """

    blocks: list[Block]
    changes: tuple[int, ...]

    @classmethod
    def of(cls, tracker: StorageTracker) -> "_Run":
        places = {block: place for place, block in enumerate(tracker.first, start=1)}
        changes = list(places.values())
        for change, block in tracker.events:
            changes.append(change * places.setdefault(block, len(places) + 1))
        while changes and changes[-1] < 0:  # what goes when all is over
            changes.pop()
        batches = [list(batch) for _, batch in groupby(changes, lambda change: change < 0)]
        for batch in batches:
            batch.sort(key=abs)  # autocast's cache goes in the order of addresses
        return cls(list(places), tuple(chain.from_iterable(batches)))

    def moments(self, makers: Sequence[int], kinds: Ints) -> tuple[Ints, tuple[str, ...]]:
        """Return the moments that no other holds all of, and their phases.

        Args:
            makers: of each block, the number of its kind and what made it.
            kinds: of each of these numbers.

        Returns:
            How many blocks of each number are alive, shape (moments, numbers); another moment holds all that one does
            where it holds as many of every kind, whatever made them.
        """
        made, alive = np.zeros(len(kinds), dtype=np.int64), np.zeros(kinds.max(initial=-1) + 1, dtype=np.int32)
        rows: dict[bytes, tuple[NDArray[np.int32], Ints, str]] = {}
        for change, following in zip(self.changes, (*self.changes[1:], -1), strict=True):
            maker, sign = makers[abs(change) - 1], 1 if change > 0 else -1
            made[maker] += sign
            alive[kinds[maker]] += sign
            if change > 0 > following and alive.tobytes() not in rows:
                rows[alive.tobytes()] = (alive.copy(), made.copy(), self.blocks[change - 1].phase)
        kept = np.empty((len(rows), len(alive)), dtype=np.int32)
        chosen: list[tuple[Ints, str]] = []
        for row, by_maker, phase in sorted(rows.values(), key=lambda row: -int(row[0].sum())):
            if not (kept[: len(chosen)] >= row).all(axis=1).any():
                kept[len(chosen)] = row
                chosen.append((by_maker, phase))
        return np.array([by_maker for by_maker, _ in chosen]), tuple(phase for _, phase in chosen)


class _Kinds:
    """The kinds of storages: constants and the widths they are multiplied by; and what made them.

    Args:
        widths: in each run, by number, shape (numbers, runs).
    """

    def __init__(self, widths: Ints) -> None:
        self.widths: list[list[int]] = widths.tolist()
        self.known: dict[tuple[Fraction, tuple[int, ...]], int] = {}
        self.makers: dict[tuple[int, str], int] = {}
        self._numbers: dict[Ratio, int] = {}
        for number, row in enumerate(self.widths):
            self._numbers.setdefault(_ratio(row), number)

    def of(self, blocks: Sequence[Block]) -> int:
        """Return the number of the kind of a storage, of which every run has one, and of what made it.

        Raises:
            UnsupportedError: its size is no product of widths.
        """
        sizes = [block.bytes for block in blocks]
        factors: tuple[int, ...] | None = ()
        if any(sizes):
            factors = self._from_shapes([block.shape for block in blocks])
            if factors is None or not self._explains(factors, sizes):
                factors = self._from_sizes(sizes)
        if factors is None:
            where = blocks[0].where or "the top"
            raise UnsupportedError(
                f"{where}: how the size of a tensor {list(blocks[0].shape)} follows from widths is not known"
            )
        constant = Fraction(sizes[0], prod(self.widths[number][0] for number in factors))
        maker = blocks[0].where or ("the loss" if blocks[0].phase == "loss" else blocks[0].part) or "the top"
        kind = self.known.setdefault((constant, factors), len(self.known))
        return self.makers.setdefault((kind, maker), len(self.makers))

    def _from_shapes(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...] | None:
        if len({len(shape) for shape in shapes}) > 1:
            return None
        numbers = [self._numbers.get(_ratio(sizes)) for sizes in zip(*shapes, strict=True)]
        known = [number for number in numbers if number is not None]
        return tuple(sorted(number for number in known if number)) if len(known) == len(numbers) else None

    def _explains(self, factors: tuple[int, ...], sizes: Sequence[int]) -> bool:
        products = [prod(self.widths[number][run] for number in factors) for run in range(len(sizes))]
        return _ratio(sizes) == _ratio(products)

    def _from_sizes(self, sizes: Sequence[int]) -> tuple[int, ...] | None:
        """Return one width, or two, whose product the sizes are; none for a size that never changes."""
        number = self._numbers.get(_ratio(sizes))
        if number is not None:
            return (number,) if number else ()
        for first, row in enumerate(self.widths):
            shares = [Fraction(size, width) for size, width in zip(sizes, row, strict=True)]
            common = lcm(*(share.denominator for share in shares))
            second = self._numbers.get(_ratio(int(share * common) for share in shares))
            if second is not None:
                return (first, second)
        return None
