"""What a network is given and what it gives: example inputs, their shapes and dtypes, random ones, tensors in a result.

Example inputs are a tensor, a tuple of positional inputs, or a dict of keyword ones; lists of tensors, numbers, words
and None may stand among them.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FunctionType, ModuleType
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from ranp.errors import UsageError, WrongType, check_type, named, nearest, words_of
from ranp.figures import spell

Inputs = Tensor | tuple[Any, ...] | list[Any] | Mapping[str, Any]
Shape = tuple[int, ...]
Length = Annotated[int, Field(ge=0)]


class InputSpec(BaseModel):
    """Shape and dtype of one input tensor, as plans keep them, and the range of whole numbers where it was said."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    shape: tuple[Length, ...]
    dtype: str
    below: Annotated[int, Field(ge=1, le=2**63 - 1)] | None = Field(None, exclude_if=lambda below: below is None)

    def empty(self) -> Tensor:
        """Return a tensor of this shape and dtype without data, on the meta device.

        Raises:
            UsageError: no such dtype, or a shape that no tensor has.
        """
        dtype = getattr(torch, self.dtype, None)
        if not isinstance(dtype, torch.dtype):
            raise UsageError(f"plan: input dtype {self.dtype!r}: expected a torch dtype such as float32")
        most = (
            1
            if dtype == torch.bool
            else None
            if dtype.is_floating_point or dtype.is_complex
            else torch.iinfo(dtype).max
        )
        if self.below is not None and most is not None and self.below - 1 > most:
            raise UsageError(f"plan: input dtype {self.dtype} holds no {self.below - 1}")
        try:
            return ranged(torch.empty(self.shape, dtype=dtype, device="meta"), self.below)
        except (TypeError, RuntimeError, OverflowError) as error:
            reason = str(error).splitlines()[0][:100]
            raise UsageError(f"plan: input shape {spell(self.shape)[:100]}: {reason}") from None


Scalar = bool | int | float | str | None
Described = InputSpec | Scalar | tuple[InputSpec | Scalar, ...]
Description = tuple[Described, ...] | dict[str, Described]


_BELOW = "ranp_below"  # an attribute of tensors: no shape or dtype says which whole numbers a network takes


def ranged(tensor: Tensor, below: int | None) -> Tensor:
    """Return the tensor after saying that `draw` fills it with whole numbers from 0 to below a number.

    Args:
        tensor: of whole numbers or booleans; of others nothing is said.
        below: the number, or None to say nothing.
    """
    if below is not None and not (tensor.is_floating_point() or tensor.is_complex()):
        setattr(tensor, _BELOW, below)
    return tensor


def range_of(tensor: Tensor) -> int | None:
    """Return the number below which `ranged` said that whole numbers lie; None where nothing was said."""
    below: int | None = getattr(tensor, _BELOW, None)
    return below


