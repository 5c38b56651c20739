import json
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import typer
from typer.testing import CliRunner

from ranp.commands._command import add, command
from ranp.commands._console import OneLineErrors, emit_json, stdout
from ranp.commands._tables import plain_table, print_table
from ranp.errors import CheckFailed, InfeasibleError, MissingExtra, UsageError
from ranp.jobs.options import Printed

Call = Callable[..., Any]


def program(error: Exception | None = None) -> typer.Typer:
    app = typer.Typer(cls=OneLineErrors, pretty_exceptions_enable=False, rich_markup_mode=None)

    @command(Printed, "ranp work")
    def work(options: Printed) -> None:
        if error is not None:
            raise error
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("mind\nthe step", UserWarning, stacklevel=1)
        emit_json({"done": True})

    @app.command()
    def rest() -> None: ...

    add(app, work)

    return app


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UsageError("--x 1: expected 2"), 2, "error: --x 1: expected 2"),
        (InfeasibleError("too much", 0.5), 3, "error: too much"),
        (CheckFailed("not equal"), 1, "error: not equal"),
        (MissingExtra("pip install 'ranp[medical]'"), 4, "error: pip install 'ranp[medical]'"),
        (PermissionError(13, "Permission denied", "runs"), 1, "error: Permission denied: runs"),
        (MemoryError(), 3, "error: not enough memory"),
        (torch.OutOfMemoryError("CUDA out of memory."), 3, "error: not enough memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 4000 bytes"), 3, "error: not enough memory"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (ZeroDivisionError("oh"), 1, "error: ZeroDivisionError: oh (a defect in ranp"),
    ],
)
def test_errors_are_one_line_with_their_code(error: Exception, code: int, line: str) -> None:
    result = CliRunner().invoke(program(error), ["work"])
    assert result.exit_code == code
    assert result.stdout == ""
    assert result.stderr.startswith(line)
    assert result.stderr.count("\n") == 1


def test_warnings_are_lines_on_stderr() -> None:
    result = CliRunner().invoke(program(), ["work"])
    assert json.loads(result.stdout) == {"done": True}
    assert result.stderr == "warning: mind the step\n"


def test_what_typer_refuses_is_one_line_too() -> None:
    result = CliRunner().invoke(program(), ["work", "--debgu"])
    assert result.exit_code == 2
    assert result.stderr == "error: No such option: --debgu (Possible options: --debug)\n"
    assert CliRunner().invoke(program(), ["wrok"]).stderr == "error: No such command 'wrok'. Did you mean 'work'?\n"


def test_long_names_stay_whole_in_a_pipe(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    stdout().print("model." + "submodule." * 30 + "conv and more")
    assert capsys.readouterr().out.count("\n") == 1


def test_no_word_of_a_table_is_broken_in_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    table = plain_table("group", "width", "slim")
    table.add_row("encoder.layers.0.blocks.1.conv", "1,234,567", "8")
    print_table(stdout(), table)
    said = capsys.readouterr().out
    assert "encoder.layers.0.blocks.1.conv" in said
    assert "1,234,567" in said
