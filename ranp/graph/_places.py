"""Where an op acts: starts, steps, shifts and paddings, by dimension.

A slim network must act at the same places of every dimension that can't shrink. Along channels the labels tell.
"""

from collections.abc import Callable
from typing import Any

from ranp.graph.flow import Flow, Shape

Places = dict[int, tuple[int, ...]]


def places(op: str, arguments: dict[str, Any], shape: Shape) -> Places:
    """Return the places an op acts at, by dimension; sizes are those of its whole.

    >>> places("slice", {"dim": -1, "start": -3, "end": 9223372036854775807, "step": 1}, (2, 8))
    {1: (5, 8, 1)}

    Args:
        op: its name.
        arguments: by name.
        shape: of its first tensor.
    """
    found = _PLACES.get(op)
    return {} if found is None or not shape else found(arguments, shape)


def _of_slice(arguments: dict[str, Any], shape: Shape) -> Places:
    dim = arguments["dim"] % len(shape)
    return {dim: slice(arguments["start"], arguments["end"], arguments["step"]).indices(shape[dim])}


def _of_narrow(arguments: dict[str, Any], shape: Shape) -> Places:
    return {arguments["dim"] % len(shape): (arguments["start"], arguments["length"])}


def _of_select(arguments: dict[str, Any], shape: Shape) -> Places:
    dim = arguments["dim"] % len(shape)
    return {dim: (arguments["index"] % shape[dim],)}


def _of_roll(arguments: dict[str, Any], shape: Shape) -> Places:
    pairs = zip(arguments["dims"], arguments["shifts"], strict=False)
    return {dim % len(shape): (shift % shape[dim],) for dim, shift in pairs}


def _of_pad(arguments: dict[str, Any], shape: Shape) -> Places:
    pad = arguments["pad"]
    return {len(shape) - 1 - index: tuple(pad[2 * index : 2 * index + 2]) for index in range(len(pad) // 2)}


_PLACES: dict[str, Callable[[dict[str, Any], Shape], Places]] = {
    "slice": _of_slice,
    "slice_scatter": _of_slice,
    "narrow": _of_narrow,
    "select": _of_select,
    "select_scatter": _of_select,
    "roll": _of_roll,
    "constant_pad_nd": _of_pad,
}


def immovable(whole: Flow, dim: int) -> bool:
    """Whether a dimension neither carries labels nor follows what it meets."""
    return whole.fixed[dim] and not whole.over(dim)
