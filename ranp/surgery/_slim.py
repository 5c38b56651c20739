"""slim(): plan + module -> a smaller module of the same class."""

from typing import cast

from torch import Tensor, nn

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
    _mark_(small, model)
    return small


def _mark_(slim: nn.Module, full: nn.Module) -> None:
    """Give a slim module's parameters the hooks on gradients and the plain attributes of the full one's."""
    small = dict(slim.named_parameters())
    for name, old in full.named_parameters():
        if name not in small:
            continue
        vars(small[name]).update({key: value for key, value in vars(old).items() if not isinstance(value, Tensor)})
        for hook in (old._backward_hooks or {}).values():
            small[name].register_hook(hook)
        for hook in (old._post_accumulate_grad_hooks or {}).values():
            small[name].register_post_accumulate_grad_hook(hook)
