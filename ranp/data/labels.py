"""How the values in a file of labels become what a network is compared with: classes, or the masks of regions.

A file says 0, 1, 2 and 4, or 0 and 255, or sixty organs with gaps; a network of n classes is compared with 0 to n - 1.
A map says which value is which class; without one, the values that occur are taken in order. What is ignored becomes
255, which every loss leaves out.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranp.data._maps import IGNORED
from ranp.errors import UsageError, listed, named, nearest

Integers = NDArray[np.integer[Any]]
REST = "*"
_SHOWN = 5  # how many values a message lists


@dataclass(frozen=True)
class Labels:
    """What values mean.

    Args:
        classes: the class of each value; None where the values that occur are the classes, in order.
        rest: the class of every value that `classes` does not name; None where such a value is refused.
        ignored: values that do not count.
        regions: of sigmoid outputs, the values that each channel's mask is made of; () for classes.
        names: of the classes, or of the regions; () where nobody says.
        values: what values are called, for `--label-map`.
    """

    classes: Mapping[int, int] | None = None
    rest: int | None = None
    ignored: frozenset[int] = frozenset()
    regions: tuple[frozenset[int], ...] = ()
    names: tuple[str, ...] = ()
    values: Mapping[str, int] = field(default_factory=dict)

    def count(self) -> int | None:
        """Return how many classes or regions there are, None where only the values tell."""
        if self.regions:
            return len(self.regions)
        if self.classes is None:
            return None
        return max([*self.classes.values(), self.rest or 0]) + 1

    def of_values(self, occurring: Iterable[int]) -> "Labels":
        """Return labels whose classes are the values that occur, in order; 0, the background, is always one."""
        ranked = sorted({0, *occurring} - self.ignored)
        return replace(self, classes={value: rank for rank, value in enumerate(ranked)})

    def ignoring(self, value: int) -> "Labels":
        """Return labels that leave a value out."""
        classes = None if self.classes is None else {v: c for v, c in self.classes.items() if v != value}
        return replace(self, classes=classes, ignored=self.ignored | {value})

    def mapped(self, text: str) -> "Labels":
        """Return labels of a map such as "1=1,2=1,4=3", "75-89=2,*=0" or "liver=1,spleen=2"; 0 stays 0.

        Raises:
            UsageError: no such map, naming --label-map.
        """
        classes: dict[int, int] = {0: 0}
        rest = None
        for part in text.split(","):
            left, equals, right = map(str.strip, part.partition("="))
            if not equals or not right.isdigit():
                raise _no_map(text, f"expected VALUE=CLASS between commas, such as 1=1,2=1,4=3; got {part.strip()!r}")
            if left == REST:
                rest = int(right)
                continue
            for value in self._read(left, text):
                classes[value] = int(right)
        missing = sorted(set(range(max([*classes.values(), rest or 0]))) - {*classes.values(), rest})
        if missing:
            raise _no_map(text, f"no value becomes class {missing[0]}; classes are numbered from 0 without a gap")
        names = tuple(
            " + ".join(name for name, value in self.values.items() if classes.get(value) == number) or f"class {number}"
            for number in range(max([*classes.values(), rest or 0]) + 1)
        )
        return replace(self, classes=classes, rest=rest, regions=(), names=names if self.values else ())

    def split_into(self, text: str) -> "Labels":
        """Return labels of regions such as "WT=1+2+4,TC=1+4,ET=4", which may overlap.

        Raises:
            UsageError: no such regions, naming --regions.
        """
        names, regions = [], []
        for part in text.split(","):
            name, equals, right = map(str.strip, part.partition("="))
            if not equals or not name or not right:
                expected = "expected NAME=VALUE+VALUE between commas, such as WT=1+2+4,ET=4"
                raise UsageError(f"{named('regions', text)}: {expected}; got {part.strip()!r}")
            names.append(name)
            regions.append(frozenset(v for word in right.split("+") for v in self._read(word.strip(), text, "regions")))
        return replace(self, classes=None, rest=None, regions=tuple(regions), names=tuple(names))

    def answers(self, count: int) -> tuple[int, ...]:
        """Return the value in a file that stands for each of so many classes; () where one has none or several.

        Of regions it is what a voxel is that lies in the region and in no smaller one.

        >>> Labels().mapped("1=1,4=2").answers(3), Labels().mapped("1=1,2=1").answers(2)
        ((0, 1, 4), ())
        >>> Labels().split_into("WT=1+2+4,TC=1+4,ET=4").answers(3)
        (2, 1, 4)
        """
        if self.regions:
            left = [region.difference(*(r for r in self.regions if r < region)) for region in self.regions]
            alone = [next(iter(values)) for values in left if len(values) == 1]
            return tuple(alone) if len(alone) == len(self.regions) == count and len({*alone}) == count else ()
        if self.classes is None or self.rest is not None:
            return ()
        values: dict[int, list[int]] = {}
        for value, number in self.classes.items():
            values.setdefault(number, []).append(value)
        if any(len(values.get(number, ())) != 1 for number in range(count)):
            return ()
        return tuple(values[number][0] for number in range(count))

    def _read(self, word: str, text: str, option: str = "label_map") -> range | tuple[int]:
        """Read a value, its name, or a range of values such as 75-89."""
        first, dash, last = word.partition("-")
        if first.isdigit() and (not dash or last.isdigit()):
            return range(int(first), int(last or first) + 1)
        if word in self.values:
            return (self.values[word],)
        known = f" or one of {listed(self.values)}" if self.values else ""
        expected = f"{word!r} is no value{known}{nearest(word, self.values)}"
        raise UsageError(f"{named(option, text)}: {expected}")

    def apply(self, values: Integers, where: str) -> Integers:
        """Return the class of every value, 255 where it does not count; of regions the values as they are.

        Args:
            values: of any shape.
            where: the file as messages name it.

        Raises:
            UsageError: a value without a class.
        """
        if self.regions:
            return values
        occurring = occurring_in(values)
        classes = {value: value for value in occurring} if self.classes is None else self.classes
        become = {value: IGNORED if value in self.ignored else classes.get(value, self.rest) for value in occurring}
        lost = [value for value, number in become.items() if number is None]
        if lost:
            expected = f"expected labels {spell_values(sorted(classes))}, found {spell_values(lost)}"
            raise UsageError(f"{where}: {expected}; {named('label_map')} says what they are")
        if all(value == number for value, number in become.items()):
            return values
        known, numbers = np.array(occurring), np.array([become[value] for value in occurring])
        ranked = np.empty(values.shape, np.min_scalar_type(int(numbers.max())))
        for part, out in zip(
            np.atleast_2d(values), np.atleast_2d(ranked), strict=True
        ):  # at once, the places alone would take 8 bytes a voxel
            out[...] = numbers[np.searchsorted(known, part)]
        return ranked

    def masks(self, values: Integers) -> NDArray[np.float32]:
        """Return the masks of the regions, (regions, *spatial), 255 where a voxel does not count."""
        masks = np.stack([np.isin(values, sorted(region)) for region in self.regions]).astype(np.float32)
        if self.ignored:
            masks[:, np.isin(values, sorted(self.ignored))] = IGNORED
        return masks


def occurring_in(values: Integers) -> list[int]:
    """Return the values that occur, in order; a part is looked at at a time."""
    return sorted({value for part in np.atleast_2d(values) for value in np.unique(part).tolist()})


def spell_values(values: Sequence[int]) -> str:
    """Return values in words, not more than a few of them.

    >>> spell_values([253, 254, 255])
    '253, 254, 255'
    """
    more = f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else ""
    return ", ".join(f"{value:g}" for value in values[:_SHOWN]) + more


def _no_map(text: str, what: str) -> UsageError:
    return UsageError(f"{named('label_map', text)}: {what}")
