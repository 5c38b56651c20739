"""Which units stay: select() goes from scores, costs and a goal to a plan."""

from ranp.selection._select import RULES, WEIGHTINGS, check_options, largest_sparsity, select

__all__ = ["RULES", "WEIGHTINGS", "check_options", "largest_sparsity", "select"]
