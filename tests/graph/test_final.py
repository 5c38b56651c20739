"""From labels to units: what is left out where none can go."""

import numpy as np

from ranp.graph._final import _some, _Units
from ranp.graph.flow import FIXED, FREE, Flow, activation
from ranp.graph.trace import Trace

TABLE = np.array([0, 1, FIXED, FIXED, FREE, FREE, 2])
"""The unit of each of seven labels."""


def flow(*fields: list[int]) -> Flow:
    return activation((2, 2, 2), [np.array(field).reshape(1, 2, 1) for field in fields], (False, False, False))


def test_fields_without_units_are_left_out() -> None:
    units = _Units(TABLE)

    def seen(labels: Flow) -> tuple[list[list[int]], tuple[bool, ...]]:
        numbered = units.flow(labels)
        assert units.flow(labels) is numbered
        return [field.ravel().tolist() for field in numbered.fields], numbered.fixed

    assert seen(flow([0, 6])) == ([[0, 2]], (False, False, False))
    assert seen(flow([0, 0])) == ([[0, 0]], (False, False, False))
    assert seen(flow([2, 6])) == ([[FIXED, 2]], (False, False, False))
    assert seen(flow([2, 3])) == ([], (False, True, False))  # what can't go is as long as it was
    assert seen(flow([4, 5])) == ([], (False, False, False))
    assert seen(flow([3, 4])) == ([[FIXED, FREE]], (False, False, False))
    assert seen(flow([2, 3], [0, 1])) == ([[0, 1]], (False, True, False))
    assert seen(flow([4, FIXED])) == ([[FREE, FIXED]], (False, False, False))
    none = activation((2, 2), [])
    assert units.flow(none) is none


def test_of_a_part_of_a_cut_one_stays_unless_one_does_anyway() -> None:
    trace = Trace()
    trace.some = [np.array(part) for part in ([0, 1], [1, 6, 4], [0, 1], [0, 2], [4, 5], [2, 3], [0, FREE], [6, FIXED])]
    assert [units.tolist() for units in _some(trace, TABLE)] == [[0, 1], [1, 2], [0]]
