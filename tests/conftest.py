"""Property tests draw the same examples in every run; `make random` is where others are tried."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from ranp.errors import on_command_line

settings.register_profile("same", derandomize=True, deadline=None)
settings.load_profile("same")


@pytest.fixture
def typed() -> Iterator[None]:
    """Let messages be written as on the command line."""
    with on_command_line():
        yield
