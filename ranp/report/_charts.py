"""Charts of plain HTML: bars and ranges whose places are percentages, so that they fit any width without a script."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ranp.report._markup import Html, element

Summary = Mapping[str, float]
LONG = 24  # characters of a label that still stands beside its bar
BRIEF = 6  # of one that fits a narrow column
DECADES = 8  # a logarithmic axis shows no more, counted from the largest value


@dataclass(frozen=True)
class Bar:
    """One bar.

    Args:
        label: what it is of.
        value: its length.
        text: the number as it is read.
        kind: its colour: "full", "slim" or "other".
    """

    label: str
    value: float
    text: str
    kind: str = "slim"


def bars(rows: Sequence[Bar], *, largest: float | None = None) -> Html:
    """Return horizontal bars from zero, each with its label before and its number behind.

    Args:
        rows: from top to bottom.
        largest: the value of a full track; by default the largest there is.
    """
    whole = largest or max((row.value for row in rows), default=0.0) or 1.0
    return element("div", (_bar(row, whole) for row in rows), class_=_kind(row.label for row in rows))


def _kind(labels: Iterable[str], kind: str = "bars") -> str:
    """Return the class of a chart; long labels get room of their own, brief ones none that they do not need."""
    longest = max(map(len, labels), default=0)
    return f"{kind} long" if longest > LONG else f"{kind} brief" if longest <= BRIEF else kind


def _bar(row: Bar, whole: float) -> Html:
    width = f"width:{_percent(row.value / whole)}"
    fill = element("span", class_=f"fill {row.kind}", style=width) if row.value else None
    return element(
        "div",
        element("span", row.label, class_="label"),
        element("span", fill, class_="track"),
        element("span", row.text, class_="number"),
        class_="bar",
    )


def nested(rows: Sequence[tuple[str, Sequence[tuple[str, int]], str]], largest: int) -> Html:
    """Return tracks in which bars lie over one another, as widths before and after.

    Args:
        rows: label, (kind, value) from the longest to the shortest, text.
        largest: the value of a full track.
    """
    return element("div", (_nested(*row, largest) for row in rows), class_=_kind(row[0] for row in rows))


def _nested(label: str, values: Sequence[tuple[str, int]], text: str, largest: int) -> Html:
    fills = [element("span", class_=f"fill {kind}", style=f"width:{_percent(v / largest)}") for kind, v in values]
    return element(
        "div",
        element("span", label, class_="label"),
        element("span", fills, class_="track bare"),
        element("span", text, class_="number"),
        class_="bar",
    )


@dataclass(frozen=True)
class Axis:
    """An axis from `low` to `high`, logarithmic where both are positive."""

    low: float
    high: float

    @classmethod
    def of(cls, summaries: Iterable[Summary]) -> "Axis":
        """Return the axis that all summaries fit on: logarithmic, unless there is nothing above zero."""
        positive = [value for summary in summaries for value in summary.values() if value > 0]
        if not positive:
            return cls(0.0, 1.0)
        high = max(positive)
        low = max(min(positive), high / 10**DECADES)
        return cls(low / 1.15, high * 1.15)

    @property
    def logarithmic(self) -> bool:
        """Whether equal steps are equal ratios."""
        return self.low > 0

    def place(self, value: float) -> float:
        """Return where a value lies, from 0 to 1; what is off the axis lies at its end."""
        if self.logarithmic:
            value = max(value, self.low)
            return min(math.log(value / self.low) / math.log(self.high / self.low), 1.0)
        return min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)

    def ticks(self) -> list[float]:
        """Return two to five round values."""
        if not self.logarithmic:
            return [self.low, self.high]
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        marks = [10.0**power for power in range(first, last + 1) if self.low <= 10.0**power <= self.high]
        if len(marks) < 2:
            fine = (step * 10.0**power for power in range(first, last + 1) for step in (1, 2, 5))
            marks = [value for value in fine if self.low <= value <= self.high]
        if len(marks) < 2:
            return [self.low, self.high]
        return marks[:: -(-len(marks) // 5)]


def ranges(rows: Sequence[tuple[str, Summary, str]], axis: Axis, unit: str) -> Html:
    """Return for each row a line from the least to the largest value and a dot at the mean.

    Args:
        rows: label, {"min", "mean", "max"}, text.
        axis: of all rows.
        unit: words under the axis.
    """
    ticks = [
        element("span", short(value), class_="tick", style=f"left:{_percent(axis.place(value))}")
        for value in axis.ticks()
    ]
    scale = element(
        "div",
        element("span", class_="label"),
        element("span", ticks, class_="scale"),
        element("span", class_="number"),
        class_="bar axis",
    )
    lines = [f"left:{_percent(axis.place(value))}" for value in axis.ticks()]
    body = (_range(label, summary, text, axis, lines) for label, summary, text in rows)
    scaled = "logarithmic" if axis.logarithmic else "linear"
    kind = _kind((row[0] for row in rows), "bars ranges")
    return element("div", body, scale, element("p", f"{unit} ({scaled} axis)", class_="unit"), class_=kind)


def _range(label: str, summary: Summary, text: str, axis: Axis, lines: Sequence[str]) -> Html:
    left, right = axis.place(summary["min"]), axis.place(summary["max"])
    spoken = f"{label}: least {short(summary['min'])}, mean {short(summary['mean'])}, largest {short(summary['max'])}"
    return element(
        "div",
        element("span", label, class_="label"),
        element(
            "span",
            (element("span", class_="grid", style=line) for line in lines),
            element("span", class_="span", style=f"left:{_percent(left)};width:{_percent(right - left)}"),
            element("span", class_="dot", style=f"left:{_percent(axis.place(summary['mean']))}"),
            class_="track bare",
            title=spoken,
            role="img",
            aria_label=spoken,
        ),
        element("span", text, class_="number"),
        class_="bar",
    )


def short(value: float) -> str:
    """Write a number with two digits.

    >>> short(0.00123), short(12.0), short(0), short(1e-9)
    ('0.0012', '12', '0', '1e-9')
    """
    text = f"{value:.2g}"
    mantissa, e, power = text.partition("e")
    return f"{mantissa}e{int(power)}" if e else text


def _percent(share: float) -> str:
    return f"{100 * min(max(share, 0.0), 1.0):.2f}%"
