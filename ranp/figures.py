"""Numbers as people read and write them: counts, sizes, shares, shapes, and the amounts that limits are."""

import re
from collections.abc import Iterable, Mapping
from decimal import ROUND_FLOOR, Decimal
from fractions import Fraction
from typing import Any

from ranp.errors import UsageError, named, nearest

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


def percentage(text: str) -> Fraction | None:
    """Return the share that a percentage is, exactly; None where it is none above 0 and up to 100 %.

    >>> percentage("2.5 %"), percentage("0%"), percentage("3M")
    (Fraction(1, 40), None, None)
    """
    number = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+) ?%", text.strip())
    share = Fraction(number[1]) / 100 if number else Fraction(0)
    return share if 0 < share <= 1 else None


_BYTES = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_BYTES |= {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


def read_bytes(text: str, option_name: str) -> int:
    """Read an amount of memory.

    Args:
        text: a number and a unit: 11GiB, 800 MB.
        option_name: that it was given to, in Python.

    Raises:
        UsageError: no positive number, or no such unit; the nearest is given.

    >>> read_bytes("1.5KiB", "fit"), read_bytes("2 GB", "fit")
    (1536, 2000000000)
    """
    match = re.fullmatch(r"([0-9]*\.?[0-9]+) ?([A-Za-z]*)", text.strip())
    units = {unit.lower(): count for unit, count in _BYTES.items()}
    count = int(float(match[1]) * units.get(match[2].lower(), 0)) if match else 0
    if count < 1:
        hint = nearest(match[2], _BYTES) if match and match[2] else ""
        raise UsageError(f"{named(option_name, text)}: expected bytes with their unit, such as 11GiB or 800MB{hint}")
    return count


DECIMAL = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
BINARY = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9}
TIMES = {"us": 1, "ms": 10**3, "s": 10**6}
AMOUNTS: dict[str, Mapping[str, int]] = {
    "params": DECIMAL, "flops": DECIMAL, "activations": BINARY, "infer_memory": BINARY, "train_memory": BINARY,
    "latency": TIMES,
}  # fmt: skip
"""The limits of a network's cost, and the units each is written in; a time is counted in microseconds."""
_EXAMPLES = ((DECIMAL, "12M, 3.5G"), (BINARY, "200MiB, 1.5GiB"), (TIMES, "5ms, 1.5s"))


def amount_of(name: str, amount: str, full: int) -> int:
    """Return the most that a limit lets a network cost.

    >>> amount_of("params", "12M", 10**9), amount_of("flops", "10%", 1234), amount_of("activations", "1.5KiB", 9999)
    (12000000, 123, 1536)
    >>> amount_of("latency", "2.5ms", 9999)
    2500
    """
    portion = percentage(amount)
    if portion is not None:
        return int(portion * full)
    number, unit = _number_and_unit(amount)
    return int(Fraction(number) * AMOUNTS[name][unit])


def _number_and_unit(amount: str) -> tuple[str, str]:
    parts = re.fullmatch(r"(\d+(?:\.\d*)?(?:[eE]\d+)?|\.\d+) ?([A-Za-z]*)", amount.strip())
    return (parts[1], parts[2]) if parts else ("0", "")


def amount_word(name: str, amount: Any) -> Any:
    """Return a limit that is an amount with its unit, or a share of the full network's.

    Raises:
        UsageError: it is neither, or nothing.
    """
    if amount is None:
        return None
    text = str(amount).strip() if isinstance(amount, str) or type(amount) is int else ""
    number, unit = _number_and_unit(text)
    if percentage(text) is not None or (Fraction(number) > 0 and unit in AMOUNTS[name]):
        return text.replace(" ", "")
    example = next(example for units, example in _EXAMPLES if units is AMOUNTS[name])
    raise UsageError(
        f"{named(name, amount)}: expected an amount such as {example}, or a share of the full network's up to 100%"
    )
