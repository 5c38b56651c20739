"""The examples in the docstrings print what they say."""

import doctest
import importlib

import pytest


@pytest.mark.parametrize("name", ["models", "models.blocks", "models.settings", "data", "data.batches"])
def test_docstrings(name: str) -> None:
    results = doctest.testmod(importlib.import_module(f"ranp.{name}"))
    assert results.attempted > 0
    assert results.failed == 0
