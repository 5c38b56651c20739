"""One call of an ATen op, what is read off its schema, and a mode that sees every call."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ranp.graph.flow import Shape
from ranp.graph.origins import Asked
from ranp.graph.tape import Site


class Mode(TorchDispatchMode):
    """Sees every call. Nothing is compiled under it, so that PyTorch's compiler, a second to import, is left alone."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Whether PyTorch imports its compiler, to keep it away from what the mode does."""
        return False


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


@cache
def is_view(overload: torch._ops.OpOverload) -> bool:
    """Whether a result shares the storage of an argument, which is not written into."""
    return any(each.alias_info is not None and not each.alias_info.is_write for each in overload._schema.returns)


def tensors_of(values: Any) -> list[torch.Tensor]:
    """Return the tensors among an op's arguments or results in order, those inside lists too."""
    tensors: list[torch.Tensor] = []
    for each in values if isinstance(values, list | tuple) else (values,):
        if isinstance(each, torch.Tensor):
            tensors.append(each)
        elif isinstance(each, list | tuple):
            tensors += [part for part in each if isinstance(part, torch.Tensor)]
    return tensors


def bind(overload: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call by name."""
    names, defaults = _schema(overload)
    return {**defaults, **dict(zip(names, args, strict=False)), **kwargs}
