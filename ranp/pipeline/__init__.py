"""The verbs on modules: what `ranp.prune` and its relatives do from the first step to the last."""

from ranp.pipeline._compare import FILE, METHODS, check_goal, compare
from ranp.pipeline._gradual import Standing, check_rounds, prune_in_rounds, prune_round, standing_of
from ranp.pipeline._prune import Result, costs_of, prune
from ranp.pipeline._rounds import prune_again
from ranp.pipeline._suggest import suggest
from ranp.pipeline._transfer import Transferred, transfer

__all__ = [
    "FILE",
    "METHODS",
    "Result",
    "Standing",
    "Transferred",
    "check_goal",
    "check_rounds",
    "compare",
    "costs_of",
    "prune",
    "prune_again",
    "prune_in_rounds",
    "prune_round",
    "standing_of",
    "suggest",
    "transfer",
]
