"""The largest sparsity is a rank: compared with trying every rank."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ranp.selection._ranking import STEP, Global, Ranking, at_random, by_elements, by_layer, by_scores

Needs = list[list[tuple[str, np.ndarray, int]]]


def lives(ranking: Ranking, needs: Needs, sparsity: float) -> bool:
    """Whether every group has what it needs, by counting what is kept."""
    kept = ranking.keep(sparsity)
    return all(any(kept[name][where].sum() >= count for name, where, count in group) for group in needs)


@st.composite
def cases(draw: st.DrawFn) -> tuple[dict[str, np.ndarray], Needs]:
    """Scores with ties of one to four layers, and groups that need one or two of one or two layers."""
    sizes = draw(st.lists(st.integers(2, 7), min_size=1, max_size=4))
    generator = np.random.default_rng(draw(st.integers(0, 10_000)))
    values = {f"layer{i}": generator.integers(1, 9, size).astype(float) for i, size in enumerate(sizes)}
    names = list(values)
    needs: Needs = []
    for _ in range(draw(st.integers(1, 3))):
        members = generator.choice(names, size=min(len(names), draw(st.integers(1, 2))), replace=False)
        needs.append([(name, np.arange(len(values[name])), int(draw(st.integers(1, 2)))) for name in members])
    return values, needs


@pytest.mark.parametrize("rule", ["global", "layerwise", "random", "elements"])
@settings(max_examples=60, deadline=None)
@given(case=cases())
def test_largest_sparsity_is_feasible_and_the_next_step_is_not(rule: str, case: tuple) -> None:
    values, needs = case
    draws = {name: np.arange(len(each)) for name, each in values.items()}
    ranking: Ranking
    if rule == "global":
        ranking = by_scores(values, draws)
    elif rule == "layerwise":
        ranking = by_layer(values, draws)
    elif rule == "random":
        ranking = at_random({name: len(each) for name, each in values.items()}, seed=3)
    else:
        elements = {name: np.stack([each, each / 2]) for name, each in values.items()}
        ranking = by_elements(elements, values, draws)
    largest = ranking.largest(needs)
    assert lives(ranking, needs, largest)
    above = largest + STEP
    assert above >= 1 or not lives(ranking, needs, above)


def test_global_floors_the_float_product_and_orders_equal_scores_by_the_draw() -> None:
    values = {"a": np.array([3.0, 2.0, 2.0, 1.0]), "b": np.arange(6.0)}
    ranking = by_scores(values, {"a": np.array([0, 7, 8, 1]), "b": np.array([3, 4, 9, 2, 5, 6])})
    assert ranking.rank(0.9) == 0  # int(10 * (1 - 0.9)) is int(0.9999...)
    assert ranking.keep(0.5)["a"].tolist() == [True, True, False, False]  # k = 5: 5 4 3 3 and the 2 drawn first
    assert ranking.keep(0.5)["b"].tolist() == [False, False, False, True, True, True]


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.25, 0.5, 0.75])
def test_equal_scores_lose_exactly_what_is_asked(sparsity: float) -> None:
    values = {"a": np.zeros(12), "b": np.zeros(8)}
    draw = np.random.default_rng(1).permutation(20)
    draws = {"a": draw[:12], "b": draw[12:]}
    kept = by_scores(values, draws).keep(sparsity)
    assert sum(int(each.sum()) for each in kept.values()) == int(20 * (1 - sparsity))
    elements = {name: np.zeros((len(each), 3), np.float32) for name, each in values.items()}
    kept = by_elements(elements, values, draws).keep(sparsity)
    assert sum(int(each.sum()) for each in kept.values()) == pytest.approx(20 * (1 - sparsity), abs=1)


def test_distinct_elements_rank_as_the_threshold_does() -> None:
    generator = np.random.default_rng(0)
    elements = {name: generator.random((size, 4)).astype(np.float32) for name, size in (("a", 9), ("b", 5))}
    neurons = {name: each.max(1).astype(np.float64) for name, each in elements.items()}
    ranking = by_elements(elements, neurons, {"a": np.arange(9), "b": np.arange(5)})
    pool = np.sort(np.concatenate([each.ravel() for each in elements.values()]))[::-1]
    for rank in range(1, len(pool)):
        kept = ranking.keep(1 - (rank + 0.5) / len(pool))
        assert all((kept[name] == (neurons[name] >= pool[rank - 1])).all() for name in elements)


def test_layerwise_keeps_the_ceiling_of_each_layer() -> None:
    values = {"a": np.arange(5.0), "b": np.arange(2.0)}
    kept = by_layer(values, {"a": np.arange(5), "b": np.arange(2)}).keep(0.7)
    assert [int(each.sum()) for each in kept.values()] == [2, 1]


def test_random_drops_what_the_legacy_generator_draws() -> None:
    ranking = at_random({"a": 30, "b": 70}, seed=0)
    dropped = np.random.RandomState(0).choice(np.arange(100), 37, replace=False)
    kept = np.concatenate(list(ranking.keep(0.37).values()))
    assert sorted(np.flatnonzero(~kept)) == sorted(dropped)


def test_random_leaves_the_global_generator_alone() -> None:
    before = np.random.get_state()[1].tolist()  # type: ignore[index]
    at_random({"a": 10}, seed=0)
    assert np.random.get_state()[1].tolist() == before  # type: ignore[index]


def test_nothing_needed_still_keeps_something() -> None:
    assert Global({"a": np.arange(1, 5)}, 4).largest([]) < 1
