"""How much the loss depends on each neuron: importance() and the scores it returns."""

from ranp.scores._method import check_given, importance
from ranp.scores.result import Scores

__all__ = ["Scores", "check_given", "importance"]
