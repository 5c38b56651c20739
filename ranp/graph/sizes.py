"""The whole numbers that modules hold: attributes, and what stands in lists, tuples, dicts and partial functions."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from torch import nn

Key = tuple[str, int | str | None]  # an attribute, and the place inside it
_OWN = frozenset(vars(nn.Module()))


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
