"""One option, one place: an option added to a copy of a class is in help, --config, the page and the run."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import ClassVar, Literal, get_args

import pytest
import typer
import yaml
from typer.testing import CliRunner

from ranp.commands._command import add, command
from ranp.commands._console import OneLineErrors, emit_json
from ranp.data import losses
from ranp.data._maps import SUPERVISIONS
from ranp.errors import UsageError, on_command_line
from ranp.jobs.options import Prune
from ranp.models.init import Scheme
from ranp.options import Init, Loss, Options, Supervision, choices, listing, option
from ranp.pipeline import prune
from ranp.plan import Choice

ROOT = Path(__file__).parents[1]


class Wider(Prune):
    """A copy of the options of `ranp prune`, and one more."""

    group: ClassVar[str] = "choice"
    breadth: int = option(3, "How broad, from 1.", ge=1)
    flavour: Literal["sweet", "sour"] | None = option(None, "{choices}.")


@pytest.fixture
def program() -> typer.Typer:
    app = typer.Typer(cls=OneLineErrors, pretty_exceptions_enable=False, rich_markup_mode=None)

    @command(Wider, "ranp wide unet3d --breadth 4")
    def wide(options: Wider) -> None:
        """Say what was asked for."""
        emit_json(options.to_config())

    @app.command()
    def rest() -> None: ...

    add(app, wide)
    return app


def make_cli() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_cli", ROOT / "docs" / "make_cli.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_is_in_the_help_in_its_group(program: typer.Typer) -> None:
    text = CliRunner().invoke(program, ["wide", "--help"], terminal_width=120).stdout
    choice = text[text.index("Choice:") : text.index("Output:")]
    assert "--breadth" in choice
    assert "How broad, from 1." in choice
    assert "[default: 3]" in choice
    assert "sweet or sour." in choice
    assert "Example: ranp wide unet3d --breadth 4" in text


def test_it_is_read_from_the_command_line_and_from_a_file_and_kept(program: typer.Typer, tmp_path: Path) -> None:
    (tmp_path / "wide.yaml").write_text("breadth: 5\nflavour: sour\n")
    for words, breadth in ((["--breadth", "4"], 4), (["--config", str(tmp_path / "wide.yaml")], 5)):
        result = CliRunner().invoke(program, ["wide", "unet3d", "--sparsity", "0.5", *words])
        assert result.exit_code == 0, result.output
        kept = yaml.safe_load(result.stdout)
        assert kept["breadth"] == breadth
        assert "config" not in kept
        assert Wider.read(kept).breadth == breadth


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--breadth", "0"], "error: --breadth 0: expected a whole number of at least 1"),
        (["--breadth", "x"], "error: --breadth x: expected a whole number"),
        (["--flavour", "swet"], "error: --flavour swet: expected sweet or sour; did you mean 'sweet'?"),
        (["--bredth", "1"], "error: No such option: --bredth"),
    ],
)
def test_what_it_may_not_be_is_one_line(program: typer.Typer, words: list[str], line: str) -> None:
    result = CliRunner().invoke(program, ["wide", "unet3d", *words])
    assert result.exit_code == 2
    assert result.stderr.startswith(line)
    assert result.stderr.count("\n") == 1


def test_it_is_on_the_page(program: typer.Typer) -> None:
    text = "".join(make_cli()._commands(typer.main.get_command(program), "ranp"))
    assert "| `--breadth` | `3` | How broad, from 1. |" in text


def test_no_option_stands_in_two_places() -> None:
    """Each name of `ranp prune` is written as a field once; functions take groups, not lists of names."""
    sources = "".join((ROOT / "ranp" / name).read_text() for name in ("options.py", "jobs/options.py"))
    commands = "".join(path.read_text() for path in (ROOT / "commands").glob("*.py"))
    for each in listing(Prune):
        if each.name in ("model", "input", "seed", "out", "freeze", "data"):  # other commands mean something else by it
            continue
        assert len(re.findall(rf"^    {each.name}: [^\n]* = option\(", sources, re.MULTILINE)) == 1, each.name
        assert f'"--{each.name.replace("_", "-")}"' not in commands.replace('"--config"', ""), each.name


def test_words_are_those_the_library_knows() -> None:
    assert set(choices(Loss)) == set(losses.names())
    assert get_args(Supervision) == SUPERVISIONS
    assert set(get_args(Init)) == set(get_args(Scheme))


def test_messages_speak_the_language_of_their_reader() -> None:
    with pytest.raises(UsageError, match=r"^min_width=0: expected a whole number of at least 1, or a share"):
        Prune.read({"model": "unet3d", "min_width": 0})
    with on_command_line(), pytest.raises(UsageError, match=r"^--min-width 0: expected a whole number"):
        Prune.read({"model": "unet3d", "min_width": 0})
    with on_command_line(), pytest.raises(UsageError, match=r"^MODEL is missing: a built-in"):
        Prune.read({})
    with pytest.raises(UsageError, match=r"sparsty=: there is no such option; did you mean 'sparsity'"):
        prune(None, None, sparsty=0.5)  # type: ignore[arg-type]


def test_a_plan_keeps_every_option_of_the_choice() -> None:
    assert issubclass(Choice, Options)
    assert {"rule", "min_width", "sparsity", "achieved"} <= set(Choice.model_fields)
