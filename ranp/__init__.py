"""ranp: fit a network to the machine before training it.

    graph  = ranp.trace(model, example_inputs)
    scores = ranp.importance(model, graph, batches, loss)
    plan   = ranp.select(graph, scores, sparsity=0.78)
    slim   = ranp.slim(model, plan)
    report = ranp.verify(model, slim, plan, example_inputs)

or all of it with `ranp.prune(model, example_inputs, ...)`. The names below are loaded when they are first used, so that
`import ranp` and `ranp --help` do not wait for torch.
"""

from ranp.lazy import names

__version__ = "0.1.0"

TYPE_CHECKING = False  # typing itself would be loaded before the program can catch an interrupt
if TYPE_CHECKING:
    from ranp.errors import CheckFailed, InfeasibleError, MissingExtra, RanpError, UnsupportedError, UsageError
    from ranp.graph.build import trace
    from ranp.graph.graph import Graph
    from ranp.pipeline import Result, compare, prune, search, transfer
    from ranp.plan import Plan
    from ranp.reports import Report, Verification
    from ranp.runs import load, save
    from ranp.scores import Scores, importance
    from ranp.selection import largest_sparsity, select
    from ranp.surgery import slim, verify

_HOMES = {
    "CheckFailed": "ranp.errors",
    "InfeasibleError": "ranp.errors",
    "MissingExtra": "ranp.errors",
    "RanpError": "ranp.errors",
    "UnsupportedError": "ranp.errors",
    "UsageError": "ranp.errors",
    "trace": "ranp.graph.build",
    "Graph": "ranp.graph.graph",
    "Plan": "ranp.plan",
    "Report": "ranp.reports",
    "Result": "ranp.pipeline",
    "compare": "ranp.pipeline",
    "prune": "ranp.pipeline",
    "search": "ranp.pipeline",
    "load": "ranp.runs",
    "save": "ranp.runs",
    "Scores": "ranp.scores",
    "importance": "ranp.scores",
    "largest_sparsity": "ranp.selection",
    "select": "ranp.selection",
    "Verification": "ranp.reports",
    "slim": "ranp.surgery",
    "verify": "ranp.surgery",
    "transfer": "ranp.pipeline",
}

__all__ = [
    "CheckFailed",
    "Graph",
    "InfeasibleError",
    "MissingExtra",
    "Plan",
    "RanpError",
    "Report",
    "Result",
    "Scores",
    "UnsupportedError",
    "UsageError",
    "Verification",
    "__version__",
    "compare",
    "importance",
    "largest_sparsity",
    "load",
    "prune",
    "save",
    "search",
    "select",
    "slim",
    "trace",
    "transfer",
    "verify",
]


__getattr__, __dir__ = names(__name__, _HOMES)
