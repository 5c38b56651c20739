"""The verbs on modules: what `ranp.prune` and its relatives do from the first step to the last."""

from ranp.pipeline._candidates import CANDIDATES, UNIFORM, Candidate, candidate, candidates
from ranp.pipeline._compare import FILE, METHODS, check_goal, compare
from ranp.pipeline._gauges import Gauges
from ranp.pipeline._gradual import Standing, check_rounds, prune_in_rounds, prune_round, standing_of
from ranp.pipeline._halving import rounds
from ranp.pipeline._prune import Result, costs_of, prune
from ranp.pipeline._rounds import prune_again
from ranp.pipeline._search import Found, search
from ranp.pipeline._suggest import suggest
from ranp.pipeline._transfer import Transferred, transfer
from ranp.pipeline._trials import Task, Underway

__all__ = [
    "CANDIDATES",
    "FILE",
    "METHODS",
    "UNIFORM",
    "Candidate",
    "Found",
    "Gauges",
    "Result",
    "Standing",
    "Task",
    "Transferred",
    "Underway",
    "candidate",
    "candidates",
    "check_goal",
    "check_rounds",
    "compare",
    "costs_of",
    "prune",
    "prune_again",
    "prune_in_rounds",
    "prune_round",
    "rounds",
    "search",
    "standing_of",
    "suggest",
    "transfer",
]
