"""Where the numbers come from that a forward asks for sizes with: read off a tensor, held by a module, or written.

`x.view(b, c // 4, 4, -1)` says nothing of channels that ATen keeps: there it is four integers. While the network runs,
what it reads of a shape and what its modules hold are therefore marked integers that remember where they come from,
through arithmetic too. A plain integer was written in the code, or came through something that forgets (`int(...)`,
NumPy), which the code around the call tells.
"""

import operator
import sys
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ranp.graph.flow import Flow
from ranp.graph.sizes import Key, numbers_of, set_number


@dataclass(frozen=True, slots=True, eq=False)
class Read:
    """A size read off a tensor that carries channels; without a flow, off a parameter or something not followed."""

    flow: Flow | None = None
    dim: int = 0


@dataclass(frozen=True, slots=True)
class Held:
    """A number that a module holds: the module's path, and where in it."""

    module: str
    key: Key


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """A number computed from two others, one of which is marked."""

    action: Callable[[int, int], int]
    left: "Number | int"
    right: "Number | int"


Origin = Read | Held | Made


class Number(int):
    """An integer that knows where it comes from.

    Args:
        value: the number.
        origin: where it comes from.
        compared: told when it equals another number, marked or not, that it is compared with.
    """

    origin: Origin
    compared: Callable[["Number", int], None] | None

    def __new__(
        cls, value: int, origin: Origin = Read(), compared: Callable[["Number", int], None] | None = None
    ) -> "Number":
        """Mark a number."""
        number = super().__new__(cls, value)
        number.origin, number.compared = origin, compared
        return number

    def __eq__(self, other: object) -> bool:
        """Compare, and tell where the two are equal."""
        same = int.__eq__(self, other)
        if same is True and isinstance(other, int) and self.compared is not None:
            self.compared(self, other)
        return same

    def __ne__(self, other: object) -> bool:
        """Compare, and tell where the two are equal."""
        same = self.__eq__(other)
        return same if same is NotImplemented else not same

    __hash__ = int.__hash__

    def __deepcopy__(self, memo: Any) -> "Number":
        return self

    def __reduce__(self) -> Any:
        return int, (int(self),)


def _arithmetic(name: str, action: Callable[[int, int], int], *, swapped: bool) -> Callable[[Any, Any], Any]:
    plain = getattr(int, name)

    def method(self: Number, other: Any) -> Any:
        value = plain(self, other)
        if type(value) is not int or isinstance(other, bool):
            return value
        left, right = (other, self) if swapped else (self, other)
        return Number(value, Made(action, left, right), self.compared)

    return method


_ACTIONS = {"add": operator.add, "sub": operator.sub, "mul": operator.mul, "floordiv": operator.floordiv}
_ACTIONS |= {"mod": operator.mod}
for _name, _action in _ACTIONS.items():
    setattr(Number, f"__{_name}__", _arithmetic(f"__{_name}__", _action, swapped=False))
    setattr(Number, f"__r{_name}__", _arithmetic(f"__r{_name}__", _action, swapped=True))


def _negated(self: Number) -> Number:
    return Number(-int(self), Made(operator.sub, 0, self), self.compared)


setattr(Number, "__neg__", _negated)  # noqa: B010


def in_units(number: Number, units: Callable[[Flow], Flow]) -> Number:
    """Return a number of which what was read carries units where it carried labels."""

    def side(part: Number | int) -> Number | int:
        return in_units(part, units) if isinstance(part, Number) else part

    origin = number.origin
    if isinstance(origin, Made):
        return Number(int(number), Made(origin.action, side(origin.left), side(origin.right)))
    if isinstance(origin, Read) and origin.flow is not None:
        return Number(int(number), Read(units(origin.flow), origin.dim))
    return number


def leaves(number: object) -> list[Number]:
    """Return the marked numbers that a number was computed from."""
    if not isinstance(number, Number):
        return []
    origin = number.origin
    return [*leaves(origin.left), *leaves(origin.right)] if isinstance(origin, Made) else [number]


def held_in(number: object) -> list[Held]:
    """Return the numbers of modules that a number was made from."""
    return [leaf.origin for leaf in leaves(number) if isinstance(leaf.origin, Held)]


def only_held(number: object) -> bool:
    """Whether a number was made from those of modules, and nothing that was read took part."""
    return all(isinstance(leaf.origin, Held) for leaf in leaves(number))


