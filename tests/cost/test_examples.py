"""The examples in the docstrings of costs and reweighting run."""

import doctest
import importlib

import pytest

MODULES = [
    "ranp.cost",
    "ranp.cost.costs",
    "ranp.cost.polynomials",
    "ranp.cost.training",
    "ranp.reweight",
    "ranp.request",
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0
