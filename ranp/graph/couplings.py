"""Which layers share which channels, and why some must stay: the channel graph told by modules."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ranp.errors import UsageError, named, nearest
from ranp.graph.graph import Graph, Members
from ranp.modules import lies_in


@dataclass(frozen=True)
class Coupling:
    """One group, by the paths of the modules that touch its channels.

    Args:
        name: of the group.
        width: how many units it has.
        makes: modules whose outputs they are.
        carries: modules that hold something for each of them: norms, depthwise filters, scales.
        reads: modules that take them in.
        frozen: how many must stay, by reason.
    """

    name: str
    width: int
    makes: tuple[str, ...]
    carries: tuple[str, ...]
    reads: tuple[str, ...]
    frozen: dict[str, int]

    @property
    def modules(self) -> tuple[str, ...]:
        """Every module that touches it."""
        return self.makes + self.carries + self.reads


def couplings(graph: Graph) -> list[Coupling]:
    """Return the groups of a graph, in its order."""
    makes: list[dict[str, None]] = [{} for _ in graph.groups]
    carries: list[dict[str, None]] = [{} for _ in graph.groups]
    reads: list[dict[str, None]] = [{} for _ in graph.groups]
    for layer in graph.layers:
        for group in _groups_of(graph, layer.units):
            makes[group][_module(layer.name)] = None
    for name, members in graph.parameters.items():
        for reading, units in _parts(members):
            for group in _groups_of(graph, units):
                (reads if reading else carries)[group][_module(name)] = None
    return [
        Coupling(
            group.name,
            len(group.units),
            tuple(makes[index]),
            tuple(module for module in carries[index] if module not in makes[index] and module not in reads[index]),
            tuple(reads[index]),
            dict(Counter(reason for unit in group.units if (reason := graph.reasons[unit]))),
        )
        for index, group in enumerate(graph.groups)
    ]


def layers_in_order(graph: Graph) -> list[str]:
    """Return the paths of the modules that make channels, in the order of the model's parameters."""
    return list(dict.fromkeys(_module(layer.name) for layer in graph.layers))


def about(groups: list[Coupling], pattern: str) -> list[Coupling]:
    """Return the groups that a module touches.

    Args:
        groups: by `couplings`.
        pattern: a module's path, or a glob of paths; modules inside it count.

    Raises:
        UsageError: it names no module that touches a channel; the nearest is given.
    """
    chosen = [group for group in groups if any(lies_in(module, pattern) for module in group.modules)]
    if not chosen:
        known = sorted({module for group in groups for module in group.modules})
        raise UsageError(f"{named('module', pattern)}: no such module with channels{nearest(pattern, known)}")
    return chosen


def to_dict(graph: Graph, groups: list[Coupling]) -> dict[str, Any]:
    """Return groups in plain values, with the notes of the trace."""
    return {
        "units": graph.count,
        "layers": len(graph.layers),
        "groups": [asdict(group) for group in groups],
        "notes": list(graph.notes),
    }


def _parts(members: Members) -> list[tuple[bool, Any]]:
    """Return the units of each dimension of a parameter, and whether it reads them."""
    parts = [(dim in members.reads, units) for dim, units in members.dims.items()]
    return parts + ([(members.grouped_reads, members.grouped)] if members.grouped is not None else [])


def _groups_of(graph: Graph, units: Any) -> list[int]:
    groups: list[int] = np.unique(graph.group_of[units[units >= 0]]).tolist()
    return groups


def _module(parameter: str) -> str:
    return parameter.rpartition(".")[0] or parameter
