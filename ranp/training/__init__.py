"""Training: a plain loop on torch, that can be stopped and go on as if it had not; and how good what came out is."""

from ranp.options import Training
from ranp.training._distillation import Distillation
from ranp.training._evaluate import ALL, Evaluation, Judged, evaluate, measured
from ranp.training._loop import SCORE, History, Keep, Moment, Trained, check_asked, optimizer_of, train_
from ranp.training._outputs import Whole, probabilities, run, sized
from ranp.training._predict import Answer, Kept, answer
from ranp.training._recipes import RECIPES, resolved
from ranp.training._scores import CaseScores, Scores, Spread
from ranp.training._tensorboard import Events
from ranp.training._windows import Windows

__all__ = [
    "ALL",
    "RECIPES",
    "SCORE",
    "Answer",
    "CaseScores",
    "Distillation",
    "Evaluation",
    "Events",
    "History",
    "Judged",
    "Keep",
    "Kept",
    "Moment",
    "Scores",
    "Spread",
    "Trained",
    "Training",
    "Whole",
    "Windows",
    "answer",
    "check_asked",
    "evaluate",
    "measured",
    "optimizer_of",
    "probabilities",
    "resolved",
    "run",
    "sized",
    "train_",
]
