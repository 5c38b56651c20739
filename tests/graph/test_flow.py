"""Fields under views."""

import numpy as np

from ranp.graph.flow import blocks, merged_size, reshape_field, squeeze_constant, varying


def test_blocks_are_the_shortest() -> None:
    assert blocks((2, 6, 5), (2, 2, 3, 5)) == (
        (range(0, 1), range(0, 1)),
        (range(1, 2), range(1, 3)),
        (range(2, 3), range(3, 4)),
    )


def test_channels_split_into_factors() -> None:
    field = np.arange(6).reshape(1, 6, 1)
    assert reshape_field(field, (2, 6, 5), (2, 2, 3, 5)).tolist() == [[[[0], [1], [2]], [[3], [4], [5]]]]


def test_flattening_repeats_each_channel_for_its_positions() -> None:
    field = np.arange(2).reshape(1, 2, 1)
    assert reshape_field(field, (4, 2, 3), (4, 6)).tolist() == [[0, 0, 0, 1, 1, 1]]
    assert merged_size(field, (4, 2, 3), (4, 6)) == 6


def test_an_axis_of_equal_classes_is_dropped() -> None:
    field = np.array([[0, 1], [2, 3]])
    assert squeeze_constant(field, np.array([[0, 1], [0, 1]])).tolist() == [[0, 1]]
    assert varying(field) == (0, 1)
