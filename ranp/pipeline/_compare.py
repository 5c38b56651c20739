"""compare(): the paper's methods on one network at one sparsity, as its tables put them side by side.

Xu, Ajanthan, Vineet and Hartley, "RANP: Resource Aware Neuron Pruning at Initialization for 3D CNNs" (3DV 2020),
Tables 1 and 2. A method that can't reach the sparsity is a row that says so and names its own largest one.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from ranp import cost
from ranp.data.paired import KEYS, Key, Paired, first_inputs
from ranp.errors import InfeasibleError, UnsupportedError, UsageError, listed, named, nearest
from ranp.graph.build import trace
from ranp.graph.graph import Graph, Mask
from ranp.inputs import Inputs
from ranp.options import Scoring, Selection
from ranp.pipeline._gauges import Gauges
from ranp.pipeline._peers import PEERS, torch_pruned, torch_pruned_within
from ranp.pipeline._prune import Steps
from ranp.plan import Plan
from ranp.reports import Comparison, Figures, Row
from ranp.scores import Scores, check_given, importance
from ranp.selection import Limits, select

FILE = "compare.json"
"""The table's name in a run folder."""
METHODS: dict[str, dict[str, Any]] = {
    "random": {"rule": "random"},
    "layer-wise": {"rule": "layerwise"},
    "SNIP": {"rule": "snip"},
    "vanilla": {"rule": "global", "weighting": "none"},
    "weighted": {"rule": "global"},
    "RANP-m": {"reweight": "memory"},
    "RANP-f": {"reweight": "flops"},
    "uniform": {"rule": "uniform"},
    "profile": {"rule": "profile"},
}
"""The methods in the order of the paper's tables, narrowing by hand, and the options of `select` that make them."""


def compare(
    model: nn.Module,
    example_inputs: Inputs | None,
    batches: Iterable[Any],
    loss: Callable[[Any, Any], Any],
    *,
    keys: tuple[Key, Key] = KEYS,
    sparsity: float | None = None,
    max_sparsity_of: str | None = None,
    method: str = "mpmg",
    reduce: str = "sum",
    freeze: Iterable[str] = (),
    outputs: Iterable[int] = (),
    zero_conv_biases: bool = False,
    dead_norms: str = "one",
    device: str = "cpu",
    seed: int = 0,
    peers: bool = False,
    step: cost.Step | None = None,
    timer: cost.Timer | None = None,
    watch: Callable[[str], None] | None = None,
    progress: bool | Callable[[Iterable[Any]], Iterable[Any]] | None = None,
    **selection: Any,
) -> Comparison:
    """Choose by every method of the paper at the same sparsity and count what each choice costs.

    The network is scored once by `method` and once by SNIP, and once in all where they are the same; no slim network is
    built, as costs are functions of the widths.

    Args:
        model: the full module, initialised; it is untouched.
        example_inputs: costs are counted at their shapes; None stands for those of the first batch.
        batches: of (inputs, target), or dicts; can be iterated over more than once.
        loss: `loss(outputs, target) -> scalar`.
        keys: of the inputs and of the target, where batches are dicts: see `prune`.
        sparsity: share of the neurons (for SNIP: of weight elements) to drop from the ranking.
        max_sparsity_of: a method of `METHODS` whose largest feasible sparsity is taken instead.
        method: of the scores: see `importance`.
        reduce: see `importance`.
        freeze: globs of module paths whose channels must stay.
        outputs: places of the outputs that must keep their shape, see `trace`.
        zero_conv_biases: see `importance`.
        dead_norms: see `importance`.
        device: where to score.
        seed: of the random rule and of dropout while scoring.
        peers: also prune with Torch-Pruning at the same channel ratio.
        step: as of `prune`.
        timer: as of `prune`; no network is built, so that times are those that were predicted.
        watch: called with the name of each step as it begins.
        progress: see `importance`.
        selection: options of `select` that all share: strength (of RANP-m and RANP-f), coupling, min_width, align, tie;
            and limits such as flops="10%", in the place of a sparsity, which every method is cut to.

    Raises:
        UsageError: a value is out of range or unknown, or batches that can be read only once.
        UnsupportedError: the network can't be traced.
        MissingExtra: `peers` without Torch-Pruning.
    """
    Scoring.read({"method": method, "reduce": reduce, "dead_norms": dead_norms})
    check_goal(sparsity, max_sparsity_of, **selection)
    check_given(batches, loss, method, seed)
    if isinstance(batches, Iterator):
        raise UsageError("batches: an iterator can be read only once; expected a list, a DataLoader or the like")
    if example_inputs is None:
        example_inputs, batches = first_inputs(batches, keys)
    batches = Paired(batches, keys)
    steps = Steps(watch)
    with steps("trace"):
        graph = trace(model, example_inputs, freeze=freeze, outputs=outputs)
    scores: dict[str, Scores] = {}
    for each in dict.fromkeys((method, "snip")):
        with steps(f"score by {each}"):
            scores[each] = importance(
                model, graph, batches, loss, method=each, reduce=reduce,
                device=device, seed=seed, zero_conv_biases=zero_conv_biases, dead_norms=dead_norms,
                progress=progress,
            )  # fmt: skip
    with steps("select"):
        gauges = Gauges(example_inputs, step or cost.Step(), timer or cost.stopwatch(device))
        price = gauges.price(graph, model, Selection.read({**selection, "sparsity": sparsity}))
        chooser = _Chooser(graph, scores, method, {**selection, "seed": seed, "price": price})
        prices = _Prices(graph, price)
        if max_sparsity_of is not None:
            max_sparsity_of = method_named(max_sparsity_of)
            sparsity = chooser.plan(max_sparsity_of, max_sparsity=True).choice.maximum
        limits = Selection.read({**selection, "sparsity": sparsity}).limits
        goal = {} if limits else {"sparsity": sparsity}
        whole = np.ones(graph.count, dtype=bool)
        rows = [_row("full", achieved=0.0, costs=prices(whole), meters=prices.meters(whole))]
        rows += [chooser.row(name, goal, prices) for name in METHODS]
    if peers:
        with steps("peers"):
            within = Limits.of(graph, limits, price)
            rows += [_peer(model, example_inputs, graph, name, sparsity, seed, within, gauges) for name in PEERS]
    return Comparison(
        sparsity=sparsity, sparsity_of=max_sparsity_of, limits=limits, rows=rows, seconds=steps.seconds
    )  # fmt: skip


