"""Groups: units whose members lie in the same parameters, named for the layer that makes them."""

import numpy as np

from ranp.graph.flow import Ints
from ranp.graph.graph import Group, Members
from ranp.graph.tape import Layer


def grouped(parameters: dict[str, Members], layers: tuple[Layer, ...], count: int) -> tuple[tuple[Group, ...], Ints]:
    """Return the groups, in the order of their first unit, and the group of each unit, shape (count,)."""
    if not count:
        return (), np.zeros(0, dtype=np.int64)
    keys = np.zeros(count, dtype=np.uint64)
    generator = np.random.default_rng(0)
    for name in parameters:
        members = parameters[name]
        for units in [*members.dims.values(), *([members.grouped] if members.grouped is not None else [])]:
            key = generator.integers(1, 2**63, dtype=np.uint64)
            keys[np.unique(units[units >= 0])] += key
    _, first, group_of = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first)
    position = np.empty_like(order)
    position[order] = np.arange(len(order))
    group_of = position[group_of].astype(np.int64)
    makers = _makers(layers, group_of, len(order))
    names = _names(makers, parameters, group_of, len(order))
    by_group = np.split(
        np.argsort(group_of, kind="stable"), np.cumsum(np.bincount(group_of, minlength=len(order)))[:-1]
    )
    groups = tuple(Group(names[g], units, tuple(m.name for m in makers[g])) for g, units in enumerate(by_group))
    return groups, group_of


def _makers(layers: tuple[Layer, ...], group_of: Ints, count: int) -> list[list[Layer]]:
    makers: list[list[Layer]] = [[] for _ in range(count)]
    for layer in layers:
        for group in np.unique(group_of[layer.units[layer.units >= 0]]).tolist():
            makers[group].append(layer)
    return makers


def _names(makers: list[list[Layer]], parameters: dict[str, Members], group_of: Ints, count: int) -> list[str]:
    names: list[str] = []
    readers = [""] * count
    for name, members in parameters.items():
        for units in members.dims.values():
            for group in np.unique(group_of[units[units >= 0]]).tolist():
                readers[group] = readers[group] or f"read by {name.rpartition('.')[0] or name}"
    seen: dict[str, int] = {}
    for group in range(count):
        name = (makers[group][0].name.rpartition(".")[0] or makers[group][0].name) if makers[group] else readers[group]
        seen[name] = seen.get(name, 0) + 1
        names.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return names
