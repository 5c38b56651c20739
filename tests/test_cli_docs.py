import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

from ranp.commands.main import app

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture
def make_cli() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_cli", DOCS / "make_cli.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_says_what_the_commands_say(make_cli: ModuleType) -> None:
    assert (DOCS / "cli.md").read_text() == make_cli.page(), "run `python docs/make_cli.py`"


def test_every_shared_option_is_on_every_command_where_it_means_something(make_cli: ModuleType) -> None:
    sections = {part.partition("`")[0]: part for part in make_cli.page().split("## `ranp ")[1:]}
    assert {"prune", "verify", "inspect", "models", "doctor"} <= set(sections)
    sections.pop("help", None)  # prints text alone
    for name, text in sections.items():
        for option in ("--json", "--debug"):
            assert f"`{option}`" in text, f"ranp {name} has no {option}"
    for option in ("--seed", "--device", "--config", "--dry-run", "--force"):
        assert f"`{option}`" in sections["prune"]


def test_the_list_of_commands_fits_a_terminal_of_eighty_columns() -> None:
    listed = CliRunner().invoke(app, ["--help"], terminal_width=80).stdout
    assert "prune" in listed
    assert "..." not in listed.replace("COMMAND [ARGS]...", "")
