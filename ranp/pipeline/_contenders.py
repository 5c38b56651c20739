"""Every candidate's plans: chosen for each seed from scores that all share, and which of them are the same."""

import json
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any

from torch import nn

from ranp import cost
from ranp.errors import InfeasibleError, UnsupportedError
from ranp.graph.graph import Graph
from ranp.pipeline._candidates import UNIFORM, Candidate
from ranp.pipeline._gauges import Gauges
from ranp.pipeline._limits import settled
from ranp.pipeline._warnings import warnings_of
from ranp.plan import Plan
from ranp.reports import Figures
from ranp.scores import Scores
from ranp.selection import FIGURES, select
from ranp.surgery import slim


class Choosing:
    """Every candidate's plan for one seed after the other, while its scores are at hand."""

    def __init__(
        self,
        graph: Graph,
        contenders: Sequence[Candidate],
        method: str,
        selection: Mapping[str, Any],
        price: cost.CostFunction,
        gauges: Gauges,
        full: Mapping[str, int],
        *,
        by_widths: bool,
    ) -> None:
        self.graph, self.contenders, self.method, self.selection = graph, contenders, method, selection
        self.price, self.gauges, self.full, self.by_widths = price, gauges, full, by_widths
        self.plans: dict[str, list[Plan]] = {each.name: [] for each in contenders}
        self.notes: dict[str, list[list[str]]] = {each.name: [] for each in contenders}
        self.infeasible: dict[str, str] = {}

    def method_of(self, contender: Candidate) -> str:
        """Return the criterion that a candidate ranks by."""
        return contender.method or ("snip" if contender.options.get("rule") == "snip" else self.method)

    def with_seed(self, seed: int, network: nn.Module, scores: Mapping[str, Scores]) -> None:
        """Choose by every candidate; one that can't hold the limits is put aside with its reason."""
        for each in self.contenders:
            if each.name in self.infeasible:
                continue
            used = scores[self.method_of(each)]
            try:
                plan = self._plan(each, seed, network, used)
            except (InfeasibleError, UnsupportedError) as error:
                self.infeasible[each.name] = str(error)
                continue
            self.plans[each.name].append(plan)
            self.notes[each.name].append([*used.notes, *warnings_of(self.graph, plan, used)])

    def _plan(self, contender: Candidate, seed: int, network: nn.Module, scores: Scores) -> Plan:
        """Return a candidate's plan, whose network holds the limits when it is built, as that of `prune` does."""
        price = copy(self.price)
        price.meters = dict(price.meters)  # which are scaled by what is built
        shared = {k: v for k, v in self.selection.items() if k != "strength" or "reweight" in contender.options}
        choose = partial(select, self.graph, scores, seed=seed, price=price, **{**shared, **contender.options})
        plan = choose()
        if not price.meters:
            return plan
        return settled(network, plan, slim(network, plan), price, self.gauges, self.full, choose).plan

    def to_dict(self) -> dict[str, Any]:
        """Return all plans as plain values, and of candidates that are the same all but the first by its name.

        Raises:
            InfeasibleError: there are no plans.
        """
        if len(self.infeasible) == len(self.contenders):
            raise InfeasibleError(self.infeasible[UNIFORM])
        first: dict[Any, str] = {}
        same = {}
        for name, plans in self.plans.items():
            if name in self.infeasible:
                continue
            key = tuple(tuple(self._key(plan)) for plan in plans)
            if first.setdefault(key, name) != name:
                same[name] = first[key]
        kept = {name: plans for name, plans in self.plans.items() if name not in self.infeasible}
        return {
            "plans": {name: [json.loads(plan.to_json()) for plan in plans] for name, plans in kept.items()},
            "notes": {name: self.notes[name] for name in kept},
            "infeasible": self.infeasible,
            "same": same,
        }

    def _key(self, plan: Plan) -> Iterator[Any]:
        """What two candidates share where they need one training: widths, of weights that were given the units."""
        return ((len(group.kept) if self.by_widths else group.kept) for group in plan.groups)


@dataclass(frozen=True)
class Plans:
    """Every candidate's plan for each seed.

    Args:
        graph: of the network.
        plans: by candidate, those that can be had, a plan for each seed.
        notes: likewise.
        infeasible: why the others can't.
        same: of candidates whose plans are those of another, that other.
        names: of all, the simpler first.
    """

    graph: Graph
    plans: Mapping[str, Sequence[Plan]]
    notes: Mapping[str, Sequence[Sequence[str]]]
    infeasible: Mapping[str, str]
    same: Mapping[str, str]
    names: Sequence[str]

    @classmethod
    def of(cls, state: Mapping[str, Any], graph: Graph) -> "Plans":
        """Read what `Choosing` made."""

        def bound(values: Any) -> Plan:
            plan = Plan.model_validate(values)
            return Plan.of(graph, plan.mask(graph), plan.choice, plan.scores, plan.stages)

        plans = {name: [bound(values) for values in each] for name, each in state["plans"].items()}
        return cls(graph, plans, state["notes"], state["infeasible"], state["same"], state["asked"]["candidates"])

    @property
    def to_train(self) -> list[str]:
        """The names of those that have a training of their own."""
        return [name for name in self.names if name in self.plans and name not in self.same]

    def costs(self, name: str) -> tuple[Figures, dict[str, int]]:
        """Return what a candidate's networks cost, and what limits say of them beside that, as means over seeds."""
        price, plans = cost.compile(self.graph), self.plans[name]
        each = [price(plan.mask(self.graph)).to_dict() for plan in plans]
        figures = {key: round(fmean(costs[key] for costs in each)) for key in Figures.model_fields}
        further = {key for plan in plans for key in plan.choice.costs} - FIGURES.keys()
        limited = {key: round(fmean(plan.choice.costs[key] for plan in plans)) for key in sorted(further)}
        return Figures(**figures), limited
