"""Who goes on and who wins: against brute force, and that nothing beats the baseline by being noisy."""

import math
from itertools import pairwise
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranp.pipeline._halving import going_on, noise, rounds, winner, within_noise


@given(st.integers(1, 40), st.integers(1, 5000), st.integers(1, 9), st.integers(2, 4))
def test_rounds_end_with_few_candidates_all_steps_and_all_seeds(
    candidates: int, steps: int, seeds: int, eta: int
) -> None:
    course = rounds(candidates, steps, seeds, eta)
    assert (course[0].candidates, course[-1].steps, course[-1].seeds) == (candidates, steps, seeds)
    assert course[-1].candidates <= eta
    for one, following in pairwise(course):
        assert following.candidates == max(2, math.ceil(one.candidates / eta)) < one.candidates
        assert following.steps / eta <= one.steps <= following.steps
        assert min(2, seeds) <= one.seeds <= following.seeds
    assert len(course) <= 1 + math.ceil(math.log(candidates, eta))


SCORES = st.integers(1, 4).flatmap(
    lambda seeds: st.lists(
        st.lists(st.integers(-20, 20).map(lambda n: n / 16), min_size=seeds, max_size=seeds), min_size=1, max_size=6
    )
)  # sixteenths, so that sums are exact


@given(SCORES, st.integers(1, 6))
def test_the_best_go_on_and_the_baseline_always(columns: list[list[float]], count: int) -> None:
    scores = {f"c{number}": values for number, values in enumerate(columns)}
    baseline = f"c{len(scores) - 1}"
    names = going_on(scores, count, baseline)
    assert baseline in names
    assert names == [name for name in scores if name in names]
    others = [name for name in names if name != baseline]
    dropped = [name for name in scores if name not in names]
    assert len(names) in (min(count, len(scores)), min(count + 1, len(scores)))
    assert all(fmean(scores[a]) >= fmean(scores[b]) for a in others for b in dropped)


@given(SCORES)
def test_the_winner_is_never_worse_than_the_baseline_beyond_the_noise(columns: list[list[float]]) -> None:
    scores = {f"c{number}": values for number, values in enumerate(columns)}
    simplicity = {name: min(number, 2) for number, name in enumerate(scores)}
    best = winner(scores, simplicity)
    lacks = fmean(scores["c0"]) - fmean(scores[best])
    assert lacks <= noise(scores["c0"], scores[best]) + 1e-12
    top = max(fmean(values) for values in scores.values())
    first = next(name for name in scores if fmean(scores[name]) == top)
    tied = [name for name in scores if within_noise(scores[first], scores[name])]
    assert best in tied
    assert simplicity[best] == min(simplicity[name] for name in tied)
    assert fmean(scores[best]) == max(fmean(scores[n]) for n in tied if simplicity[n] == simplicity[best])


@given(SCORES)
def test_noise_is_the_standard_error_of_paired_differences(columns: list[list[float]]) -> None:
    one, other = columns[0], columns[-1]
    differences = np.array(one) - np.array(other)
    expected = differences.std(ddof=1) / np.sqrt(len(differences)) if len(differences) > 1 else 0.0
    assert noise(one, other) == pytest.approx(expected, abs=1e-12)


def test_ties_go_to_the_simpler_rule() -> None:
    scores = {"uniform": [0.80, 0.90, 0.85], "profile": [0.85, 0.88, 0.90], "RANP-f": [0.86, 0.89, 0.90]}
    simplicity = {"uniform": 0, "profile": 1, "RANP-f": 2}
    # RANP-f - profile: 0.01, 0.01, 0: mean 0.0067, error 0.0033; RANP-f - uniform: 0.06, -0.01, 0.05: 0.033, 0.022
    assert not within_noise(scores["RANP-f"], scores["profile"])
    assert winner(scores, simplicity) == "RANP-f"
    scores["profile"] = [0.86, 0.90, 0.88]  # differences 0, -0.01, 0.02: 0.0033 with 0.0088
    assert winner(scores, simplicity) == "profile"
    scores["uniform"] = [0.80, 0.94, 0.89]  # 0.06, -0.05, 0.01: 0.0067 with 0.032
    assert winner(scores, simplicity) == "uniform"


def test_of_one_seed_only_equal_scores_are_a_tie() -> None:
    simplicity = {"uniform": 0, "profile": 1}
    assert winner({"uniform": [0.5], "profile": [0.5]}, simplicity) == "uniform"
    assert winner({"uniform": [0.5], "profile": [0.5001]}, simplicity) == "profile"
