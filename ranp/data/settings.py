"""What is set with --set-data: which names a source takes, and of which kind their values are."""

from collections.abc import Mapping
from typing import Any

from ranp.errors import UsageError, named, nearest
from ranp.files import yaml_line


def check_settings(owner: str, settings: Mapping[str, Any], known: Mapping[str, str]) -> None:
    """Refuse settings that a source does not take.

    Args:
        owner: what they are given to: a layout's word.
        settings: --set-data.
        known: the names it takes, and what each expects, in words: "true or false", "a whole number", "a list", or
            words of its own, which are not checked.

    Raises:
        UsageError: a name it does not know, with the nearest, or a value of another kind.
    """
    for key, value in settings.items():
        if key not in known:
            takes = f"takes {', '.join(known)}" if known else "takes none"
            raise UsageError(f"{spelled(key)}: {owner} {takes}{nearest(key, known)}")
        kind = {"true or false": bool, "a whole number": int, "a list": list}.get(known[key], object)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise UsageError(f"{spelled(key, value)}: {owner} expects {known[key]}")


def spelled(key: str, value: object = ...) -> str:
    """Return a setting as the reader of a message writes it.

    >>> spelled("turn", True)
    "set_data='turn=true'"
    """
    return named("set_data", key if value is ... else f"{key}={yaml_line(value)}")
