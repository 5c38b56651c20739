"""prune(): trace, score, select, slim and verify in one call."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from ranp import cost
from ranp.data.paired import KEYS, Key, Paired, first_inputs
from ranp.figures import share
from ranp.graph.build import trace
from ranp.graph.graph import Graph
from ranp.inputs import Inputs
from ranp.modules import check_values, unwrapped
from ranp.options import Scoring, Selection
from ranp.pipeline._draws import mean_of, spread_of
from ranp.pipeline._gauges import Gauges
from ranp.pipeline._limits import settled
from ranp.pipeline._warnings import uniform_words, warnings_of
from ranp.plan import Choice, Plan
from ranp.reports import Both, Chosen, Figures, Report, Sparsity, Verification, Width
from ranp.scores import Scores, check_given, importance
from ranp.selection import Limits, select
from ranp.surgery import Size, compared_at, slim, stale_widths, verify


@dataclass(frozen=True, repr=False)
class Result:
    """What `prune` returns: the slim module, the plan, the report and the graph; scores where there were any."""

    slim: nn.Module
    plan: Plan
    report: Report
    graph: Graph
    scores: Scores | None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({type(self.slim).__name__})\n{self.report.table()}"

    def _repr_html_(self) -> str:
        """Return the report's table for a notebook."""
        return self.report._repr_html_()


