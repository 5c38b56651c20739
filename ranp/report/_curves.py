"""Curves over steps as SVG of its own, drawn once, so that a page needs no script."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ranp.report._charts import short
from ranp.report._markup import Content, Html, element

_WIDTH, _HEIGHT = 420, 210  # units of the drawing
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 8, 10, 24  # around the plot
_DECADE = 20  # from this ratio on of largest to least, an axis is logarithmic
_KINDS = 6  # colours


@dataclass(frozen=True)
class Curve:
    """One line.

    Args:
        name: as the legend has it.
        points: (step, value), in the order of steps.
    """

    name: str
    points: Sequence[tuple[float, float]]


def curves(title: str, lines: Sequence[Curve], begins: Sequence[float] = (), *, dots: bool = False) -> Html | None:
    """Return a chart of curves; None where no value is finite.

    Args:
        title: above it.
        lines: one or more; what is not finite is left out.
        begins: steps at which a new round begins, marked by upright lines.
        dots: whether every point is marked.
    """
    finite = [Curve(each.name, [(x, y) for x, y in each.points if math.isfinite(y)]) for each in lines]
    finite = [each for each in finite if each.points]
    if not finite:
        return None
    xs = [x for each in finite for x, _ in each.points]
    ys = [y for each in finite for _, y in each.points]
    last, low, high = max(xs), min(ys), max(ys)
    logarithmic = low > 0 and high / low > _DECADE
    marks = _powers(low, high) if logarithmic else _round_marks(low, high)
    low, high = min(low, *marks), max(high, *marks)

    def across(x: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * x / last

    def up(y: float) -> float:
        share = math.log(y / low) / math.log(high / low) if logarithmic else (y - low) / (high - low)
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * share

    floor, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    parts: list[Content] = []
    for mark in marks:
        y = f"{up(mark):.1f}"
        parts.append(element("line", x1=_LEFT, y1=y, x2=right, y2=y, class_="gridline"))
        parts.append(element("text", short(mark), x=_LEFT - 5, y=f"{up(mark) + 3.5:.1f}", text_anchor="end"))
    for mark in _round_marks(0, last, 4):
        if mark <= last:
            anchor = "start" if not mark else "end" if across(mark) > right - 20 else "middle"
            parts.append(element("text", f"{mark:,.0f}", x=f"{across(mark):.1f}", y=_HEIGHT - 8, text_anchor=anchor))
    for step in begins:
        x = f"{across(step):.1f}"
        parts.append(element("line", x1=x, y1=_TOP, x2=x, y2=floor, class_="round"))
    for number, each in enumerate(finite):
        kind = f"curve c{number % _KINDS}"
        places = [(f"{across(x):.1f}", f"{up(y):.1f}") for x, y in each.points]
        if len(places) > 1:
            parts.append(element("polyline", points=" ".join(f"{x},{y}" for x, y in places), class_=kind))
        if dots or len(places) == 1:
            parts += [element("circle", cx=x, cy=y, r=2.6, class_=kind) for x, y in places]
    spoken = f"{title} over {last:,.0f} steps, from {short(ys[0])} to {short(ys[-1])}"
    keys = [
        element("span", element("i", class_=f"key c{number % _KINDS}"), each.name) for number, each in enumerate(finite)
    ]
    unit = "steps; upright lines: a new round" if begins else "steps"
    scale = ", logarithmic axis" if logarithmic else ""
    return element(
        "div",
        element("h3", title),
        element("svg", *parts, viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img", aria_label=spoken, class_="curves"),
        element("p", f"{unit}{scale}", class_="unit"),
        element("p", *keys, class_="dim legend") if len(keys) > 1 else None,
    )


def _round_marks(low: float, high: float, most: int = 5) -> list[float]:
    """Return two or more round values around a range, at most so many steps apart.

    >>> _round_marks(0.13, 0.87), _round_marks(0, 900, 4), _round_marks(2.0, 2.0)
    ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [0.0, 250.0, 500.0, 750.0, 1000.0], [1.5, 2.0, 2.5])
    """
    if high <= low:
        half = abs(low) / 4 or 0.5
        return [low - half, low, low + half]
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(k * power for k in (1, 2, 2.5, 5, 10) if k * power >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def _powers(low: float, high: float) -> list[float]:
    """Return the powers of ten around a range, at most six.

    >>> _powers(0.003, 2.0)
    [0.001, 0.01, 0.1, 1.0, 10.0]
    """
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    every = -(-(last - first) // 5)
    marks = [10.0**power for power in range(first, last + 1, every)]
    return marks if marks[-1] >= high else [*marks, 10.0 ** (first + every * len(marks))]
