"""Numbers as people read them."""

from collections.abc import Iterable, Mapping
from decimal import ROUND_FLOOR, Decimal

_PREFIXES = ("", "k", "M", "G", "T", "P")


def operations(count: float) -> str:
    """Write a number of operations with three or four digits.

    >>> operations(478_125_500_000)
    '478.1 G'
    """
    value, prefix = float(count), 0
    while value >= 1000 and prefix < len(_PREFIXES) - 1:
        value, prefix = value / 1000, prefix + 1
    return f"{value:.4g} {_PREFIXES[prefix]}".strip()


def size(count: float) -> str:
    """Write a number of bytes in binary units.

    >>> size(3_804_233_728)
    '3.54 GiB'
    """
    value, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.3g} {unit}" if value < 1000 else f"{value:.0f} {unit}"


def amount(name: str, count: float) -> str:
    """Write a cost in the unit of its limit.

    >>> amount("params", 12_000_000), amount("train_memory", 2**20), amount("latency", 2500)
    ('12 M', '1 MiB', '2.5 ms')
    """
    if name == "latency":
        return f"{count / 1000:.3g} ms"
    return operations(count) if name in ("params", "flops") else size(count)


def spell(size: Iterable[int]) -> str:
    """Write a shape or a size as the options do.

    >>> spell((64, 64, 32))
    '64x64x32'
    """
    return "x".join(map(str, size))


def spell_all(shapes: Iterable[Iterable[int]]) -> str:
    """Write several shapes.

    >>> spell_all([(3, 32, 64), (1, 8)])
    '3x32x64 and 1x8'
    """
    return " and ".join(map(spell, shapes))


def share(value: float) -> str:
    """Write a share in percent.

    >>> share(0.78244)
    '78.2 %'
    """
    return f"{100 * value:.1f} %"


def at_most(value: float, digits: int) -> str:
    """Write a limit with some digits, never more than it is, so that what is read can be asked for.

    >>> at_most(2 / 3, 4), at_most(0.3, 4)
    ('0.6666', '0.3000')
    """
    return str(Decimal(repr(float(value))).quantize(Decimal(1).scaleb(-digits), ROUND_FLOOR))


def saved(before: float, after: float) -> str:
    """Write what share of a cost is gone; nothing where there was none.

    >>> saved(200, 50), saved(0, 0)
    ('75.0 %', '-')
    """
    return share(1 - after / before) if before else "-"


def seconds(steps: Mapping[str, float]) -> str:
    """Write the seconds of all steps and of each.

    >>> seconds({"trace": 0.31, "score": 12.04})
    '12.3 s: trace 0.3, score 12.0'
    """
    return f"{sum(steps.values()):.1f} s: " + ", ".join(f"{name} {value:.1f}" for name, value in steps.items())