class Steps:
    """Seconds of each step, and a word to whoever watches when one begins."""

    def __init__(self, watch: Callable[[str], None] | None = None) -> None:
        self.seconds: dict[str, float] = {}
        self._watch = watch

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time a step."""
        if self._watch:
            self._watch(name)
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 3)


def prune(
    model: nn.Module,
    example_inputs: Inputs | None = None,
    *,
    batches: Iterable[Any] | None = None,
    keys: tuple[Key, Key] = KEYS,
    loss: Callable[[Any, Any], Any] | None = None,
    method: str = "mpmg",
    reduce: str = "sum",
    freeze: Iterable[str] = (),
    outputs: Iterable[int] = (),
    zero_conv_biases: bool = False,
    dead_norms: str = "one",
    device: str = "cpu",
    seed: int = 0,
    verify_input: Size | None = None,
    redrawn: Iterable[nn.Module] = (),
    step: cost.Step | None = None,
    timer: cost.Timer | None = None,
    ties: Sequence[Mapping[str, Sequence[int]]] = (),
    watch: Callable[[str], None] | None = None,
    progress: bool | Callable[[Iterable[Any]], Iterable[Any]] | None = None,
    **selection: Any,
) -> Result:
    """Slim a network and prove it: trace, importance, select, slim, verify.

    The weights are never re-initialised: initialise the model before, or not at all for a trained one.

    Args:
        model: the full module; it is untouched.
        example_inputs: a tensor, a tuple of positional inputs, or a dict of keyword inputs; by default
            those of the first batch.
        batches: an iterable of (inputs, target), or of dicts, for the gradient methods.
        keys: of the inputs and of the target, where batches are dicts; several keys of inputs, in a tuple, are
            positional inputs.
        loss: `loss(outputs, target) -> scalar`.
        method: see `importance`.
        reduce: see `importance`.
        freeze: globs of module paths whose channels must stay.
        outputs: places of the outputs that must keep their shape, see `trace`.
        zero_conv_biases: see `importance`.
        dead_norms: see `importance`.
        device: where to score.
        seed: of the random rule and of dropout while scoring.
        verify_input: the spatial size the proof is made at: see `verify`.
        redrawn: the same network with other initial weights: the choice is by the mean of all their scores, and the
            report says how far the widths of each by itself spread. `batches` are then read once for each.
        step: of the training that a limit of `train_memory` is of; without, AdamW in float32 and next to no loss.
        timer: takes the times that a limit of `latency` is of; without, the median of a few runs on the device.
        ties: with `tie`, see `select`.
        watch: called with the name of each step as it begins.
        progress: see `importance`.
        selection: the options of `select`: sparsity or max_sparsity, or limits such as flops="10%", rule, solver, ...

    Raises:
        UsageError: a mistake in what was given; of the wrong type, a `WrongType`, which is a `TypeError` too.
        InfeasibleError: the sparsity can't be reached, or a limit can't be met.
        UnsupportedError: the network can't be traced.
        CheckFailed: the slim network differs from the masked one, or costs something else than its plan.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 3))
        >>> result = prune(net, torch.zeros(1, 1, 8, 8), sparsity=0.5, method="l1")
        >>> result.slim[2].in_channels < 8
        True
    """
    Scoring.read({"method": method, "reduce": reduce, "dead_norms": dead_norms})
    asked = Selection.read(selection).ruled()
    asked.check(method, seed)
    check_given(batches, loss, "l1" if asked.rule == "random" else method, seed)
    if example_inputs is None:
        example_inputs, batches = first_inputs(batches, keys)
    if batches is not None:
        batches = Paired(batches, keys)
    steps = Steps(watch)
    with steps("trace"):
        graph = trace(model, example_inputs, freeze=freeze, outputs=outputs)
        check_values(unwrapped(model))
        if verify_input is not None:  # a mistake in it is said before anything takes long
            compared_at(model, example_inputs, verify_input)
    with steps("score"):
        scores, each_draw = None, []
        for drawn in () if selection.get("rule") == "random" else (model, *redrawn):
            scores = importance(
                drawn, graph, batches, loss, method=method, reduce=reduce,
                device=device, seed=seed, zero_conv_biases=zero_conv_biases, dead_norms=dead_norms,
                transposed="inputs" if selection.get("published_transposed") else "outputs", progress=progress,
            )  # fmt: skip
            each_draw.append(scores)
    gauges = Gauges(example_inputs, step or cost.Step(), timer or cost.stopwatch(device))
    with steps("price") if asked.limits or asked.reweight == "latency" else nullcontext():
        price = gauges.price(graph, model, asked)
    with steps("select"):
        scores = mean_of(each_draw) if each_draw else None
        full = Limits.of(graph, asked.limits, price).full

        def choose() -> Plan:
            return select(graph, scores, seed=seed, price=price, ties=ties, **selection)

        plan = choose()
        spread = spread_of(graph, each_draw, seed, {**selection, "price": price, "ties": ties})
    with steps("slim"):
        small = slim(model, plan)
    chosen = None
    if plan.choice.bounds:
        with steps("count"):
            built = settled(model, plan, small, price, gauges, full, choose)
            plan, small, chosen = built.plan, built.slim, built.chosen
    notes = [*warnings_of(graph, plan, scores), *spread]
    return proved(
        model, graph, plan, small, example_inputs, steps, scores, chosen=chosen, seed=seed, verify_input=verify_input,
        notes=notes,
    )  # fmt: skip


def proved(
    model: nn.Module,
    graph: Graph,
    plan: Plan,
    small: nn.Module,
    example_inputs: Inputs,
    steps: Steps,
    scores: Scores | None = None,
    *,
    chosen: Chosen | None = None,
    seed: int = 0,
    verify_input: Size | None = None,
    notes: Iterable[str] = (),
) -> Result:
    """Prove what a plan made, and report.

    Args:
        model: the full module.
        graph: of it.
        plan: of the graph.
        small: the slim network.
        example_inputs: that the full one was traced with.
        steps: that are timed.
        scores: that the plan was chosen by, where they are at hand.
        chosen: what it costs beside its limits, where there are any.
        seed: of what is compared on.
        verify_input: see `verify`.
        notes: on the plan.

    Raises:
        CheckFailed: the slim network differs from the masked one.
    """
    with steps("verify"):
        checked = verify(model, small, plan, example_inputs, seed=seed, verify_input=verify_input)
    stale = stale_widths(small, unwrapped(model), graph)
    report = report_of(graph, plan, checked, steps.seconds, scores, [*stale, *notes])
    said = {"uniform": uniform_words(graph, plan), **({"chosen": chosen} if chosen else {})}
    report = report.model_copy(update=said)
    checked.require()
    return Result(small, plan, report, graph, scores)


def report_of(
    graph: Graph,
    plan: Plan,
    checked: Verification,
    seconds: dict[str, float],
    scores: Scores | None = None,
    notes: Iterable[str] = (),
) -> Report:
    """Return the report of a plan that was carried out and verified."""
    costs, choice = costs_of(graph, plan), plan.choice
    return Report(
        full=costs["standard"].full,
        slim=costs["standard"].slim,
        paper=costs["paper"],
        sparsity=Sparsity(asked=choice.sparsity, achieved=choice.achieved, maximum=choice.maximum),
        units=plan.units(),
        groups=[Width(name=g.name, before=g.width, after=len(g.kept), frozen=g.frozen) for g in plan.groups],
        verify=checked,
        seconds=dict(seconds),
        notes=[
            *graph.notes,
            *(scores.notes if scores else ()),
            *cost.counted_by_default(graph),
            *_said_of(choice),
            *notes,
        ],
    )


def _said_of(choice: Choice) -> list[str]:
    """Say where much less is gone than was asked for."""
    if 2 * choice.achieved >= choice.sparsity:
        return []
    if choice.rule == "snip":
        return [
            f"{share(choice.achieved)} of the neurons are gone: SNIP's {share(choice.sparsity)} is a share of weight "
            "elements, and a neuron goes when all of its elements do"
        ]
    return [
        f"{share(choice.achieved)} of the neurons are gone, less than half of the {share(choice.sparsity)} that the "
        "ranking dropped: what is frozen, tied layers and whole widths keep the rest"
    ]


def costs_of(graph: Graph, plan: Plan) -> dict[str, Both]:
    """Return the costs of the full and the slim network by convention, for the batch the graph was traced with.

    A plan by the published rule for transposed convolutions is counted in the paper's convention as published.
    """
    kept, everything = plan.mask(graph), np.ones(graph.count, dtype=bool)
    costs = {}
    for convention in cost.CONVENTIONS:
        evaluate = cost.compile(graph, convention=convention)
        published = convention == "paper" and plan.choice.published_transposed
        slim = cost.compile(graph, convention="paper", published_transposed=True)(kept) if published else evaluate(kept)
        costs[convention] = Both(full=Figures(**evaluate(everything).to_dict()), slim=Figures(**slim.to_dict()))
    return costs
