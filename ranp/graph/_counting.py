"""Find the numbers of modules that count channels, by trial.

Where a slim run differs from the full one, a number of a module on the way that equals a size at that op is set to the
slim size, and what lets the run go on is kept. Every number that is kept so was seen to be right: the run under it is
the full one, op by op.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from types import CodeType
from typing import Any

from torch import nn

from ranp.graph._decisions import VIEWS
from ranp.graph._slimrun import Mismatch
from ranp.graph.flow import Flow
from ranp.graph.graph import Graph, Mask
from ranp.graph.resize import sets_sizes
from ranp.graph.sizes import Key, Size, numbers_of
from ranp.graph.trace import Record, Trace

LOOK_AHEAD = 6  # ops from one that differs to one that tells what a number counts: the state a cell starts from


@dataclass(frozen=True)
class Place:
    """A dimension of one of the tensors at an op: which of its results and inputs, and which dimension."""

    tensor: int
    dim: int

    def of(self, record: Record) -> tuple[Flow, int] | None:
        """Return the flow and the dimension at an op, if it carries channels there."""
        flows = _flows(record)
        if self.tensor < len(flows) and self.dim < len(flows[self.tensor].shape) and flows[self.tensor].over(self.dim):
            return flows[self.tensor], self.dim
        return None


def found_by_trial(
    trace: Trace, graph: Graph, model: nn.Module, kept: Mask, found: Mismatch, lets_go_on: Callable[[list[Size]], bool]
) -> list[Size] | None:
    """Return the sizes a graph should set so that the slim run of a plan goes on, or None where none helps.

    A size that an earlier plan took for another one's is replaced, once.

    Args:
        trace: of the full network.
        graph: with the sizes known so far.
        model: the full network.
        kept: the plan.
        found: where its slim run differs.
        lets_go_on: whether the slim run under some sizes goes further.
    """
    for new in _candidates(trace, model, found.run, found.index):
        if not any(graph.slim_shape(size.flow, kept)[size.dim] != size.flow.shape[size.dim] for size in new):
            continue
        known = {size.place: size for size in graph.sizes}
        if any(size.place in known and known[size.place].final for size in new):
            continue
        new = [Size(*size.place, size.flow, size.dim, final=size.place in known) for size in new]
        sizes = list({**known, **{size.place: size for size in new}}.values())
        if lets_go_on(sizes):
            return sizes
    return None


def _candidates(trace: Trace, model: nn.Module, run: str, index: int) -> Iterator[list[Size]]:
    """Yield what might count the channels at an op, nearest module first, with its like wherever the same code runs."""
    records = trace.runs[run].records
    modules = dict(model.named_modules())
    seen: set[tuple[str, Key, tuple[int, Place]]] = set()
    for ahead, record in enumerate(records[index : index + LOOK_AHEAD]):
        for near in dict.fromkeys([records[index].module, records[max(index - 1, 0)].module]):
            for path in _upwards(near):
                for place in _places(record):
                    at = place.of(record)
                    for key in _keys(modules, path, near, at[0].shape[at[1]] if at else 0):
                        if at and (path, key, (ahead, place)) not in seen:
                            seen.add((path, key, (ahead, place)))
                            size = Size(path, key, *at)
                            yield [size, *_repeated(records, modules, record, size, place, near)]


def _keys(modules: dict[str, nn.Module], path: str, near: str, number: int) -> Iterator[Key]:
    """Yield where a module keeps a number that it, or one it lies around, reads when it runs."""
    if sets_sizes(modules[path]):
        return
    kinds: list[Any] = [type(modules[each]) for each in _upwards(near)]
    read = frozenset().union(*map(_names_read, kinds))
    yield from (key for key, each in numbers_of(modules[path]) if each == number and key[0] in read)


@cache
def _names_read(kind: type) -> frozenset[str]:
    """Return every name and word in the code of a class, its constructor and PyTorch's own code left out."""
    names: set[str] = set()
    for each in kind.__mro__:
        if each in (nn.Module, object):
            continue
        for name, member in vars(each).items():
            if name != "__init__":
                names |= _names_in(getattr(getattr(member, "fget", member), "__code__", None))
                names |= _names_in(getattr(getattr(member, "__func__", member), "__code__", None))
                names |= _names_in(getattr(getattr(member, "__wrapped__", member), "__code__", None))
    return frozenset(names)


def _names_in(code: Any) -> set[str]:
    if not isinstance(code, CodeType):
        return set()
    inner = set().union(*(_names_in(each) for each in code.co_consts))
    return inner | set(code.co_names) | {each for each in code.co_consts if isinstance(each, str)}


def _upwards(path: str) -> Iterator[str]:
    """Yield a module's path and those of the modules it lies in.

    >>> list(_upwards("a.b"))
    ['a.b', 'a', '']
    """
    while path:
        yield path
        path = path.rpartition(".")[0]
    yield ""


def _flows(record: Record) -> list[Flow]:
    return [*record.outputs, *record.inputs]


def _places(record: Record) -> list[Place]:
    """Return the dimensions at an op: results first where it is a view, which asks for their sizes, else last."""
    places = [Place(tensor, dim) for tensor, flow in enumerate(_flows(record)) for dim in range(len(flow.shape))]
    first = len(record.outputs)
    return places if record.op in VIEWS else sorted(places, key=lambda place: place.tensor < first)


def _repeated(
    records: list[Record], modules: dict[str, nn.Module], record: Record, size: Size, place: Place, near: str
) -> Iterator[Size]:
    """Yield a size's like in every other module that runs the same line of code."""
    inner, seen = near[len(size.module) :], {size.module}
    for other in records:
        if other.site != record.site or near != record.module or not other.module.endswith(inner):
            continue
        path, at = other.module[: len(other.module) - len(inner)], place.of(other)
        if at and path not in seen and dict(numbers_of(modules[path])).get(size.key) == at[0].shape[at[1]]:
            seen.add(path)
            yield Size(path, size.key, *at)
