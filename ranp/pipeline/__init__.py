"""The verbs on modules: what `ranp.prune` and its relatives do from the first step to the last."""

from ranp.pipeline._compare import FILE, METHODS, check_goal, compare
from ranp.pipeline._gauges import Gauges
from ranp.pipeline._prune import Result, costs_of, prune
from ranp.pipeline._rounds import prune_again
from ranp.pipeline._suggest import suggest
from ranp.pipeline._transfer import Transferred, transfer

__all__ = [
    "FILE",
    "METHODS",
    "Gauges",
    "Result",
    "Transferred",
    "check_goal",
    "compare",
    "costs_of",
    "prune",
    "prune_again",
    "suggest",
    "transfer",
]
