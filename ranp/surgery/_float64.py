"""Run a network in float64 although its forward asks for float32.

`x.float()`, an autocast region, `torch.zeros(n)` in a forward, a grid kept in a list: what a network makes in a lower
precision, or casts to one, is made in float64 instead, so that two networks can be compared to the last digits.
"""

from types import TracebackType
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from ranp.graph.rules.op import Mode

WIDER = dict.fromkeys((torch.float32, torch.float16, torch.bfloat16), torch.float64)
WIDER |= {torch.complex64: torch.complex128, torch.complex32: torch.complex128}


class Doubles(Mode):
    """Gives every floating-point tensor of a forward double precision; use under `torch.no_grad`.

    >>> with torch.no_grad(), Doubles():
    ...     (torch.ones(2).float() @ torch.ones(2, dtype=torch.float64)).dtype
    torch.float64
    """

    def __init__(self) -> None:
        super().__init__()
        self._default = torch.float32

    def __enter__(self) -> "Doubles":
        """Start."""
        self._default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        super().__exit__(kind, error, trace)  # type: ignore[no-untyped-call]
        torch.set_default_dtype(self._default)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an op in double precision; one that looks at bits, or that writes into a tensor, as it is."""
        if func is torch.ops.aten.view.dtype or func._schema.is_mutable:
            return func(*args, **(kwargs or {}))
        return func(*tree_map(_wider, args), **tree_map(_wider, kwargs or {}))


def _wider(value: Any) -> Any:
    if isinstance(value, torch.dtype):
        return WIDER.get(value, value)
    if isinstance(value, Tensor) and value.dtype in WIDER:
        return value.to(WIDER[value.dtype])
    return value
