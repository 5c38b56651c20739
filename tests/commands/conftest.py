"""What the tests of the commands share: calling the program in process."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from ranp.commands.main import app


@pytest.fixture
def ranp() -> Callable[..., Result]:
    """Call `ranp` and compare its exit code."""

    def call(*words: object, code: int = 0) -> Result:
        result = CliRunner().invoke(app, [str(word) for word in words])
        assert result.exit_code == code, f"exit code {result.exit_code}: {result.output}"
        return result

    return call


@pytest.fixture
def refused(ranp: Callable[..., Result]) -> Callable[..., str]:
    """Call `ranp` with a mistake and return the one line it says."""

    def call(*words: object, code: int = 2) -> str:
        result = ranp(*words, code=code)
        assert result.stdout == ""
        lines = [line for line in result.stderr.splitlines() if not line.startswith("step: ")]
        assert len(lines) == 1, result.stderr
        assert lines[0].startswith("error: ")
        return lines[0].removeprefix("error: ")

    return call


@pytest.fixture
def answer(ranp: Callable[..., Result]) -> Callable[..., dict[str, Any]]:
    """Call `ranp --json` and return the one object on stdout."""

    def call(*words: object, code: int = 0) -> dict[str, Any]:
        found = json.loads(ranp(*words, "--json", code=code).stdout)
        assert isinstance(found, dict)
        return found

    return call
