"""Training: a plain loop on torch, that can be stopped and go on as if it had not; and how good what came out is."""

from ranp.options import Training
from ranp.training._evaluate import ALL, Evaluation, Judged, evaluate, measured
from ranp.training._loop import SCORE, History, Keep, Moment, Trained, train_
from ranp.training._recipes import RECIPES, resolved
from ranp.training._scores import CaseScores, Scores, Spread
from ranp.training._windows import Windows

__all__ = [
    "ALL",
    "RECIPES",
    "SCORE",
    "CaseScores",
    "Evaluation",
    "History",
    "Judged",
    "Keep",
    "Moment",
    "Scores",
    "Spread",
    "Trained",
    "Training",
    "Windows",
    "evaluate",
    "measured",
    "resolved",
    "train_",
]
