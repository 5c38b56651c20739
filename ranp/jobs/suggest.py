"""What `ranp suggest` asks for: a network, its scores, and how units are ranked; nothing is built or written."""

from collections.abc import Callable
from typing import Any

from ranp import __version__
from ranp.cost import Step, stopwatch
from ranp.graph.build import trace
from ranp.jobs.options import Suggest
from ranp.jobs.prune import Prepared, Track, check_step, generated, ready
from ranp.options import Budget, Ranking, Selection, Shared, Solved
from ranp.pipeline import Gauges, suggest
from ranp.reports import Suggestion
from ranp.scores import importance


def prepare(options: Suggest) -> Prepared:
    """Check everything that can be checked without work.

    Raises:
        UsageError: the first mistake that was found.
        MissingExtra: a reader of the data is not installed.
    """
    check_step(options)
    selection = Selection.read({**({} if options.limits else {"sparsity": 0.0}), **_selection(options)})
    selection = selection.ruled(trained=options.weights is not None)
    selection.check(options.method, options.seed)
    options = options.model_copy(update={"rule": selection.rule})
    return ready(options, selection, needs_batches=options.method != "l1")


def carry_out(
    prepared: Prepared, *, watch: Callable[[str], None] | None = None, track: Track | None = None
) -> Suggestion:
    """Trace, score, and price the choice at several sparsities."""
    options = prepared.options
    assert isinstance(options, Suggest)
    assert options.method is not None
    say = watch or (lambda _: None)
    say("trace")
    graph = trace(prepared.network, prepared.inputs, freeze=options.freeze, outputs=options.outputs)
    say("score")
    scores = importance(
        prepared.network, graph, None if options.method == "l1" else prepared.batches, prepared.loss,
        method=options.method, reduce=options.reduce, device=options.device, seed=options.seed,
        zero_conv_biases=options.init in ("glorot", "orthogonal"), dead_norms=options.dead_norms,
        progress=track or False,
    )  # fmt: skip
    say("select")
    gauges = Gauges(prepared.inputs, prepared.step() or Step(), stopwatch(options.device))
    price = gauges.price(graph, prepared.network, Selection.read(_selection(options)))
    found = suggest(graph, scores, seed=options.seed, price=price, **_selection(options))
    head = {**prepared.head(), "scored_on": prepared.scored_on(), "ranp": __version__}
    values = found.to_dict()
    values["notes"] = [*values["notes"], *generated(options)]
    return Suggestion(**head, **values)


def _selection(options: Suggest) -> dict[str, Any]:
    """Return the options of `select`, the goal aside."""
    groups = (Ranking, Budget, Solved, Shared)
    return {name: value for group in groups for name, value in options.only(group).items()}
