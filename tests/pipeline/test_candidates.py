"""The words of candidates, and the options they stand for."""

import pytest

from ranp.errors import UsageError
from ranp.options import Selection
from ranp.pipeline import CANDIDATES, METHODS, UNIFORM, candidate, candidates


def test_what_is_tried_by_default_is_spelled_as_it_is_read_and_begins_with_the_simplest() -> None:
    read = candidates()
    assert sorted(each.name for each in read) == sorted(CANDIDATES)
    assert [each.simplicity for each in read] == sorted(each.simplicity for each in read)
    assert read[0].name == UNIFORM
    assert len({(tuple(sorted(each.options.items())), each.method) for each in read}) == len(CANDIDATES)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_of_compare_is_one(name: str) -> None:
    assert dict(candidate(name.upper()).options) == METHODS[name]
    assert candidate(name).name == name


@pytest.mark.parametrize(
    ("word", "name", "options", "method"),
    [
        ("profile:1.50", "profile:1.5", {"rule": "profile", "growth": 1.5}, None),
        ("RANP-m:0", "RANP-m:0", {"reweight": "memory", "strength": 0.0}, None),
        (" Isomorphic + exact ", "isomorphic+exact", {"rule": "isomorphic", "solver": "exact"}, None),
        ("weighted+threshold", "weighted+threshold", {"rule": "global", "solver": "threshold"}, None),
        ("uniform+taylor+10%", "uniform+taylor+10%", {"rule": "uniform", "min_width": "10%"}, "taylor"),
        ("vanilla+8", "vanilla+8", {"rule": "global", "weighting": "none", "min_width": 8}, None),
        ("snip+snip", "SNIP+snip", {"rule": "snip"}, "snip"),
    ],
)
def test_words(word: str, name: str, options: dict, method: str | None) -> None:
    read = candidate(word)
    assert (read.name, read.method) == (name, method)
    asked = Selection.read({**options, "flops": "10%"})
    assert Selection.read({**read.options, "flops": "10%"}) == asked
    assert candidate(read.name) == read


def test_uniform_narrowing_is_always_there_and_nothing_twice() -> None:
    assert [each.name for each in candidates(["RANP-f", "ranp-F", "profile:1.0"])] == ["uniform", "profile", "RANP-f"]
    assert [each.name for each in candidates("uniform")] == ["uniform"]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("unifrom", "candidates='unifrom': expected one of random, .*did you mean 'uniform'"),
        ("", "candidates='': expected one of"),
        ("weighted:3", "weighted takes no number; profile, RANP-f, RANP-m or RANP-l do"),
        ("profile:wide", "expected a number after the colon, such as profile:1.5"),
        ("profile:3", "candidates='profile:3': growth=3.0: expected a number of at least 1 and up to 2"),
        ("RANP-f:nan", "candidates='RANP-f:nan': strength=nan: expected a"),
        ("RANP-f:-1", "strength=-1.0: expected a number of at least 0"),
        ("weighted+greedi", "expected a solver, a criterion or a least width after .: threshold, .*'greedy'"),
        ("weighted+0", "expected a solver, a criterion or a least width"),
        ("uniform+exact", "solver='exact': finds widths, which rule='uniform' gives"),
        ("SNIP+l1", "rule='snip' ranks weight elements: it needs method='snip', not l1"),
    ],
)
def test_mistakes(word: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        candidate(word)
