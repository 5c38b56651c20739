"""Which units stay: select() goes from scores, costs and a goal to a plan."""

from ranp.selection._select import largest_sparsity, select

__all__ = ["largest_sparsity", "select"]
