"""What an evaluation measured: of every case and class, of every class over the cases, of all."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ranp.data.dataset import Task
from ranp.training._loop import SCORE

_MAIN: Mapping[str, str] = {"classification": "top1", "stereo": "epe", "regression": "mae"}
_FALLS = ("hd95", "epe", "d1", "mae", "mse")  # lower is better


class Spread(NamedTuple):
    """A measure over the cases that have it.

    Args:
        mean: NaN where none has it.
        sd: between cases, divided by their number less one; NaN of fewer than two.
        cases: that have it.
        infinite: how many others are infinitely far off: the class is in the prediction alone, or in the truth alone.
    """

    mean: float
    sd: float
    cases: int
    infinite: int = 0


@dataclass(frozen=True)
class CaseScores:
    """What one case measures.

    Args:
        name: of the case.
        value: by which cases are ranked; higher is better; NaN where nothing could be measured.
        figures: of every measure a value for each class, or one where it is of the whole case. NaN says that the class
            is neither in the prediction nor in the truth.
        group: what kind of thing the case is, "" where that does not matter.
    """

    name: str
    value: float
    figures: Mapping[str, Sequence[float]]
    group: str = ""


@dataclass(frozen=True)
class Scores:
    """What an evaluation measured.

    Args:
        task: of `ranp.data.dataset.Task`, or "regression".
        classes: names of the classes that were compared, of regions those of the masks; () where there are none.
        cases: in the order they were looked at.
        overall: measures over all cases at once.
        accuracy: of classification, of each class the share of its cases that are told to be it; NaN where it has none.
        first: place of the first class that counts in means: 1 where class 0 is a background.
        unit: of distances: "mm", "voxels" or "pixels".
        tolerance: of the surface Dice, in that unit.
        source: what the cases are, in words.
        notes: what else should be known, a line each.
    """

    task: Task | str
    classes: tuple[str, ...]
    cases: tuple[CaseScores, ...]
    overall: Mapping[str, float] = field(default_factory=dict)
    accuracy: tuple[float, ...] = ()
    first: int = 0
    unit: str = ""
    tolerance: float = 1.0
    source: str = ""
    notes: tuple[str, ...] = ()

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of what was measured of every case."""
        return tuple(dict.fromkeys(name for case in self.cases for name in case.figures))

    @property
    def of_classes(self) -> bool:
        """Whether what was measured of a case are values for each class."""
        return self.task in ("segmentation", "regions")

    @property
    def never(self) -> tuple[str, ...]:
        """Names of the classes that are in no case: of masks neither in the truth nor in the prediction."""
        if self.accuracy:
            return tuple(n for n, value in zip(self.classes, self.accuracy, strict=True) if math.isnan(value))
        measured = self.measures[:1]
        if not (self.of_classes and measured):
            return ()
        return tuple(n for k, n in enumerate(self.classes) if not self.spread(measured[0], k).cases)

    def spread(self, measure: str, number: int = 0) -> Spread:
        """Return a measure of a class, or of the whole where it has none, over the cases."""
        values = np.array([case.figures[measure][number] for case in self.cases if measure in case.figures])
        finite = values[np.isfinite(values)]
        mean = float(finite.mean()) if finite.size else math.nan
        sd = float(finite.std(ddof=1)) if finite.size > 1 else math.nan
        return Spread(mean, sd, finite.size, int(np.isinf(values).sum()))

    def mean(self, measure: str) -> float:
        """Return the mean of a measure over the classes that count and occur, of each over its cases."""
        if not self.of_classes:
            return self.spread(measure).mean
        means = [self.spread(measure, k).mean for k in range(self.first, len(self.classes))]
        means = [value for value in means if not math.isnan(value)]
        return float(np.mean(means)) if means else math.nan

    @property
    def score(self) -> float:
        """The one figure of it, of which higher is better: mean Dice of the foreground, top-1, or -EPE.

        NaN where no class but the background is in any case.
        """
        if self.of_classes:
            return self.mean("dice")
        value = self.overall[_MAIN[str(self.task)]]
        return -value if _MAIN[str(self.task)] in _FALLS else value

    def figures(self) -> dict[str, float]:
        """Return plain numbers by name, the score first; what could not be measured is left out.

        Measures are means over the classes that count; `dice/NAME` is that of one class.
        """
        named = {SCORE: self.score, **self.overall}
        if self.of_classes:
            named |= {measure: self.mean(measure) for measure in self.measures}
            named |= {f"dice/{n}": self.spread("dice", k).mean for k, n in enumerate(self.classes) if k >= self.first}
        return {name: value for name, value in named.items() if math.isfinite(value)}

    def ranked(self) -> list[int]:
        """Return the places of the cases that could be measured, the best first."""
        known = [k for k, case in enumerate(self.cases) if not math.isnan(case.value)]
        return sorted(known, key=lambda k: -self.cases[k].value)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; what is not a number, or infinite, is None."""
        return {
            "task": self.task,
            "source": self.source,
            "score": _plain(self.score),
            "overall": {name: _plain(value) for name, value in self.overall.items()},
            "unit": self.unit,
            "tolerance": self.tolerance,
            "classes": [
                {"name": name, "counts": k >= self.first}
                | ({"accuracy": _plain(self.accuracy[k])} if self.accuracy else {})
                | {m: _spread(self.spread(m, k)) for m in self.measures if self.of_classes}
                for k, name in enumerate(self.classes)
            ],
            "never": list(self.never),
            "cases": [
                {"name": case.name, "value": _plain(case.value), "group": case.group}
                | {name: [_plain(value) for value in values] for name, values in case.figures.items()}
                for case in self.cases
            ],
            "notes": list(self.notes),
        }

    def rows(self) -> list[list[str]]:
        """Return a table of every case, of segmentation of every case and class, a head first; "" where undefined."""
        if not self.of_classes:
            body = [[c.name, *(_written(c.figures[m][0]) for m in self.measures)] for c in self.cases]
            return [["case", *self.measures], *body]
        return [
            ["case", "class", *self.measures],
            *(
                [case.name, name, *(_written(case.figures[m][k]) for m in self.measures)]
                for case in self.cases
                for k, name in enumerate(self.classes)
            ),
        ]


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _spread(spread: Spread) -> dict[str, float | int | None]:
    plain = {"mean": _plain(spread.mean), "sd": _plain(spread.sd), "cases": spread.cases}
    return {**plain, **({"infinite": spread.infinite} if spread.infinite else {})}


def _written(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"
