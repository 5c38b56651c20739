"""What ties say of small fields, by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranp.graph.flow import FIXED, FREE
from ranp.graph.ties import Ties

SHAPES = st.lists(st.integers(1, 3), min_size=1, max_size=3)


@st.composite
def fields(draw: st.DrawFn) -> tuple[Ties, np.ndarray]:
    """Draw a field of some of six labels, and ties among those."""
    ties, shape = Ties(), draw(SHAPES)
    ties.fresh(6)
    for a, b in draw(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=4)):
        ties.tie(np.array([a]), np.array([b]), "")
    size = int(np.prod(shape))
    return ties, np.array(draw(st.lists(st.integers(FIXED, 5), min_size=size, max_size=size))).reshape(shape)


@given(fields())
def test_an_axis_is_left_out_where_classes_are_equal_along_it(drawn: tuple[Ties, np.ndarray]) -> None:
    ties, field = drawn
    expected = ties.labels.find(field)
    for axis in range(field.ndim):
        first = expected.take([0], axis)
        expected = first if (expected == first).all() else expected
    assert ties.labels.find(ties.simplify(field)).tolist() == expected.tolist()


@given(fields())
def test_what_is_tied_to_what_stays_stays(drawn: tuple[Ties, np.ndarray]) -> None:
    ties, field = drawn
    ties.freeze(field, "because")
    kept = {int(label) for label in ties.labels.find(field).ravel() if label >= 0}
    expected = [int(root) in kept for root in ties.labels.find(np.arange(6))]
    assert ties.stays(np.arange(6)).tolist() == expected


@pytest.mark.parametrize(
    ("field", "classes", "frozen"),
    [
        ([[0, 1, 2], [3, 4, 5]], [0, 0, 0, 3, 3, 3], []),
        ([[0, 1, FREE], [3, FREE, 5]], [0, 0, 2, 3, 4, 3], []),
        ([[0, FIXED, 2], [FIXED, 4, 5]], [0, 1, 0, 3, 4, 5], [0, 4, 5]),
    ],
)
def test_a_field_is_tied_along_an_axis(field: list[list[int]], classes: list[int], frozen: list[int]) -> None:
    ties = Ties()
    ties.fresh(6)
    ties.tie_along(np.array(field), 1, "along")
    assert ties.labels.roots().tolist() == classes
    assert ties.alias.roots().tolist() == list(range(6))
    assert sorted(label for labels, why in ties.frozen for label in labels.tolist() if why == "along") == frozen
