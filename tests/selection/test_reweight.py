"""Eqs. 5.9 and 5.10 against their text, by hand; published factors are tested with the published costs."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from ranp.errors import UsageError
from ranp.graph.build import trace
from ranp.selection._reweight import resource_factors, reweigh, taus, weigh


def test_every_layer_gets_the_largest_mean() -> None:
    scores = {"a": np.array([1.0, 2.0, 6.0]), "b": np.array([10.0, 30.0]), "c": np.array([1e-300, 3e-300])}
    found = weigh(scores)
    assert np.allclose(found["a"], np.array([1.0, 2.0, 6.0]) * 20 / 3)
    assert np.array_equal(found["b"], scores["b"])
    assert [np.isclose(values.mean(), 20) for values in found.values()] == [True] * 3


@pytest.mark.parametrize("same", [0.0, 5.0, 1e-12])
def test_a_layer_of_equal_scores_counts_as_at_its_mean(same: float) -> None:
    found = weigh({"a": np.full(3, same), "b": np.array([0.0, 4.0])})
    assert np.array_equal(found["a"], np.full(3, max(same, 2.0)))


def test_nothing_but_zeros_stays_zero_and_inputs_are_untouched() -> None:
    scores = {"a": np.zeros(2), "b": np.zeros(3), "none": np.zeros(0)}
    found = weigh(scores)
    assert all(not values.any() and values.dtype == np.float64 for values in found.values())
    found["a"][0] = 1
    assert scores["a"][0] == 0


def test_factors_are_one_plus_lambda_softmax_of_tau_over_its_maximum() -> None:
    tau = {"a": 200.0, "b": 100.0, "c": 0.0}
    weights = {"a": math.exp(-1), "b": math.exp(-0.5), "c": 1.0}
    expected = {name: 1 + 4 * weight / sum(weights.values()) for name, weight in weights.items()}
    assert resource_factors(tau, 4.0) == pytest.approx(expected)
    found = reweigh({name: np.array([1.0, 2.0]) for name in tau}, tau, 4.0)
    assert {name: values[1] for name, values in found.items()} == pytest.approx({k: 2 * v for k, v in expected.items()})


def test_lambda_zero_and_tau_zero_change_nothing_and_nothing_breaks() -> None:
    assert resource_factors({"a": 3.0, "b": 1.0}, 0.0) == {"a": 1.0, "b": 1.0}
    assert resource_factors({"a": 0.0, "b": 0.0}, 1.0) == {"a": 1.5, "b": 1.5}
    assert resource_factors({}, 1.0) == {}


def test_tau_is_the_layer_alone_in_the_order_of_layers_and_calls_add_up() -> None:
    shared = nn.Conv2d(2, 2, 3, padding=1)
    network = nn.Sequential(shared, nn.BatchNorm2d(2), nn.ReLU(), shared, nn.Flatten(), nn.Linear(32, 3))
    graph = trace(network, torch.zeros(1, 2, 4, 4))
    assert taus(graph, "memory") == {"0.weight": 64.0, "5.weight": 3.0}
    assert taus(graph, "flops") == {"0.weight": 64.0 * 19, "5.weight": 3.0 * 64}
    with pytest.raises(UsageError, match="flops, memory or latency"):
        taus(graph, "time")
