"""Numbers of a network's own modules that count channels and that its forward does not need.

`encoder.output_channels`, `num_features`, a length that `__init__` computed for a linear layer: other code reads them
when it builds a head. What the forward reads is known from the trace (`Graph.sizes`). Of the rest, a number with a name
for a width follows where every layer of that width below its module came out alike and the network still does the same;
what can't be told is named in the report.
"""

import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from ranp.graph.graph import Graph
from ranp.graph.resize import sets_sizes
from ranp.graph.rules.op import Mode
from ranp.graph.sizes import Key, numbers_of, set_number
from ranp.inputs import InputSpec, as_arguments, flatten, refill
from ranp.modules import copy_with, on_meta

INWARD, OUTWARD = ("in_channels", "in_features"), ("out_channels", "out_features")
WIDTH = re.compile(r"chan|feat|width|dim|filter|plane|embed|hidden|flat|(^|_)(chs?|units?|nf|ngf|ndf|in|out)(_|\d|$)")
INPUT = re.compile(r"(^|_)in(_|put|$)|^in(planes|channels|features|dim)")
OTHER = re.compile(
    r"class|kernel|stride|pad|dilation|group|spatial|level|depth|head|patch|window|image|img|scale|ratio|block|stage|step"
    r"|(?<!hidden_)(?<!embed_)(?<!embedding_)(?<!feature_)size|layer|rate|num_dims?$|ndims?$"
)
Place = tuple[str, Key]


def follow_widths_(slim: nn.Module, full: nn.Module, graph: Graph) -> None:
    """Set numbers that count channels in a slim module, as far as the network does the same with them.

    Args:
        slim: changed in place.
        full: that it was made from.
        graph: of the full module.
    """
    found = {place: new for place, _, new in _outdated(slim, full, graph) if new is not None}
    if not found:
        return
    tried = on_meta(slim)
    before = _steps(tried, graph)
    for place, new in found.items():
        _set(tried, place, new)
    if before is not None and _steps(tried, graph) == before:
        for place, new in found.items():
            _set(slim, place, new)


def stale_widths(slim: nn.Module, full: nn.Module, graph: Graph) -> list[str]:
    """Return a note of the numbers in a slim module that still count the full one's channels, or nothing."""
    names = [f"{_spelled(place)} = {number}" for place, number, _ in _outdated(slim, full, graph)]
    if not names:
        return []
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    said = "stale in the slim network, a width of the full one that its forward does not need"
    return [f"{said}: {', '.join(names[:8])}{more}"]


def _spelled(place: Place) -> str:
    path, (name, inside) = place
    return f"{path}.{name}".lstrip(".") + ("" if inside is None else f"[{inside!r}]")


def _set(model: nn.Module, place: Place, number: int) -> None:
    set_number(model.get_submodule(place[0]), place[1], number)


def _outdated(slim: nn.Module, full: nn.Module, graph: Graph) -> Iterator[tuple[Place, int, int | None]]:
    """Yield where a number stands that counts channels of the full network, the number, and the one to set if known."""
    known, modules = {size.place for size in graph.sizes}, dict(slim.named_modules())
    pairs = {key: list(_pairs(full, modules, key)) for key in (INWARD, OUTWARD)}
    for path, module in full.named_modules():
        if sets_sizes(module) or path not in modules:
            continue
        below, now = f"{path}." if path else "", dict(numbers_of(modules[path]))
        for key, number in numbers_of(module):
            name = key[0].lower()
            if now.get(key) != number or (path, key) in known or not WIDTH.search(name) or OTHER.search(name):
                continue
            widths = pairs[INWARD] if INPUT.search(name) else pairs[OUTWARD]
            widths = widths if any(old == number for _, old, _ in widths) else pairs[INWARD]
            new = {after for where, before, after in widths if before == number and where.startswith(below)}
            if new - {number}:
                yield (path, key), number, new.pop() if len(new) == 1 else None


def _pairs(full: nn.Module, slim: dict[str, nn.Module], names: tuple[str, ...]) -> Iterator[tuple[str, int, int]]:
    """Yield the path of each convolution and linear layer, and its width before and after."""
    for path, module in full.named_modules():
        for name in names:
            if sets_sizes(module) and path in slim and isinstance(getattr(module, name, None), int):
                yield path, getattr(module, name), getattr(slim[path], name)


class _Steps(Mode):
    def __init__(self) -> None:
        super().__init__()
        self.steps: list[Any] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        self.steps.append((str(func), [tuple(each.shape) for each in flatten(out)]))
        return out


def _steps(model: nn.Module, graph: Graph) -> list[Any] | None:
    """Return the ops of a run on meta tensors and the shapes they make, or None where it does not run there."""
    args, kwargs = as_arguments(refill(graph.inputs, InputSpec.empty))
    recorder = _Steps()
    try:
        with torch.no_grad(), recorder:
            copy_with(model).eval()(*args, **kwargs)
    except Exception:
        return None
    return recorder.steps
