"""The table of rules and how one is applied."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import torch

from ranp.graph.flow import Flow, Shape, activation
from ranp.graph.rules.op import Op
from ranp.graph.tape import Kind, Places, Record
from ranp.graph.trace import Trace

Flows = Callable[[Op, Trace], Flow | list[Flow]]
Made = TypeVar("Made", bound=Flows)
Placed = Callable[[dict[str, Any], Shape], Places]


@dataclass(frozen=True, slots=True)
class Rule:
    """All that is known of an op.

    Args:
        flow: how labels pass.
        kind: what it does, by which it is counted and treated.
        left: of a matrix product, the operand whose last dimension is summed over.
        results: how many of its results are feature maps, where not all are.
        places: where it acts, by dimension, from its arguments and the shape of its whole.
        flops: per element of its result, in place of what its kind costs.
    """

    flow: Flows
    kind: Kind
    left: str | None = None
    results: int | None = None
    places: Placed | None = None
    flops: Callable[[Record], int] | None = None


RULES: dict[str, Rule] = {}


def rule(
    *names: str,
    kind: Kind = Kind.OTHER,
    left: str | None = None,
    results: int | None = None,
    places: Placed | None = None,
    flops: Callable[[Record], int] | None = None,
) -> Callable[[Made], Made]:
    """Register what is known of some ops (see `Rule`) with how labels pass; a second rule for one op is a defect."""

    def register(function: Made) -> Made:
        for name in names:
            assert name not in RULES, f"two rules for {name}"
            RULES[name] = Rule(function, kind, left, results, places, flops)
        return function

    return register


def numbers(overload: torch._ops.OpOverload, arguments: dict[str, Any], trace: Trace) -> tuple[float | str, ...]:
    """Return the numbers an op computes with, sizes and positions left out: factors, exponents, fill values.

    A slim network must compute with the same ones. Single values that Python made into tensors count too.
    """
    scalars: list[float | str] = []
    for name in _scalar_names(overload):
        value = arguments[name]
        if isinstance(value, torch.Tensor):
            if trace.is_unknown(value) and (single := single_value(value)) is not None:
                scalars.append(str(single))
        elif isinstance(value, bool | int | float | complex):
            scalars.append(str(value))
    return tuple(scalars)


def single_value(tensor: torch.Tensor) -> float | None:
    """Return the value of a tensor that Python made from one."""
    return tensor.item() if tensor.numel() == 1 and not tensor.is_meta else None


@cache
def _scalar_names(overload: torch._ops.OpOverload) -> list[str]:
    kinds = ("number", "Scalar", "float", "Tensor")
    return [
        argument.name
        for argument in overload._schema.arguments
        if str(argument.type).removeprefix("Optional[").rstrip("]") in kinds
    ]


def rule_of(name: str, overload: torch._ops.OpOverload) -> Rule | None:
    """Return the rule of an op; one that acts on each element needs none of its own."""
    known = RULES.get(name)
    return RULES["pointwise"] if known is None and _is_pointwise(overload) else known


@cache
def _is_pointwise(overload: torch._ops.OpOverload) -> bool:
    return torch.Tag.pointwise in overload.tags


def places(op: str, arguments: dict[str, Any], shape: Shape) -> Places:
    """Return the places an op acts at, by dimension; sizes are those of its whole.

    >>> places("slice", {"dim": -1, "start": -3, "end": 9223372036854775807, "step": 1}, (2, 8))
    {1: (5, 8, 1)}

    Args:
        op: its name.
        arguments: by name.
        shape: of its first tensor.
    """
    known = RULES.get(op)
    return {} if known is None or known.places is None or not shape else known.places(arguments, shape)


def apply(op: Op, trace: Trace) -> list[Flow]:
    """Return the flows of an op's results by its rule; without one, freeze what touches it."""
    rule = rule_of(op.name, op.overload)
    if rule is None:
        return _unknown(op, trace)
    flows = rule.flow(op, trace)
    return flows if isinstance(flows, list) else [flows]


def _unknown(op: Op, trace: Trace) -> list[Flow]:
    flows = [trace.flow(tensor) for tensor in op.tensors]
    if all(flow.constant for flow in flows):
        return [activation(tuple(result.shape), [], roots=frozenset()) for result in op.results]
    for flow in flows:
        trace.freeze_flow(flow, f"no rule for {op.where}")
    return [activation(tuple(result.shape), []) for result in op.results]