def check_goal(sparsity: float | None, max_sparsity_of: str | None, **selection: Any) -> None:
    """Refuse options that `compare` would refuse, before anything is scored.

    Raises:
        UsageError: the first that is out of range or unknown.
    """
    asked = Selection.read({**selection, "sparsity": sparsity})
    if [sparsity is not None, max_sparsity_of is not None, bool(asked.limits)].count(True) != 1:
        either = f"give either {named('sparsity')} or {named('max_sparsity_of')}"
        raise UsageError(f"{either}, or limits such as {named('flops')}")
    if max_sparsity_of is not None:
        method_named(max_sparsity_of)
    (asked if asked.limits else asked.model_copy(update={"sparsity": sparsity or 0.0})).check()


def method_named(word: str) -> str:
    """Return the method of `METHODS` that a word means, in any case.

    >>> method_named("ranp-F")
    'RANP-f'

    Raises:
        UsageError: there is none.
    """
    known = {name.lower(): name for name in METHODS}
    if word.lower() not in known:
        expected = f"expected one of {listed(METHODS)}{nearest(word.lower(), known)}"
        raise UsageError(f"{named('max_sparsity_of', word)}: {expected}")
    return known[word.lower()]


def _row(name: str, **values: Any) -> Row:
    blank: dict[str, Any] = {"status": "ok", "reason": "", "maximum": None, "achieved": None, "costs": {}, "meters": {}}
    return Row(name=name, **{**blank, **values})


class _Prices:
    """Costs of a choice by convention, and what meters say of it."""

    def __init__(self, graph: Graph, metered: cost.CostFunction | None = None) -> None:
        self.metered = metered
        self._functions = {name: cost.compile(graph, convention=name) for name in cost.CONVENTIONS}

    def __call__(self, kept: Mask) -> dict[str, Figures]:
        return {name: Figures(**function(kept).to_dict()) for name, function in self._functions.items()}

    def meters(self, kept: Mask) -> dict[str, int]:
        """Return what the meters of limits say of a choice."""
        if self.metered is None:
            return {}
        widths = self.metered.widths(kept)
        return {name: int(meter(widths)) for name, meter in self.metered.meters.items()}


@dataclass(frozen=True)
class _Chooser:
    """What the methods share: `scores` by method, which of them rank neurons, and options of `select`."""

    graph: Graph
    scores: dict[str, Scores]
    method: str
    selection: dict[str, Any]

    def plan(self, name: str, **goal: Any) -> Plan:
        """Return a method's choice."""
        options = METHODS[name]
        used = self.scores["snip" if options.get("rule") == "snip" else self.method]
        shared = {key: value for key, value in self.selection.items() if key != "strength" or "reweight" in options}
        return select(self.graph, used, **options, **shared, **goal)

    def row(self, name: str, goal: dict[str, Any], prices: _Prices) -> Row:
        """Return a method's row of the table."""
        try:
            plan = self.plan(name, **goal)
        except InfeasibleError as error:
            closest = error.closest if goal else None  # of a limit it is no sparsity
            return _row(name, status="infeasible", reason=str(error), maximum=closest)
        choice, kept = plan.choice, plan.mask(self.graph)
        return _row(
            name, maximum=choice.maximum, achieved=choice.achieved, costs=prices(kept), meters=prices.meters(kept)
        )  # fmt: skip


def _peer(
    model: nn.Module,
    inputs: Inputs,
    graph: Graph,
    name: str,
    ratio: float | None,
    seed: int,
    limits: Limits,
    gauges: Gauges,
) -> Row:
    """Return the row of Torch-Pruning at a ratio, or at the smallest one that holds the limits."""
    try:
        small = (
            torch_pruned_within(model, inputs, graph, name, limits, seed, gauges)
            if ratio is None
            else torch_pruned(model, inputs, graph, ratio, seed, **PEERS[name])
        )
    except UnsupportedError as error:
        return _row(name, status="failed", reason=str(error))
    if small is None:
        return _row(name, status="infeasible", reason="no ratio that it takes holds the limits")
    own = trace(small, inputs)
    neurons, left = (sum(len(layer.units) for layer in each.layers) for each in (graph, own))
    costs, meters = _Prices(own)(np.ones(own.count, dtype=bool)), gauges.built(small, limits.price.meters)
    return _row(name, achieved=1 - left / neurons, costs=costs, meters=meters)
