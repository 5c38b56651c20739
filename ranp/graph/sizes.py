"""Sizes that modules keep as plain numbers, and that count channels.

`view(b, self.channels, -1)`, `if x.shape[1] != self.num_channels: raise ...`: a network's own modules hold widths as
numbers that no parameter tells. Numbers in lists, tuples, dicts and partial functions count too. Which of them counts
which channels is found by trial (`ranp.graph._counting`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from ranp.graph.flow import Flow

Key = tuple[str, int | str | None]  # an attribute, and the place inside it
_OWN = frozenset(vars(nn.Module()))


@dataclass(frozen=True)
class Size:
    """A number of a module that counts what a dimension of a tensor carries.

    Args:
        module: its path.
        key: where it stands.
        flow: of the tensor.
        dim: the dimension.
        final: whether it was taken for another dimension's before.
    """

    module: str
    key: Key
    flow: Flow
    dim: int
    final: bool = False

    @property
    def place(self) -> tuple[str, Key]:
        """Where the number stands: no two sizes can be set there."""
        return self.module, self.key


def numbers_of(module: nn.Module) -> Iterator[tuple[Key, int]]:
    """Yield every whole number above 1 that a module holds, and where.

    >>> class Net(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.width, self.shape, self.scale = 8, (1, 8), 0.5
    >>> list(numbers_of(Net()))
    [(('width', None), 8), (('shape', 1), 8)]
    """
    for name, value in vars(module).items():
        if name not in _OWN:
            yield from (((name, place), number) for place, number in _inside(value) if _is_size(number))


def set_number(module: nn.Module, key: Key, number: int) -> None:
    """Set a number of a module; what it lies in is made anew, because another module may hold it too."""
    name, place = key
    setattr(module, name, _with(vars(module)[name], place, number))


def _is_size(number: Any) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and number > 1


def _inside(value: Any) -> Iterator[tuple[int | str | None, Any]]:
    if isinstance(value, list | tuple):
        yield from enumerate(value)
    elif isinstance(value, dict):
        yield from ((key, each) for key, each in value.items() if isinstance(key, str))
    elif isinstance(value, partial):
        yield from value.keywords.items()
        yield from enumerate(value.args)
    else:
        yield None, value


def _with(value: Any, place: int | str | None, number: int) -> Any:
    """Return a container with one number replaced."""
    if place is None:
        return number
    if isinstance(value, partial):
        keywords = {**value.keywords, place: number} if isinstance(place, str) else value.keywords
        args = [number if index == place else each for index, each in enumerate(value.args)]
        return partial(value.func, *args, **keywords)
    if isinstance(value, dict):
        return {**value, place: number}
    parts = [number if index == place else each for index, each in enumerate(value)]
    if isinstance(value, list) or type(value) is tuple:
        return type(value)(parts)
    return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
