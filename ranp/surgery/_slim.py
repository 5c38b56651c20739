"""slim(): plan + module -> a smaller module of the same class."""

from typing import cast

from ranp.errors import check_type
from ranp.graph.resize import resized
from ranp.modules import Module, undisturbed, unwrapped
from ranp.plan import Plan
from ranp.surgery._widths import follow_widths_


@undisturbed()
def slim(model: Module, plan: Plan) -> Module:
    """Return a physically smaller copy of a module, of the same class, that keeps a plan's units with their weights.

    Args:
        model: the full module; it is untouched. Of a wrapper the network inside is made smaller.
        plan: made for it, or for the same architecture.

    Raises:
        UsageError: the plan does not fit; the group that differs is named.
    """
    check_type("plan", plan, isinstance(plan, Plan), "a ranp.Plan")
    model = cast(Module, unwrapped(model))
    graph = plan.graph_of(model)
    small = resized(graph, model, plan.mask(graph), private=False)
    follow_widths_(small, model, graph)
    return small
