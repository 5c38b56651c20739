"""Property tests draw the same examples in every run; `make random` is where others are tried."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

from ranp.errors import on_command_line

settings.register_profile("same", derandomize=True, deadline=None)
settings.load_profile("same")
torch.set_num_threads(1)  # as `make test` has it: a process that is killed has one, and rounding is by their number


@pytest.fixture
def typed() -> Iterator[None]:
    """Let messages be written as on the command line."""
    with on_command_line():
        yield
