"""Limits of what a slim network may cost, as functions of its widths."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranp import cost
from ranp.cost.polynomials import Evaluator
from ranp.errors import InfeasibleError, UsageError, named
from ranp.figures import amount, amount_of, share
from ranp.graph.flow import Ints
from ranp.graph.graph import Graph, Mask

FIGURES = {"params": "params", "flops": "flops", "activations": "memory_bytes"}
"""The figure of `cost.Costs` that a limit is of; the others have a meter."""


@dataclass(frozen=True)
class Limits:
    """The limits of one choice.

    Args:
        graph: of the network.
        asked: each limit as it was written, by name.
        bounds: the most that each lets a network cost, by name.
        full: what the full network costs, by name.
        price: the costs of a plan.
    """

    graph: Graph
    asked: Mapping[str, str]
    bounds: Mapping[str, int]
    full: Mapping[str, int]
    price: cost.CostFunction

    @classmethod
    def of(cls, graph: Graph, asked: Mapping[str, str], price: cost.CostFunction | None = None) -> "Limits":
        """Price a network in the standard convention.

        Args:
            graph: of the network.
            asked: limits by name.
            price: of the graph, with the meters that limits of memory at its peak and of time need.

        Raises:
            UsageError: a meter is missing.
        """
        price = price or cost.compile(graph)
        for name in asked:
            if name not in FIGURES and name not in price.meters:
                said = "is no function of the graph alone; ranp.prune finds it, or the price that select is given"
                raise UsageError(f"{named(name, asked[name])}: {said}")
        widths = price.widths(np.ones(graph.count, dtype=bool))
        scales = {name: meter.scale for name, meter in price.meters.items()}
        full = {name: round(most / scales.get(name, 1)) for name, most in _costs(price, widths, asked).items()}
        bounds = {name: amount_of(name, word, full[name]) for name, word in asked.items()}
        return cls(graph, asked, bounds, full, price)

    def costs(self, kept: Mask) -> dict[str, int]:
        """Return what a plan costs, by the name of each limit."""
        return _costs(self.price, self.price.widths(kept), self.bounds)

    def hold(self, kept: Mask) -> bool:
        """Whether a plan is within all limits."""
        return self.within(self.costs(kept))

    def within(self, costs: Mapping[str, int]) -> bool:
        """Whether costs are within all limits."""
        return all(costs[name] <= most for name, most in self.bounds.items())

    @property
    def most(self) -> NDArray[np.int64]:
        """The bounds as a vector."""
        return np.array(list(self.bounds.values()), dtype=np.int64)

    def evaluator(self) -> Callable[[Ints], Ints]:
        """Return a function from widths, of one plan or many, to costs (limits, ...) in the order of the bounds."""
        summed = Evaluator(self.price.totals[FIGURES[name]] for name in self.bounds if name in FIGURES)
        metered = [self.price.meters[name] for name in self.bounds if name not in FIGURES]
        order = np.argsort([name not in FIGURES for name in self.bounds], kind="stable").argsort()

        def costs(widths: Ints) -> Ints:
            rows = [*(summed(widths) if len(metered) < len(order) else ()), *(meter(widths) for meter in metered)]
            return np.stack(rows)[order]

        return costs

    def check(self, smallest: Mask) -> None:
        """Refuse a limit that the smallest network does not meet.

        Raises:
            InfeasibleError: naming the least value that can be reached, and the module that costs most of it.
        """
        for name, least in self.costs(smallest).items():
            if least <= self.bounds[name]:
                continue
            percent = f"{np.ceil(1e4 * least / self.full[name]) / 100:g}%"
            reached = f"the smallest value that can be reached is {_asked(name, least)} ({percent})"
            said = f"{named(name, self.asked[name])}: the smallest network takes {amount(name, least)}"
            if name in self.price.meters:
                place = self.price.meters[name].place(self.price.widths(smallest))
                raise InfeasibleError(f"{said}, {place}; {reached}", closest=least)
            rows = {row.name: row.to_dict()[FIGURES[name]] for row in self.price.modules(smallest)}
            module = max(rows, key=lambda each: int(rows[each]))
            units = np.concatenate(
                [each.units for each in self.graph.layers if each.module == module] or [np.zeros(0, dtype=np.int64)]
            )
            reasons = [self.graph.reasons[int(unit)] for unit in units if unit >= 0]
            why = next((f" ({reason})" for reason in reasons if reason), "")
            raise InfeasibleError(
                f"{said}, of which {module or 'the top'}{why} takes {share(int(rows[module]) / least)}; {reached}",
                closest=least,
            )


def _costs(price: cost.CostFunction, widths: Ints, names: Iterable[str]) -> dict[str, int]:
    totals = price.at(widths).to_dict()
    return {name: totals[FIGURES[name]] if name in FIGURES else int(price.meters[name](widths)) for name in names}


def _asked(name: str, least: int) -> str:
    """Write a cost exactly, so that it can be asked for."""
    return f"{least}{'us' if name == 'latency' else '' if name in ('params', 'flops') else 'B'}"
