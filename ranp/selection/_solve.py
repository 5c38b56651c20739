"""Plans under limits: the threshold of a ranking, a greedy search, an exact program.

`threshold` moves the rule's own threshold: one step up breaks a limit. `greedy` starts from everything and takes away
what loses least value for each unit of excess over the limits, then adds back what still fits and exchanges steps.
`exact` is a mixed integer program (HiGHS through scipy): one binary for each choice of each variable, and since costs
are sums of products of two widths, one share for each pair of choices of two variables that meet in a cost. These
shares have the choices as their row and column sums, which makes products linear (the transport polytope).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from ranp import cost
from ranp.errors import UnsupportedError, named
from ranp.graph.flow import Ints
from ranp.graph.graph import Mask
from ranp.selection._limits import FIGURES, Limits
from ranp.selection._space import Space

Floats = NDArray[np.float64]
GRID, LEAST_GRID = 12, 4  # choices of one variable in the program; greedy goes on to single units
SHARES = 5000  # pairs of choices in the program, about
NODES = 200  # of branch and bound: a count, so that every machine finds the same
ROUNDS = 60  # of exchanges
CUTS = 6  # programs that are solved until a choice holds its limits
GAP = 1e-3
TOLERANCE = 1e-6  # of the solver's rows


def threshold(steps: int, at: Callable[[int], Mask], limits: Limits) -> int:
    """Return a step of a ranking that holds all limits, of which the next one breaks one, or the last."""
    low, high = 0, steps + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if limits.hold(at(middle)) else (low, middle)
    return low


@dataclass
class Search:
    """Choices of a space, priced together.

    Args:
        space: of plans.
        limits: that all hold for the base.
    """

    space: Space
    limits: Limits
    start: Ints = field(init=False)
    added: list[Ints] = field(init=False)
    top: Ints = field(init=False)

    def __post_init__(self) -> None:
        if not self.limits.price.summed:
            raise UnsupportedError(
                f"{named('solver')}: a size of this network is no sum over its channels; "
                f"{named('solver', 'threshold')} takes it"
            )
        self.start, self.added = self.space.widths(self.limits.price.widths)
        self.top = np.array([len(chain) for chain in self.space.steps], dtype=np.int64)
        self._evaluate, self._most = self.limits.evaluator(), self.limits.most

    def value(self, choice: Ints) -> float:
        """Return what a choice keeps beside the base."""
        return float(sum(values[taken] for values, taken in zip(self.space.values, choice.tolist(), strict=True)))

    def widths(self, choice: Ints) -> Ints:
        """Return the widths of a choice, shape (numbers,)."""
        return self.start + sum(
            (rows[taken] for rows, taken in zip(self.added, choice.tolist(), strict=True)), np.zeros_like(self.start)
        )

    def holds(self, widths: Ints) -> NDArray[np.bool_]:
        """Whether widths, (numbers, n), are within all limits, shape (n,)."""
        return np.asarray((self._evaluate(widths) <= self._most[:, None]).all(axis=0))

    def excess(self, widths: Ints) -> Floats:
        """Return by how much of themselves limits are exceeded, in all, of widths (numbers, n)."""
        over = self._evaluate(widths) / np.maximum(self._most, 1)[:, None] - 1
        return np.asarray(np.maximum(over, 0).sum(axis=0))

    def _moves(self, choice: Ints, sign: int) -> tuple[Ints, Ints, Floats, Ints]:
        """Return steps up or down: variable, size, change of value, and change of widths (numbers, moves)."""
        moves = [
            (v, size)
            for v, (taken, top) in enumerate(zip(choice.tolist(), self.top.tolist(), strict=True))
            for size in sorted({1, max(top // 32, 1), max(top // 8, 1)})
            if 0 <= taken + sign * size <= top
        ]
        which, sizes = np.array(moves, dtype=np.int64).reshape(-1, 2).T
        after = choice[which] + sign * sizes
        values = [self.space.values[v][b] - self.space.values[v][choice[v]] for v, b in zip(which, after, strict=True)]
        change = [self.added[v][b] - self.added[v][choice[v]] for v, b in zip(which, after, strict=True)]
        return which, sizes, np.array(values), np.array(change, dtype=np.int64).reshape(-1, len(self.start)).T

    def greedy(self, starts: list[Ints]) -> Ints:
        """Return the best of what is reached from everything, and from some choices that hold."""
        found = [self.polished(self._lowered()), *(self.polished(each) for each in starts)]
        return max(found, key=self.value)

    def _lowered(self) -> Ints:
        """Take away, from everything, what loses least for the excess that goes with it."""
        choice = self.top.copy()
        while True:
            now = self.widths(choice)[:, None]
            excess = float(self.excess(now)[0])
            if excess == 0:
                return choice
            which, sizes, values, change = self._moves(choice, -1)
            gained = excess - self.excess(now + change)
            ratio = np.where(gained > 0, -values / np.maximum(gained, 1e-300), np.inf)
            best = int(ratio.argmin()) if np.isfinite(ratio).any() else int((-values).argmin())
            choice[which[best]] -= sizes[best]

    def polished(self, choice: Ints) -> Ints:
        """Add back what fits, then exchange a step down for steps up while that keeps more; a choice that holds."""
        choice = self._raised(choice.copy())
        for _ in range(ROUNDS):
            better = self._exchanged(choice)
            if better is None:
                return choice
            choice = better
        return choice

    def _raised(self, choice: Ints) -> Ints:
        while True:
            which, sizes, values, change = self._moves(choice, 1)
            if not len(which):
                return choice
            now = self.widths(choice)[:, None]
            fits = self.holds(now + change)
            if not fits.any():
                return choice
            used = ((self._evaluate(now + change) - self._evaluate(now)) / np.maximum(self._most, 1)[:, None]).max(
                axis=0
            )
            ratio = np.where(fits, values / np.maximum(used, 1e-12), -np.inf)
            best = int(ratio.argmax())
            choice[which[best]] += sizes[best]

    def _exchanged(self, choice: Ints) -> Ints | None:
        """Return a choice that keeps more: one variable gives a step, and others take what then fits."""
        value, now = self.value(choice), self.widths(choice)[:, None]
        downs, (which, sizes, gains, change) = self._moves(choice, -1), self._moves(choice, 1)
        for move in np.argsort(-downs[2], kind="stable")[: len(self.top)].tolist():
            loss, given = -float(downs[2][move]), int(downs[0][move])
            worth = np.flatnonzero((which != given) & (gains > loss / 2))  # one step, or what it leaves room for too
            if not len(worth):
                continue
            fits = self.holds(now + downs[3][:, [move]] + change[:, worth])
            if not fits.any():
                continue
            best = worth[np.where(fits, gains[worth], -np.inf).argmax()]
            other = choice.copy()
            other[given] -= downs[1][move]
            other[which[best]] += sizes[best]
            other = self._raised(other)
            if self.value(other) > value + 1e-9 * max(value, 1e-300):
                return other
        return None

    def exact(self, start: Ints) -> tuple[Ints, float]:
        """Return the best choice on a grid of widths, gone on from to single units, and how far it may be from that.

        Args:
            start: a choice that holds, which is on the grid.

        Returns:
            The choice, and the share by which the best on the grid may keep more.

        Raises:
            UnsupportedError: a cost is a product of more than two widths.
        """
        cuts = _Cuts(self)
        limit = GRID
        grids = [np.array([0, int(top)]) for top in self.top]
        meetings = len(_Program.of(self, cuts, grids).values) - 2 * len(grids)  # four shares for each pair that meets
        if meetings:
            limit = min(max(int((4 * SHARES / meetings) ** 0.5), LEAST_GRID), GRID)
        grids = [_grid(int(top), int(taken), limit) for top, taken in zip(self.top, start, strict=True)]
        cuts.add(start)
        best, bound = start, np.inf
        for _ in range(CUTS):
            found = _Program.of(self, cuts, grids).solved()
            if found is None:
                break
            bound = bound if cuts.tightened else min(bound, found[1])
            if self.holds(self.widths(found[0])[:, None])[0]:
                best = max((found[0], start), key=self.value)
                break
            if not cuts.add(found[0]):  # a limit missed by the solver's tolerance
                break
        best = max((self.polished(best), start), key=self.value)
        kept = self.value(best)
        gap = max(0.0, (bound - kept) / bound) if np.isfinite(bound) and bound > 0 else (0.0 if bound == 0 else 1.0)
        return best, gap


def _grid(top: int, taken: int, limit: int) -> Ints:
    """Return some choices of a variable: all of few, of many more of the narrow ones, and those about a start."""
    if top < limit:
        return np.arange(top + 1)
    spread = np.geomspace(1, top + 1, max(limit - 3, 2)).round().astype(np.int64) - 1
    near = np.clip([taken - 1, taken, taken + 1], 0, top)
    return np.unique([*spread.tolist(), *near.tolist()])


class _Cuts:
    """The rows of a program: polynomials in widths, and the most that each may be.

    A limit of memory at its peak is one row for each moment; the moments that some choice has its peak in are enough,
    and are found one after another. Storages round up to whole blocks, which a row knows nothing of: where a choice
    holds all rows and not the limit, its row gets less room, by what rounding took.
    """

    def __init__(self, search: Search) -> None:
        self.search, self.limits, self.tightened = search, search.limits, False
        self.rows: list[tuple[Floats, float]] = []
        self._places: dict[tuple[str, int], int] = {}
        numbers = len(search.start)
        for name, most in self.limits.bounds.items():
            if name in FIGURES:
                self.rows.append((_form(self.limits.price.totals[FIGURES[name]].terms, numbers), most + 0.5))
            elif not isinstance(self.limits.price.meters[name], cost.Peak):
                raise UnsupportedError(
                    f"{named('solver', 'exact')}: {named(name, self.limits.asked[name])} is measured, and no product "
                    f"of widths; {named('solver', 'greedy')} takes it"
                )
        for choice in (np.zeros_like(search.top), search.top):
            self.add(choice)

    def add(self, choice: Ints) -> bool:
        """Add the moments that a choice has its peaks in, or leave less room in theirs; whether there were any."""
        widths, added = self.search.widths(choice), False
        for name, most in self.limits.bounds.items():
            peak = self.limits.price.meters.get(name)
            if not isinstance(peak, cost.Peak):
                continue
            moment = peak.at(widths)
            if (name, moment) not in self._places:
                self._places[name, moment] = len(self.rows)
                self.rows.append((_form(peak.terms(moment), len(self.search.start)), float(most)))
                added = True
                continue
            place = self._places[name, moment]
            form, room = self.rows[place]
            value = float(widths @ form @ widths) / 2
            if value <= room * (1 + TOLERANCE) and int(peak(widths)) > most:
                self.rows[place] = form, min(room, value) - (int(peak(widths)) - most)
                self.tightened = added = True
        return added


@dataclass
class _Program:
    """The mixed integer program of a search: its columns are choices, then pairs of choices."""

    grids: list[Ints]
    values: Floats
    rows: list[tuple[Ints, Floats, float, float]]
    firsts: Ints

    @classmethod
    def of(cls, search: Search, cuts: _Cuts, grids: list[Ints]) -> "_Program":
        sizes = [len(grid) for grid in grids]
        firsts = np.cumsum([0, *sizes])
        added = [rows[grid].astype(np.float64) for rows, grid in zip(search.added, grids, strict=True)]
        values = np.concatenate(
            [each[grid] for each, grid in zip(search.space.values, grids, strict=True)] or [np.zeros(0)]
        )
        rows = [(np.arange(a, b), np.ones(b - a), 1.0, 1.0) for a, b in pairwise(firsts.tolist())]
        forms = [form for form, _ in cuts.rows]
        start = search.start.astype(np.float64)
        pairs: dict[tuple[int, int], int] = {}
        count = int(firsts[-1])
        for a in range(len(grids)):
            for b in range(a + 1, len(grids)):
                if any((added[a] @ form @ added[b].T).any() for form in forms):
                    pairs[a, b] = count
                    count += sizes[a] * sizes[b]
        for (a, b), first in pairs.items():
            shares = first + np.arange(sizes[a] * sizes[b]).reshape(sizes[a], sizes[b])
            for own, other in ((firsts[a] + np.arange(sizes[a]), shares), (firsts[b] + np.arange(sizes[b]), shares.T)):
                for column, line in zip(own, other, strict=True):
                    rows.append((np.append(line, column), np.append(np.ones(len(line)), -1.0), 0.0, 0.0))
        for form, most in cuts.rows:
            half = form / 2
            columns = [np.arange(firsts[-1])]
            weights = [
                np.concatenate(
                    [((part @ half) * part).sum(axis=1) + part @ (form @ start) for part in added] or [np.zeros(0)]
                )
            ]
            for (a, b), first in pairs.items():
                columns.append(first + np.arange(sizes[a] * sizes[b]))
                weights.append((added[a] @ form @ added[b].T).ravel())
            room = most - float(start @ half @ start)
            scale = max(most, 1.0)
            rows.append((np.concatenate(columns), np.concatenate(weights) / scale, -np.inf, room / scale))
        return cls(grids, np.concatenate([values, np.zeros(count - len(values))]), rows, firsts)

    def solved(self) -> tuple[Ints, float] | None:
        """Return the choice and an upper bound of every choice's value on the grid; None where none was met."""
        at = np.repeat(np.arange(len(self.rows)), [len(columns) for columns, *_ in self.rows])
        columns = np.concatenate([columns for columns, *_ in self.rows])
        weights = np.concatenate([weights for _, weights, *_ in self.rows])
        matrix = coo_array((weights, (at, columns)), shape=(len(self.rows), len(self.values))).tocsr()
        low, high = (np.array([row[place] for row in self.rows]) for place in (2, 3))
        whole = np.arange(len(self.values)) < self.firsts[-1]
        scale = max(float(self.values.max(initial=0.0)), 1e-300)
        result = milp(
            -self.values / scale, constraints=LinearConstraint(matrix, low, high), integrality=whole.astype(np.int64),
            bounds=Bounds(0, 1), options={"mip_rel_gap": GAP, "node_limit": NODES},
        )  # fmt: skip
        if result.x is None:
            return None
        ends = zip(self.firsts[:-1], self.firsts[1:], self.grids, strict=True)
        choice = np.array([grid[int(result.x[a:b].argmax())] for a, b, grid in ends], dtype=np.int64)
        return choice, -float(result.mip_dual_bound) * scale


def _form(terms: Mapping[tuple[int, ...], float], numbers: int) -> Floats:
    """Return a polynomial's symmetric form: half of w' F w is its value, where width 0 is 1."""
    form = np.zeros((numbers, numbers))
    for factors, coefficient in terms.items():
        if len(factors) > 2:
            raise UnsupportedError(
                f"{named('solver', 'exact')}: a cost of this network is a product of {len(factors)} widths; "
                f"{named('solver', 'greedy')} takes it"
            )
        a, b = (*factors, 0, 0)[:2]
        form[a, b] += coefficient
        form[b, a] += coefficient
    return form
