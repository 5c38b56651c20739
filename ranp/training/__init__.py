"""Training: a plain loop on torch, that can be stopped and go on as if it had not."""

from ranp.training._loop import SCORE, History, Keep, Moment, Trained, train_
from ranp.training._recipes import RECIPES, resolved

__all__ = ["RECIPES", "SCORE", "History", "Keep", "Moment", "Trained", "resolved", "train_"]