def solved(number: Number | int, target: int, size_of: Callable[[Read, int], int]) -> int | None:
    """Return what the one number of a module among those a number was made from must be for it to be a target.

    Args:
        number: made from exactly one number that a module holds.
        target: what it is to be.
        size_of: what was read, in the slim network, given what it was.
    """
    origin = number.origin if isinstance(number, Number) else None
    if isinstance(origin, Held):
        return target
    if not isinstance(origin, Made):
        return None
    if held_in(origin.left):
        side, other = origin.left, _value(origin.right, size_of)
        inverse = {operator.add: target - other, operator.sub: target + other, operator.floordiv: target * other}
        inverse[operator.mul] = target // other if other else target
    else:
        side, other = origin.right, _value(origin.left, size_of)
        inverse = {operator.add: target - other, operator.sub: other - target}
        inverse[operator.mul] = target // other if other else target
        inverse[operator.floordiv] = other // target if target else other
    return solved(side, inverse[origin.action], size_of) if origin.action in inverse else None


def _value(number: Number | int, size_of: Callable[[Read, int], int]) -> int:
    """Return a number made from no module's as it is in the slim network."""
    origin = number.origin if isinstance(number, Number) else None
    if isinstance(origin, Made):
        return origin.action(_value(origin.left, size_of), _value(origin.right, size_of))
    return size_of(origin, int(number)) if isinstance(origin, Read) else int(number)


def mark_numbers_(
    model: nn.Module, compared: Callable[[Number, int], None], follows: Callable[[nn.Module], bool]
) -> None:
    """Mark the numbers that the modules of a private copy hold.

    Args:
        model: changed in place.
        compared: see `Number`.
        follows: whether a module's own sizes are set from its parameters in a slim network: they count as read.
    """
    for path, module in model.named_modules():
        known = follows(module)
        for key, number in list(numbers_of(module)):
            if not known:
                set_number(module, key, Number(number, Held(path, key), compared))
            elif key[1] is None:
                vars(module)[key[0]] = Number(number)


# What a call asks for

Asking = Number | int | None
"""A size a call asks for: marked, written in the code, or unknown, which follows until a slim run says otherwise."""
FORGETFUL = {"int", "round", "math", "np", "numpy", "floor", "ceil", "sqrt", "prod", "rearrange", "einops", "numel"}


@dataclass
class Asked:
    """The call of a PyTorch function by the network's code, as it stands there.

    Args:
        name: of the function.
        args: its arguments, of which the first is the tensor of a method.
        kwargs: likewise.
    """

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    _forgetful: bool | None = None

    def argument(self, place: int, name: str) -> Any:
        """Return an argument by its place or its name, None where it was not given."""
        return self.args[place] if len(self.args) > place else self.kwargs.get(name)

    def told(self, value: Any) -> Asking:
        """Return a number as it was asked for; a plain one where the code around may have forgotten is unknown."""
        if isinstance(value, Number):
            return value
        if isinstance(value, bool) or not isinstance(value, int) or value == -1 or self._forgets():
            return None
        return value

    def sizes(self, count: int) -> list[Asking] | None:
        """Return the sizes that a view, an expansion or a new tensor asks for, where there are so many."""
        args = list(self.args)
        first = 0 if args and not isinstance(args[0], Tensor) else 1
        if self.name == "unflatten":
            dim, parts = self.argument(1, "dim"), self.argument(2, "sizes")
            before = dim % (args[0].ndim or 1)
            sizes = [None] * before + [*parts] + [None] * (count - before - len(parts))
        elif self.name in ("view_as", "reshape_as", "expand_as", *LIKE):
            return None
        else:
            given: Any = args[first:] or [self.kwargs.get("size", self.kwargs.get("shape", ()))]
            sizes = list(given[0] if isinstance(given[0], list | tuple) else given)
        return [self.told(each) for each in sizes] if len(sizes) == count else None

    def slice(self, dim: int, bounds: tuple[int, int], length: int) -> tuple[Asking, Asking]:
        """Return the bounds of a slice of an index, as they stand in it.

        Args:
            dim: the dimension that is cut, of those that are left when it is.
            bounds: where the part begins and ends.
            length: of the whole.
        """
        index = self.args[1] if len(self.args) > 1 else ()
        parts, here = index if isinstance(index, tuple) else (index,), 0
        for position, part in enumerate(parts):
            if isinstance(part, slice):
                if here == dim and part.indices(length)[:2] == bounds:
                    return self.told(part.start), self.told(part.stop)
            elif part is Ellipsis:
                left = sum(isinstance(each, slice | int) and not isinstance(each, bool) for each in parts[position:])
                gone = sum(isinstance(each, int) and not isinstance(each, bool) for each in parts[:position])
                here = self.args[0].ndim - gone - left
                continue
            here += not (isinstance(part, int) and not isinstance(part, bool))
        return None, None

    @cached_property
    def marks(self) -> Hashable:
        """Return what tells a call from another of the same values: where its numbers come from."""
        return self.name, _marks(self.args), tuple((key, _marks(value)) for key, value in self.kwargs.items())

    def _forgets(self) -> bool:
        if self._forgetful is None:  # a cached property's own frame would be taken for the network's
            frame = _frame()
            named = set() if frame is None else {*frame.f_code.co_names, *frame.f_code.co_varnames}
            self._forgetful = frame is None or bool(FORGETFUL & named) or "einops" in frame.f_code.co_filename
        return self._forgetful


