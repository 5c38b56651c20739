"""Limits of what a slim network may cost, as polynomials in its widths."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranp import cost
from ranp.cost.polynomials import Evaluator, Polynomial
from ranp.errors import InfeasibleError, named
from ranp.figures import operations, share, size
from ranp.graph.graph import Graph, Mask
from ranp.options import amount_of

FIGURES = {"params": "params", "flops": "flops", "activations": "memory_bytes"}
"""The figure of `cost.Costs` that each limit is of."""


def spelled(name: str, value: int) -> str:
    """Write a cost in the unit of its limit."""
    return size(value) if name == "activations" else operations(value)


@dataclass(frozen=True)
class Limits:
    """The limits of one choice.

    Args:
        graph: of the network.
        asked: each limit as it was written, by name.
        bounds: the most that each lets a network cost, by name.
        full: what the full network costs, by name.
        price: the costs of a plan.
        rows: one polynomial for each limit, in the order of `bounds`.
    """

    graph: Graph
    asked: Mapping[str, str]
    bounds: Mapping[str, int]
    full: Mapping[str, int]
    price: cost.CostFunction
    rows: tuple[Polynomial, ...]

    @classmethod
    def of(cls, graph: Graph, asked: Mapping[str, str]) -> "Limits":
        """Price a network in the standard convention."""
        price = cost.compile(graph)
        whole = price(np.ones(graph.count, dtype=bool)).to_dict()
        full = {name: whole[FIGURES[name]] for name in asked}
        bounds = {name: amount_of(name, amount, full[name]) for name, amount in asked.items()}
        return cls(graph, asked, bounds, full, price, tuple(price.totals[FIGURES[name]] for name in asked))

    def costs(self, kept: Mask) -> dict[str, int]:
        """Return what a plan costs, by the name of each limit."""
        costs = self.price(kept).to_dict()
        return {name: costs[FIGURES[name]] for name in self.bounds}

    def hold(self, kept: Mask) -> bool:
        """Whether a plan is within all limits."""
        return all(value <= self.bounds[name] for name, value in self.costs(kept).items())

    def met(self, other: Graph) -> bool:
        """Whether another network, whole, is within all limits."""
        whole = cost.compile(other)(np.ones(other.count, dtype=bool)).to_dict()
        return all(whole[FIGURES[name]] <= most for name, most in self.bounds.items())

    @property
    def most(self) -> NDArray[np.int64]:
        """The bounds as a vector."""
        return np.array(list(self.bounds.values()), dtype=np.int64)

    def evaluator(self) -> Evaluator:
        """Return a function from widths, of one plan or many, to costs (limits, ...)."""
        return Evaluator(self.rows)

    def check(self, smallest: Mask) -> None:
        """Refuse a limit that the smallest network does not meet.

        Raises:
            InfeasibleError: naming the least value that can be reached, and the module that costs most of it.
        """
        for name, least in self.costs(smallest).items():
            if least <= self.bounds[name]:
                continue
            rows = {row.name: row.to_dict()[FIGURES[name]] for row in self.price.modules(smallest)}
            module = max(rows, key=lambda each: int(rows[each]))
            units = np.concatenate(
                [each.units for each in self.graph.layers if each.module == module] or [np.zeros(0, dtype=np.int64)]
            )
            reasons = [self.graph.reasons[int(unit)] for unit in units if unit >= 0]
            why = next((f" ({reason})" for reason in reasons if reason), "")
            percent = f"{np.ceil(1e4 * least / self.full[name]) / 100:g}%"
            raise InfeasibleError(
                f"{named(name, self.asked[name])}: the smallest network takes {spelled(name, least)}, of which "
                f"{module or 'the top'}{why} takes {share(int(rows[module]) / least)}; the smallest value that can be "
                f"reached is {least} ({percent})",
                closest=least,
            )
