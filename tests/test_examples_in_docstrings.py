import doctest

import pytest

from ranp import drawing, errors, figures, slabs


@pytest.mark.parametrize("module", [drawing, errors, slabs, figures])
def test_the_examples_in_docstrings_hold(module: object) -> None:
    found = doctest.testmod(module)  # type: ignore[arg-type]
    assert found.attempted
    assert not found.failed