def _marks(value: Any) -> Hashable:
    if isinstance(value, Number):
        origin = value.origin
        if isinstance(origin, Made):
            return origin.action, _marks(origin.left), _marks(origin.right)
        return (origin.flow, origin.dim) if isinstance(origin, Read) else origin
    if isinstance(value, list | tuple):
        return tuple(map(_marks, value))
    if isinstance(value, slice):
        return _marks(value.start), _marks(value.stop), _marks(value.step)
    return value if isinstance(value, int | str) else None


LIKE = ("zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like", "randint_like")
_PARTS = (f"{torch.__file__.rpartition('/')[0]}/", f"{__file__.rpartition('/')[0]}/")


def _frame() -> FrameType | None:
    """Return the frame of the network's own code that runs."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_code.co_filename.startswith(_PARTS):
        frame = frame.f_back
    return frame


def line() -> str:
    """Return file and line of the network's own code that runs: "net.py:12"."""
    frame = _frame()
    return "" if frame is None else f"{frame.f_code.co_filename.rpartition('/')[2]}:{frame.f_lineno}"


_SHAPE = Tensor.shape.__get__  # type: ignore[attr-defined]
_PRODUCTS = {torch._C._nn.linear, torch.matmul, Tensor.matmul, Tensor.__matmul__}


def _in_rows(product: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Multiply what has more than two dimensions by a matrix as so many rows.

    PyTorch does either this or a batch of products, by the strides of what it is given, which a width of 1 decides.
    """

    def rows(left: Tensor, right: Tensor, *rest: Any, **kwargs: Any) -> Tensor:
        if left.ndim < 3 or right.ndim != 2 or not left.numel():
            return product(left, right, *rest, **kwargs)
        flat = product(left.reshape(-1, left.shape[-1]), right, *rest, **kwargs)
        return flat.view(*left.shape[:-1], flat.shape[-1])

    return rows


class Asks(TorchFunctionMode):
    """Marks what a network reads of shapes, and keeps the call that runs; asking for gradients is let pass.

    Args:
        sizes: the marked shape of a tensor, None where nothing of it is worth a mark.
        own: whether the code that runs is of a layer whose sizes follow from its parameters.
        listed: the values of a tensor, which a functionalised one has no storage for.
    """

    def __init__(
        self,
        sizes: Callable[[Tensor], list[int] | None] | None = None,
        own: Callable[[], bool] = lambda: False,
        listed: Callable[[Tensor], Any] = Tensor.tolist,
    ) -> None:
        super().__init__()
        self.sizes, self.own, self.listed = sizes, own, listed
        self.asked: Asked | None = None

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run a function."""
        if func is Tensor.requires_grad_:  # a functionalised run can't have gradients of what it makes
            return args[0]
        kwargs = kwargs or {}
        if func is Tensor.tolist:
            return self.listed(args[0])
        name = getattr(func, "__name__", "")
        if func in _PRODUCTS and len(args) > 1:
            func = _in_rows(func)
        if self.sizes is None:
            return func(*args, **kwargs)
        if (name == "__get__" and func == _SHAPE) or func is Tensor.size:
            marked = self.sizes(args[0])
            if marked is not None:
                dim = args[1] if len(args) > 1 else kwargs.get("dim")
                return torch.Size(marked) if dim is None else marked[dim]
            return func(*args, **kwargs)
        before, self.asked = self.asked, None if self.own() else Asked(name, args, kwargs)
        try:
            return func(*args, **kwargs)
        finally:
            self.asked = before
