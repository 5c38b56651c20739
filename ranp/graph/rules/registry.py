"""The table of rules and how one is applied."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from ranp.graph.flow import Flow, Shape, activation
from ranp.graph.origins import Asked
from ranp.graph.trace import Record, Site, Trace

Rule = Callable[["Op", Trace], Flow | list[Flow]]
RULES: dict[str, Rule] = {}
ELEMENT_FLOPS: dict[str, Callable[[Record], int]] = {}
"""FLOPs per element of the result of ops that are not PyTorch's; who brings one enters them beside its rule."""


@dataclass(slots=True)
class Op:
    """One call of an ATen op.

    Args:
        name: its name without namespace, overload and trailing underscore.
        overload: the function called.
        arguments: by the names of its schema, defaults filled in.
        tensors: its tensor arguments in order, those inside lists too.
        results: its tensor results in order.
        module: path of the module it runs in.
        site: where it runs.
        asked: the call in the network's own code that runs it, if any.
    """

    name: str
    overload: torch._ops.OpOverload
    arguments: dict[str, Any]
    tensors: list[torch.Tensor]
    results: list[torch.Tensor]
    module: str
    site: Site
    asked: Asked | None = None

    @property
    def where(self) -> str:
        """Say where the op ran, for a person."""
        return f"{self.name} at {self.module or 'the top'}"

    def shape(self, result: int = 0) -> Shape:
        """Return the shape of a result."""
        return tuple(self.results[result].shape)

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule for some ops; a second rule for one op is a defect."""

    def register(function: Rule) -> Rule:
        for name in names:
            assert name not in RULES, f"two rules for {name}"
            RULES[name] = function
        return function

    return register


@cache
def base_name(overload: torch._ops.OpOverload) -> str:
    """Return an op's name without namespace for ATen's own, without overload and trailing underscore.

    >>> base_name(torch.ops.aten.add_.Tensor)
    'add'
    """
    namespace, _, name = overload._schema.name.partition("::")
    name = name if name.startswith("__") else name.rstrip("_")
    return name if namespace in ("aten", "prims") else f"{namespace}::{name}"


@cache
def _schema(overload: torch._ops.OpOverload) -> tuple[list[str], dict[str, Any]]:
    arguments = overload._schema.arguments
    return [argument.name for argument in arguments], {argument.name: argument.default_value for argument in arguments}


def bind(overload: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call by name."""
    names, defaults = _schema(overload)
    return {**defaults, **dict(zip(names, args, strict=False)), **kwargs}


def numbers(overload: torch._ops.OpOverload, arguments: dict[str, Any], trace: Trace) -> tuple[float | str, ...]:
    """Return the numbers an op computes with, sizes and positions left out: factors, exponents, fill values.

    A slim network must compute with the same ones. Single values that Python made into tensors count too.
    """
    scalars: list[float | str] = []
    for name in _scalar_names(overload):
        value = arguments[name]
        if isinstance(value, torch.Tensor):
            if value.numel() == 1 and not value.is_meta and trace.is_unknown(value):
                scalars.append(str(value.item()))
        elif isinstance(value, bool | int | float | complex):
            scalars.append(str(value))
    return tuple(scalars)


@cache
def _scalar_names(overload: torch._ops.OpOverload) -> list[str]:
    kinds = ("number", "Scalar", "float", "Tensor")
    return [
        argument.name
        for argument in overload._schema.arguments
        if str(argument.type).removeprefix("Optional[").rstrip("]") in kinds
    ]


def apply(op: Op, trace: Trace) -> list[Flow]:
    """Return the flows of an op's results by its rule; without one, freeze what touches it."""
    rule = RULES.get(op.name)
    if rule is None and torch.Tag.pointwise in op.overload.tags:
        rule = RULES["pointwise"]
    if rule is None:
        return _unknown(op, trace)
    flows = rule(op, trace)
    return flows if isinstance(flows, list) else [flows]


def _unknown(op: Op, trace: Trace) -> list[Flow]:
    flows = [trace.flow(tensor) for tensor in op.tensors]
    if all(flow.constant for flow in flows):
        return [activation(tuple(result.shape), [], roots=frozenset()) for result in op.results]
    for flow in flows:
        trace.freeze_flow(flow, f"no rule for {op.where}")
    return [activation(tuple(result.shape), []) for result in op.results]
