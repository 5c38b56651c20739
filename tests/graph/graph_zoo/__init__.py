"""Networks to try the channel graph on: one small network for each construct, and MONAI's and our own."""

from importlib import import_module
from pkgutil import iter_modules

from graph_zoo.case import CASES, Case


def every() -> dict[str, Case]:
    """Return all networks by name."""
    for module in iter_modules(__path__):
        import_module(f"graph_zoo.{module.name}")
    return CASES
