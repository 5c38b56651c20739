"""The verbs on modules: what `ranp.prune` and its relatives do from the first step to the last."""

from ranp.pipeline._compare import FILE, METHODS, Comparison, check_goal, compare
from ranp.pipeline._prune import CONVENTIONS, Report, Result, Steps, costs_of, prune
from ranp.pipeline._transfer import Transferred, transfer

__all__ = [
    "CONVENTIONS",
    "FILE",
    "METHODS",
    "Comparison",
    "Report",
    "Result",
    "Steps",
    "Transferred",
    "check_goal",
    "compare",
    "costs_of",
    "prune",
    "transfer",
]
