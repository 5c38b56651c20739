"""Which units stay: select() goes from scores, costs and a goal to a plan."""

from ranp.selection._limits import FIGURES, Limits
from ranp.selection._select import largest_sparsity, select
from ranp.selection._stages import encoding

__all__ = ["FIGURES", "Limits", "encoding", "largest_sparsity", "select"]
