"""--set-data of one layout: unknown keys are refused, values are checked where they are read."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from ranp.data.dataset import refuse_settings
from ranp.errors import UsageError, listed, named, nearest

Default = TypeVar("Default")


def named_setting(pair: str) -> str:
    """Return a setting of a layout, and its value, as the reader of a message writes them."""
    return named("data_settings", pair, flag="--set-data")


class Settings:
    """What a layout was told beside its path.

    Args:
        word: of the layout.
        given: key and value of each setting.
        known: the keys that the layout has.

    Raises:
        UsageError: a key that it has not; the nearest is given.
    """

    def __init__(self, word: str, given: Mapping[str, Any], known: Sequence[str]) -> None:
        self._given = given
        refuse_settings(given, known, word)

    def switch(self, name: str) -> bool:
        """Return true or false; false where it was not given."""
        value = self._given.get(name, False)
        if not isinstance(value, bool):
            raise UsageError(f"{named_setting(f'{name}={value}')}: expected true or false")
        return value

    def some(self, name: str, choices: Sequence[str]) -> tuple[str, ...]:
        """Return those of the words that a list names, in their order; all where it was not given."""
        value = self._given.get(name, list(choices))
        words = value if isinstance(value, list) else [value]
        for word in words:
            if word not in choices:
                expected = f"expected some of {listed(choices, 'and')}{nearest(str(word), choices)}"
                raise UsageError(f"{named_setting(f'{name}={word}')}: {expected}")
        return tuple(word for word in choices if word in words)

    def whole(self, name: str, default: Default, least: int = 1, most: int | None = None) -> int | Default:
        """Return a whole number, or the default where it was not given."""
        value = self._given.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or value < least or (most and value > most):
            up_to = f"from {least} to {most}" if most else f"of at least {least}"
            raise UsageError(f"{named_setting(f'{name}={value}')}: expected a whole number {up_to}")
        return value

    def numbers(self, name: str, default: tuple[float, ...], above_zero: bool = False) -> tuple[float, ...]:
        """Return as many numbers as the default has, or one for all; the default where none was given."""
        value = self._given.get(name)
        if value is None:
            return default
        values = tuple(value) if isinstance(value, list | tuple) else (value,) * len(default)
        plain = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        if len(values) != len(default) or not plain or (above_zero and min(values) <= 0):
            kind = "numbers above 0" if above_zero else "numbers"
            expected = f"one number or {len(default)}, such as {name}={list(default)}; {kind}"
            raise UsageError(f"{named_setting(f'{name}={value}')}: expected {expected}")
        return tuple(map(float, values))

    def word(self, name: str, default: str, choices: Sequence[str] = ()) -> str:
        """Return a word, of these where they are given."""
        value = self._given.get(name, default)
        if not isinstance(value, str) or not value or (choices and value not in choices):
            expected = listed(choices) if choices else "a name"
            near = nearest(str(value), choices)
            raise UsageError(f"{named_setting(f'{name}={value}')}: expected {expected}{near}")
        return value