def as_arguments(inputs: Inputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return inputs as (args, kwargs): a tensor, a tuple of positional ones, or a dict of keyword ones."""
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    if isinstance(inputs, tuple | list):
        return tuple(inputs), {}
    if isinstance(inputs, Tensor):
        return (inputs,), {}
    raise WrongType(f"example_inputs is a {type(inputs).__name__}; expected a tensor, a tuple or a dict of tensors")


def describe(inputs: Inputs) -> Description:
    """Return shapes and dtypes of inputs, for the plan's file; what is no tensor stands for itself.

    Raises:
        UsageError: there is no tensor among them, or something that a file can't hold.
    """
    args, kwargs = as_arguments(inputs)
    if not flatten((args, kwargs)):
        raise UsageError("example_inputs holds no tensor; expected at least one")
    described = tuple(_describe(value) for value in args)
    return {name: _describe(value) for name, value in kwargs.items()} if kwargs else described


def _describe(value: Any, *, nested: bool = False) -> Any:
    if isinstance(value, Tensor):
        dtype = str(value.dtype).removeprefix("torch.")
        return InputSpec(shape=tuple(value.shape), dtype=dtype, below=range_of(value))
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple) and not nested:
        return tuple(_describe(part, nested=True) for part in value)
    raise UsageError(
        f"an example input is a {type(value).__name__}; expected tensors, lists of tensors, numbers, words or None"
    )


def refill(described: Description, make: Callable[[InputSpec], Any]) -> tuple[Any, ...] | dict[str, Any]:
    """Return inputs as they were described, with something made of the shape and dtype of each tensor."""

    def of(value: Described) -> Any:
        if isinstance(value, tuple):
            return [of(part) for part in value]
        return make(value) if isinstance(value, InputSpec) else value

    if isinstance(described, dict):
        return {name: of(value) for name, value in described.items()}
    return tuple(of(value) for value in described)


def specs(described: Description) -> list[InputSpec]:
    """Return shape and dtype of each tensor among described inputs, in order."""
    tensors: list[InputSpec] = []
    refill(described, tensors.append)
    return tensors


def reshaped(inputs: Inputs, change: Callable[[Shape], Shape]) -> Any:
    """Return inputs of the same dtypes and structure, without data, whose shapes are changed."""

    def changed(tensor: Tensor) -> Tensor:
        return ranged(torch.empty(change(tuple(tensor.shape)), dtype=tensor.dtype, device="meta"), range_of(tensor))

    return map_tensors(inputs, changed)


def draw(inputs: Inputs, generator: torch.Generator, dtype: torch.dtype | None = None) -> Any:
    """Return random inputs on the CPU with the shapes and the structure of example inputs.

    Args:
        inputs: on any device, even meta. Floating-point and complex tensors are replaced by standard normal values.
            Others are drawn where `ranged` said below which number; else they are kept as they are, and are zero where
            they have no data.
        generator: on the CPU.
        dtype: of floating-point inputs, complex ones get that of twice its width; by default their own.
    """

    def drawn(tensor: Tensor) -> Tensor:
        if (below := range_of(tensor)) is not None:
            return ranged(torch.randint(below, tensor.shape, generator=generator).to(tensor.dtype), below)
        if not (tensor.is_floating_point() or tensor.is_complex()):
            return torch.zeros_like(tensor, device="cpu") if tensor.is_meta else tensor.cpu()
        wanted = tensor.dtype if dtype is None else dtype.to_complex() if tensor.is_complex() else dtype
        made = torch.float64 if wanted == torch.float64 else torch.complex64 if wanted.is_complex else torch.float32
        made = torch.complex128 if wanted == torch.complex128 else made  # no generator fills the narrow dtypes alike
        return torch.randn(tensor.shape, generator=generator, dtype=made).to(wanted)

    return map_tensors(inputs, drawn)


def generator_of(seed: int) -> torch.Generator:
    """Return a generator of its own, on the CPU.

    Raises:
        WrongType: the seed is no whole number.
    """
    whole = hasattr(seed, "__index__") and not isinstance(seed, bool | torch.Tensor)
    check_type("seed", seed, whole, "a whole number")
    return torch.Generator().manual_seed(seed)


def seed_of(*numbers: int) -> int:
    """Return a seed that is mixed from numbers, such as that of a run and that of a step: no two streams overlap."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def map_tensors(inputs: Inputs, change: Callable[[Tensor], Tensor]) -> Any:
    """Return inputs of the same structure with other tensors in their places."""
    return tree_map_only(Tensor, change, dict(inputs) if isinstance(inputs, Mapping) else inputs)


PLAIN = (
    int, float, complex, str, bytes, bool, type(None), type, torch.dtype, torch.device, torch.Size, torch.layout,
    torch.memory_format, FunctionType,
)  # fmt: skip
"""What holds no tensor and is its own copy."""
EXACTLY_PLAIN = frozenset(PLAIN)


def flatten(value: Any, *, spend: bool = False) -> list[Tensor]:
    """Return the tensors anywhere in what a network takes or returns, in order.

    Containers and mappings are looked through, and the attributes of other objects, each once.

    Args:
        value: anything.
        spend: whether generators are looked through too, which uses them up: for what a network returns.
    """
    tensors: list[Tensor] = []
    _gather(value, tensors, {}, spend)
    return tensors


def places_of(outputs: Sequence[int], count: int) -> set[int]:
    """Return the places that are named among so many outputs; all where none is, or none of them is there.

    >>> places_of((-1,), 3), places_of((), 2)
    ({2}, {0, 1})
    """
    named_ones = {place % count for place in outputs if -count <= place < count}
    return named_ones or set(range(count))


def check_outputs(outputs: Sequence[int], count: int) -> None:
    """Refuse places that a network's outputs don't have.

    Raises:
        UsageError: the first that is not there.
    """
    for place in outputs:
        if not -count <= place < count:
            said = f"the network gives {count} tensor(s)"
            raise UsageError(f"{named('outputs', place)}: {said}, counted from 0, or from -1 at the end")


def only_outputs(function: Callable[[Any, Any], Any], outputs: Sequence[int]) -> Callable[[Any, Any], Any]:
    """Return a loss that is given the named ones among a network's outputs alone; a single one is not in a list."""

    def of_named(given: Any, target: Any) -> Any:
        tensors = flatten(given, spend=True)
        chosen = [tensors[place] for place in sorted(places_of(outputs, len(tensors)))]
        return function(chosen[0] if len(chosen) == 1 else chosen, target)

    return of_named if outputs else function


def _gather(value: Any, tensors: list[Tensor], seen: dict[int, Any], spend: bool) -> None:
    if isinstance(value, Tensor):
        tensors.append(value)
        return
    kind = type(value)
    if kind in EXACTLY_PLAIN or id(value) in seen or isinstance(value, (*PLAIN, ModuleType, nn.Module)):
        return
    seen[id(value)] = value  # held, so that no other object takes its number meanwhile
    if isinstance(value, list | tuple | set | frozenset | deque):
        parts: Any = value
    elif isinstance(value, Mapping):
        parts = value.values()
    elif isinstance(value, Iterator):
        parts = list(value) if spend else ()
    else:
        parts = _attributes(value)
    for part in parts:
        _gather(part, tensors, seen, spend)


def _attributes(value: Any) -> list[Any]:
    """Return what an object holds, in slots and out of them."""
    slots: list[str] = []
    for kind in type(value).__mro__:
        names = vars(kind).get("__slots__", ())
        slots += (names,) if isinstance(names, str) else names
    held = [getattr(value, name) for name in slots if name not in ("__dict__", "__weakref__") and hasattr(value, name)]
    return held + list(getattr(value, "__dict__", {}).values())


_DEVICES = ("cpu", "cuda", "mps", "xpu")  # that torch can be made with; "meta" holds no numbers


def check_device(name: str) -> torch.device:
    """Return the device of that name after putting an empty tensor there.

    Raises:
        UsageError: no such device, or one that this machine or this build of torch does not have.
    """
    kind = str(name).partition(":")[0]
    known = [word for word in _DEVICES if word == kind]
    if not known:
        hint = "; did you mean 'cuda'?" if kind.lower() in ("gpu", "nvidia") else nearest(kind, _DEVICES)
        raise UsageError(f"{named('device', name)}: expected cpu, cuda or cuda:1{hint}")
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = words_of(error).partition(". ")[0].partition("; ")[0][:160]
        raise UsageError(f"{named('device', name)}: not here; `ranp doctor` lists what is ({reason})") from None
    return torch.device(name)
