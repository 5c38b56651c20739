"""Which units stay: select() goes from scores, costs and a goal to a plan."""

from ranp.selection._limits import Limits
from ranp.selection._select import largest_sparsity, select

__all__ = ["Limits", "largest_sparsity", "select"]
