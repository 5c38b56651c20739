"""Write docs/cli.md from the commands themselves: `python docs/make_cli.py`. A test compares the page with the code."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from ranp.commands.main import app

PAGE = Path(__file__).with_name("cli.md")
HEAD = """# Command line

Written by `python docs/make_cli.py` from the code; `ranp COMMAND --help` says the same.

Results go to stdout, logs and progress bars to stderr; no bar is drawn where stderr is not a terminal, and
`NO_COLOR` is respected. `--json` prints exactly one object. Exit codes:

| code | means |
| --- | --- |
| 0 | done |
| 1 | it ran, but a check failed (verification, parity) |
| 2 | a mistake in what was given: one line that names it; nothing is written |
| 3 | it can't be done: the closest feasible value, or the op and the module, is named |
| 4 | an optional package is missing; the line to install it is printed |
| 130 | interrupted |

`--config FILE` reads options from YAML: names as below without the dashes, `set` as a mapping; an unknown name is
refused, and the command line wins. A run folder's `config.yaml` repeats the run.

Shell completion: `ranp --install-completion`.
"""


def page() -> str:
    """Return the page."""
    return HEAD + "".join(f"\n{text}" for text in _commands(get_command(app), "ranp"))


def _commands(group: Any, path: str) -> Iterator[str]:
    for name, command in group.commands.items():
        if command.hidden:
            continue
        if getattr(command, "commands", None):
            yield from _commands(command, f"{path} {name}")
        else:
            yield _section(command, f"{path} {name}")


def _section(command: Any, path: str) -> str:
    given = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.params if each.param_type_name == "option" and each.name != "help"]
    usage = " ".join([path, *(each.metavar or each.name.upper() for each in given), "[OPTIONS]"])
    lines = [f"## `{path}`", "", (command.help or "").strip(), "", f"    {usage}", ""]
    if given or options:
        lines += ["| option | default | |", "| --- | --- | --- |"]
    lines += [f"| `{each.metavar or each.name.upper()}` | | {_cell(each.help)} |" for each in given]
    lines += [f"| {_names(each)} | {_default(each)} | {_cell(each.help)} |" for each in options]
    return "\n".join(lines) + "\n"


def _names(option: Any) -> str:
    value = f" {option.metavar}" if option.metavar else ""
    return ", ".join(f"`{name}{value}`" for name in (*option.opts, *option.secondary_opts))


def _default(option: Any) -> str:
    if isinstance(option.show_default, str):
        return _cell(option.show_default)
    if option.required:
        return "required"
    given = option.default is not None and option.default is not False and option.default != ()
    return f"`{option.default}`" if given else ""


def _cell(text: str | None) -> str:
    return " ".join((text or "").replace("|", "\\|").split())


if __name__ == "__main__":
    PAGE.write_text(page())
