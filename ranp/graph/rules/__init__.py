"""How labels pass through each ATen op: one rule an op, registered by its name without overload.

A rule gets an `Op` (the call with its arguments by name) and the trace, and returns the flows of the results, one for
each tensor result. An op without a rule freezes what touches it.
"""

import ranp.graph.rules._attention
import ranp.graph.rules._contraction
import ranp.graph.rules._indexing
import ranp.graph.rules._norm
import ranp.graph.rules._pointwise
import ranp.graph.rules._reduction
import ranp.graph.rules._view
import ranp.graph.rules.spatial  # noqa: F401
from ranp.graph.rules.op import Op
from ranp.graph.rules.registry import RULES, apply

__all__ = ["RULES", "Op", "apply"]
