"""How labels pass through each ATen op: one rule an op, registered by its name without overload.

A rule gets an `Op` (the call with its arguments by name) and the trace, and returns the flows of the results, one for
each tensor result. An op without a rule freezes what touches it.
"""

import ranp.graph.rules.attention
import ranp.graph.rules.contraction
import ranp.graph.rules.indexing
import ranp.graph.rules.norm
import ranp.graph.rules.pointwise
import ranp.graph.rules.reduction
import ranp.graph.rules.spatial
import ranp.graph.rules.view  # noqa: F401
from ranp.graph.rules.registry import RULES, Op, apply

__all__ = ["RULES", "Op", "apply"]
