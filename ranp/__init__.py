"""ranp: fit a network to the machine before training it.

    graph  = ranp.trace(model, example_inputs)
    scores = ranp.importance(model, graph, batches, loss)
    plan   = ranp.select(graph, scores, sparsity=0.78)
    slim   = ranp.slim(model, plan)
    report = ranp.verify(model, slim, plan, example_inputs)

or all of it with `ranp.prune(model, example_inputs, ...)`. The names below are loaded when they are first used, so that
`import ranp` and `ranp --help` do not wait for torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

from ranp.errors import CheckFailed, InfeasibleError, MissingExtra, RanpError, UnsupportedError, UsageError
from ranp.version import __version__

if TYPE_CHECKING:
    from ranp.graph.build import trace
    from ranp.graph.graph import Graph
    from ranp.pipeline import Report, Result, prune, transfer
    from ranp.plan import Plan
    from ranp.runs import load, save
    from ranp.scores import Scores, importance
    from ranp.selection import largest_sparsity, select
    from ranp.surgery import Verification, slim, verify

_HOMES = {
    "trace": "ranp.graph.build",
    "Graph": "ranp.graph.graph",
    "Plan": "ranp.plan",
    "Report": "ranp.pipeline",
    "Result": "ranp.pipeline",
    "prune": "ranp.pipeline",
    "load": "ranp.runs",
    "save": "ranp.runs",
    "Scores": "ranp.scores",
    "importance": "ranp.scores",
    "largest_sparsity": "ranp.selection",
    "select": "ranp.selection",
    "Verification": "ranp.surgery",
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
    "importance",
    "largest_sparsity",
    "load",
    "prune",
    "save",
    "select",
    "slim",
    "trace",
    "transfer",
    "verify",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its module on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'ranp' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
