"""A factory's settings: which keys it takes and of which type, told to the user before the factory runs.

The signature and its annotations are the only source. An annotation that says nothing checkable accepts every value,
and the factory itself has the last word.
"""

import importlib
import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from torch import nn

from ranp.errors import UsageError, nearest, setting

_KEYWORD = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def check_settings(factory: Callable[..., Any], settings: Mapping[str, Any], owner: str, flag: str = "--set") -> None:
    """Refuse settings that the factory does not take.

    Args:
        factory: a class or function; called with `settings` as keywords later.
        settings: the `--set` pairs.
        owner: how the user named the factory, for the message.
        flag: the option they were given by.

    Raises:
        UsageError: an unknown key (with the nearest), a missing one, or a value that its annotation excludes.
    """
    parameters = _parameters(factory)
    if parameters is None:
        return
    if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        _check_keys(parameters, settings, owner, flag)
    hints = _hints(factory)
    for key, value in settings.items():
        if not accepts(hints.get(key, Any), value):
            raise UsageError(f"{setting(key, value, flag)}: {owner} expects {_spell(hints[key])}")


def integers(factory: Callable[..., Any], settings: Mapping[str, Any]) -> dict[str, int | None]:
    """Return the settings of a factory that may be whole numbers, with what they are if they are not changed.

    Args:
        factory: a class or function.
        settings: that are given.
    """
    parameters, hints = _parameters(factory) or {}, _hints(factory)
    values = {
        name: settings.get(name, None if p.default is inspect.Parameter.empty else p.default)
        for name, p in parameters.items()
        if p.kind in _KEYWORD
    }
    values |= {name: value for name, value in settings.items() if name not in values}
    return {
        name: value
        for name, value in values.items()
        if not isinstance(value, bool) and (isinstance(value, int) or (value is None and hints.get(name) is int))
    }


def with_classes(factory: Callable[..., Any], settings: Mapping[str, Any], owner: str) -> dict[str, Any]:
    """Return settings with the class in the place of its dotted name, where the factory wants a class.

    That is where the annotation or the default says so, or where neither says anything and the name is one of a module
    class. What a name leads to must be a module class, or something of torch.nn: settings may come from a file, and of
    what a file names nothing else is called. Only torch, the package of the factory and what is imported already are
    looked in.

    Raises:
        UsageError: a class is expected, and the name leads to none.
    """
    parameters, hints = _parameters(factory) or {}, _hints(factory)
    home = getattr(factory, "__module__", "").partition(".")[0]
    changed = dict(settings)
    for key, value in settings.items():
        if not isinstance(value, str):
            continue
        default = parameters[key].default if key in parameters else inspect.Parameter.empty
        wants = _wants_class(hints.get(key, Any)) or (
            isinstance(default, type) and default is not inspect.Parameter.empty and key not in hints
        )
        says_nothing = hints.get(key, Any) is Any and default in (inspect.Parameter.empty, None)
        if wants or (says_nothing and re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", value)):
            found = _class_named(value, home)
            if found is None and wants:
                raise UsageError(
                    f"{setting(key, value)}: {owner} expects a class by its dotted name, such as torch.nn.Conv3d"
                )
            changed[key] = value if found is None else found
    return changed


def _wants_class(annotation: Any) -> bool:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        parts = [part for part in typing.get_args(annotation) if part is not type(None)]
        return bool(parts) and all(map(_wants_class, parts))
    return annotation is type or typing.get_origin(annotation) in (type, Callable)


def _class_named(name: str, home: str) -> Any:
    where, _, last = name.rpartition(".")
    if where.partition(".")[0] in ("torch", home):
        with suppress(ImportError, ValueError):
            importlib.import_module(where)
    found = getattr(sys.modules.get(where), last, None)
    if isinstance(found, type) and issubclass(found, nn.Module):
        return found
    return found if callable(found) and where.startswith("torch.nn") else None


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


def _check_keys(
    parameters: Mapping[str, inspect.Parameter], settings: Mapping[str, Any], owner: str, flag: str
) -> None:
    known = [name for name, parameter in parameters.items() if parameter.kind in _KEYWORD]
    for key in settings:
        if key not in known:
            raise UsageError(
                f"{setting(key, flag=flag)}: {owner} takes {', '.join(known) or 'no settings'}{nearest(key, known)}"
            )
    needed = [name for name in known if parameters[name].default is inspect.Parameter.empty and name not in settings]
    if needed:
        raise UsageError(f"{owner} needs {' and '.join(setting(name, ..., flag) for name in needed)}")


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
