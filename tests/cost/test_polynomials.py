"""Polynomials in widths, and the widths themselves, against plain sums."""

import numpy as np
import torch
from torch import nn

from ranp.cost.polynomials import Evaluator, Polynomial, Widths
from ranp.graph.build import trace


def test_sums_and_products_evaluate_like_numbers() -> None:
    x, y = Polynomial({(1,): 1}), Polynomial({(2,): 1})
    several = [x * y * 2 + 3, (x + 1) * (x + -1), Polynomial(), x * 0 + 7]
    assert Evaluator(several)(np.array([1, 5, 7])).tolist() == [73, 24, 0, 7]


def test_numbers_beyond_32_bits_are_exact() -> None:
    x = Polynomial({(1,): 1})
    assert Evaluator([x * x * x * (10**6 + 1)])(np.array([1, 2**13 - 1])).tolist() == [(2**13 - 1) ** 3 * (10**6 + 1)]


def test_widths_count_kept_units_with_repeats_and_fixed_indices() -> None:
    graph = trace(nn.Sequential(nn.Conv2d(1, 6, 1), nn.Conv2d(6, 4, 1)), torch.zeros(1, 1, 2, 2))
    widths, units = Widths(graph), graph.layers[0].units
    vectors = [units, units[:3], np.concatenate([units, units[2:4], [-1, -2]]), units[::-1]]
    named = [widths.of(each) for each in vectors]
    assert named[0] == named[3]  # the order does not matter
    assert widths.of(np.array([-1, -2])).terms == {(): 2}
    evaluate, generator = widths.compiled(), np.random.default_rng(0)
    for _ in range(5):
        kept = generator.random(graph.count) < 0.5
        expected = [int(np.append(kept, [True, True])[each].sum()) for each in vectors]
        assert Evaluator(named)(evaluate(kept)).tolist() == expected
