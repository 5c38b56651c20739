"""How much the loss depends on each neuron: importance() and the scores it returns."""

from ranp.scores._method import importance
from ranp.scores.result import Scores

__all__ = ["Scores", "importance"]
