"""Names that are loaded when they are first used, so that a package's face costs no import of torch."""

import sys
from collections.abc import Callable, Mapping


def names(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` of a package.

    Args:
        package: its `__name__`.
        homes: the module of each name.
    """

    def get(name: str) -> object:
        import importlib  # with the first name: what `import ranp` loads is loaded before an interrupt is caught

        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(homes[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    def listed() -> list[str]:
        return sorted(sys.modules[package].__all__)

    return get, listed
