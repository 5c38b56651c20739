import json
from pathlib import Path

import pytest

from ranp.adapters.mrf._directions import PLANE, VOLUME, steps
from ranp.errors import UsageError

INDEX = Path(__file__).parents[2] / "published" / "mrf" / "index.json"


def test_plane_is_the_table_of_the_fixtures() -> None:
    assert [list(step) for step in PLANE] == json.loads(INDEX.read_text())["convention"]["directions"]


def test_volume_follows_the_stated_order() -> None:
    assert VOLUME[:6] == ((0, 0, 1), (0, 0, -1), (0, 1, 0), (0, -1, 0), (1, 0, 0), (-1, 0, 0))
    assert VOLUME[6:18:2] == ((0, 1, -1), (0, 1, 1), (1, -1, 0), (1, 0, -1), (1, 0, 1), (1, 1, 0))
    assert VOLUME[18::2] == ((1, -1, -1), (1, -1, 1), (1, 1, -1), (1, 1, 1))


@pytest.mark.parametrize("table", [PLANE, VOLUME])
def test_steps_are_distinct_and_opposites_adjacent(table: tuple[tuple[int, ...], ...]) -> None:
    assert len(set(table)) == len(table)
    assert all(table[r ^ 1] == tuple(-entry for entry in step) for r, step in enumerate(table))


@pytest.mark.parametrize(("directions", "dims"), [(4, 2), (8, 2), (16, 2), (6, 3), (18, 3), (26, 3)])
def test_tables_are_prefixes(directions: int, dims: int) -> None:
    assert steps(directions, dims) == (PLANE if dims == 2 else VOLUME)[:directions]


def test_a_number_outside_the_table_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="directions=7: expected 4, 8, 16 in 2D; the nearest is 8"):
        steps(7, 2)
    with pytest.raises(UsageError, match="2 or 3 dimensions, got 1"):
        steps(4, 1)
