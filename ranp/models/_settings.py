"""A factory's settings: which keys it takes and of which type, told to the user before the factory runs.

The signature and its annotations are the only source. An annotation that says nothing checkable accepts every value,
and the factory itself has the last word.
"""

import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ranp.errors import UsageError, nearest, setting

_KEYWORD = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def check_settings(factory: Callable[..., Any], settings: Mapping[str, Any], owner: str) -> None:
    """Refuse settings that the factory does not take.

    Args:
        factory: a class or function; called with `settings` as keywords later.
        settings: the `--set` pairs.
        owner: how the user named the factory, for the message.

    Raises:
        UsageError: an unknown key (with the nearest), a missing one, or a value that its annotation excludes.
    """
    parameters = _parameters(factory)
    if parameters is None:
        return
    if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        _check_keys(parameters, settings, owner)
    hints = _hints(factory)
    for key, value in settings.items():
        if not accepts(hints.get(key, Any), value):
            raise UsageError(f"{setting(key, value)}: {owner} expects {_spell(hints[key])}")


def accepts(annotation: Any, value: Any) -> bool:
    """Whether a value read from YAML can stand where the annotation is written.

    >>> accepts(int, "three"), accepts(float, 3), accepts(int, True), accepts(Sequence[int], [1, 2])
    (False, True, False, True)
    """
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return any(accepts(choice, value) for choice in inner)
    if origin is typing.Literal:
        return value in inner
    if origin is not None and isinstance(origin, type) and issubclass(origin, Sequence):
        return isinstance(value, Sequence) and not isinstance(value, str) and _accepts_items(inner, value)
    if annotation in (int, float):
        return isinstance(value, (int, annotation)) and not isinstance(value, bool)
    if annotation in (bool, str):
        return isinstance(value, annotation)
    return value is None if annotation in (None, type(None)) else True


def _accepts_items(inner: tuple[Any, ...], value: Iterable[Any]) -> bool:
    items = list(value)
    if not inner:
        return True
    if len(inner) == 1 or inner[-1] is Ellipsis:
        return all(accepts(inner[0], item) for item in items)
    return len(items) == len(inner) and all(map(accepts, inner, items))


def _check_keys(parameters: Mapping[str, inspect.Parameter], settings: Mapping[str, Any], owner: str) -> None:
    known = [name for name, parameter in parameters.items() if parameter.kind in _KEYWORD]
    for key in settings:
        if key not in known:
            raise UsageError(f"{setting(key)}: {owner} takes {', '.join(known) or 'no settings'}{nearest(key, known)}")
    needed = [name for name in known if parameters[name].default is inspect.Parameter.empty and name not in settings]
    if needed:
        raise UsageError(f"{owner} needs {' and '.join(setting(name, ...) for name in needed)}")


def _parameters(factory: Callable[..., Any]) -> Mapping[str, inspect.Parameter] | None:
    try:
        return inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return None


def _hints(factory: Callable[..., Any]) -> dict[str, Any]:
    function = inspect.getattr_static(factory, "__init__") if isinstance(factory, type) else factory
    try:
        return typing.get_type_hints(function)
    except (NameError, TypeError, AttributeError):
        return {}


def _spell(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("collections.abc.", "")
