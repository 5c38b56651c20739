"""Union-find over labels."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ranp.graph._labels import Labels
from ranp.graph.flow import FIXED, FREE, look_up


def test_ties_are_transitive_and_indexwise() -> None:
    labels = Labels()
    a, b, c = labels.new(3), labels.new(3), labels.new(3)
    labels.tie(a, b)
    labels.tie(b[::-1], c)
    assert labels.find(c).tolist() == [2, 1, 0]


def test_one_label_may_collect_many() -> None:
    labels = Labels()
    many, one = labels.new(4), labels.new(1)
    labels.tie(many, np.repeat(one, 4))
    assert len(set(labels.find(many).tolist())) == 1


def test_fixed_and_free_stand_for_themselves() -> None:
    labels = Labels()
    mine = np.array([FIXED, FREE, *labels.new(1).tolist()])
    assert labels.find(mine).tolist() == mine.tolist()


def test_a_copy_is_tied_apart() -> None:
    labels = Labels()
    a, b = labels.new(1), labels.new(1)
    labels.copy().tie(a, b)
    assert labels.find(b).tolist() == b.tolist()


def test_labels_grow_beyond_their_first_size() -> None:
    labels = Labels()
    first, many = labels.new(1), labels.new(5000)
    labels.tie(np.repeat(first, 5000), many)
    assert labels.roots().max() == 0
    assert labels.count == 5001


def test_what_is_no_unit_stays_as_it_is_or_is_told() -> None:
    numbers = np.array([[0, FREE], [FIXED, 2]])
    assert look_up(np.array([5, 6, 7]), numbers).tolist() == [[5, FREE], [FIXED, 7]]
    assert look_up(np.array([False, True, False]), numbers, True).tolist() == [[False, True], [True, False]]
    assert look_up(np.array([], dtype=bool), np.array([FIXED]), True).tolist() == [True]


def test_a_class_is_found_over_several_links() -> None:
    labels = Labels()
    one, two, three = (labels.new(1) for _ in range(3))
    labels.tie(two, three)
    labels.tie(one, two)
    assert labels.find(three).tolist() == [0]


@given(st.lists(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=6), max_size=6))
def test_classes_are_those_of_a_partition_by_hand(rounds: list[list[tuple[int, int]]]) -> None:
    labels, classes = Labels(), [{label} for label in range(12)]
    labels.new(12)
    for ties in rounds:
        labels.tie(*np.array(ties, dtype=int).reshape(-1, 2).T)
        for a, b in ties:
            joined = classes[a] | classes[b]
            for label in joined:
                classes[label] = joined
        assert [labels.alike(a, b) for a in range(12) for b in range(12)] == [
            b in classes[a] for a in range(12) for b in range(12)
        ]
    assert labels.roots().tolist() == list(map(min, classes))


def test_what_is_no_label_is_like_itself_alone() -> None:
    labels = Labels()
    mine = labels.new(1024).tolist()  # as many as it has room for at first
    for none, other in ((FIXED, FREE), (FREE, FIXED)):
        assert labels.alike(none, none)
        assert not any(labels.alike(none, label) or labels.alike(label, none) for label in (other, mine[0], mine[-1]))


def test_classes_outlast_a_growth() -> None:
    labels = Labels()
    a, b = labels.new(2)
    labels.tie(np.array([a]), np.array([b]))
    more = labels.new(1022)
    labels.tie(more[-1:], np.array([b]))
    last = labels.new(1)
    assert last.tolist() == [1024]
    assert labels.roots().tolist() == [0, 0, *range(2, 1023), 0, 1024]
