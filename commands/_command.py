"""From a class of options to a command: its signature, `--config`, completion, help in groups, errors in one line."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import typer
from typer.core import TyperCommand

from ranp import processes
from ranp.commands._console import guarded
from ranp.commands._words import complete_model, complete_preset
from ranp.errors import UsageError, nearest
from ranp.files import read_yaml, yaml_line
from ranp.options import Listed, Options, listing

Given = TypeVar("Given", bound=Options)
GROUPS = ("network", "data", "choice", "training", "costs", "superpixels", "output", "general")
"""The order of the groups in the help."""
_COMPLETE: dict[Any, Callable[..., list[str]]] = {"model": complete_model, "preset": complete_preset}


def command(
    options: type[Given], example: str, *, shared: bool = False
) -> Callable[[Callable[[Given], None]], Callable[..., None]]:
    """Make a command of a function of options: typer reads the signature that it gets from their class.

    Args:
        options: the class.
        example: a command line that the help shows.
        shared: whether several processes that torchrun started share its work.
    """

    def decorate(function: Callable[[Given], None]) -> Callable[..., None]:
        writes = any(each.known["writes"] for each in listing(options))

        @functools.wraps(function)
        def run(**given: Any) -> None:
            with guarded(debug=bool(given.get("debug")), quiet=bool(given.get("quiet") or given.get("as_json"))):
                asked = options.read({name: value for name, value in given.items() if value is not None})
                if processes.started() > 1 and not shared:
                    raise UsageError(f"{function.__name__}: works in one process; start it without torchrun")
                if writes:
                    from ranp.jobs.outputs import check_outputs  # with torch, which a call that writes needs anyway

                    check_outputs(asked)
                with processes.together():
                    function(asked)

        run.__signature__ = inspect.Signature(list(map(_parameter, listing(options))))  # type: ignore[attr-defined]
        run.options, run.example = options, example  # type: ignore[attr-defined]
        return run

    return decorate


def add(app: typer.Typer, function: Callable[..., None]) -> None:
    """Add what `command` made to a program."""
    app.command(cls=Grouped, epilog=f"Example: {function.example}")(function)  # type: ignore[attr-defined]


class Grouped(TyperCommand):
    """A command whose help shows its options in groups."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments, then a section for each group."""
        rows: dict[str, list[Any]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                argument = parameter.param_type_name == "argument"
                group = "arguments" if argument else getattr(parameter, "rich_help_panel", None) or "general"
                rows.setdefault(group, []).append(record)
        for group in ("arguments", *GROUPS):
            if group in rows:
                with formatter.section(group.capitalize()):
                    formatter.write_dl(rows[group])


def _parameter(option: Listed) -> inspect.Parameter:
    """Return the parameter typer reads for an option."""
    known, default = option.known, option.field.get_default()
    help_text = option.help + (" [required]" if option.field.is_required() and not known["argument"] else "")
    shared: dict[str, Any] = {"help": help_text, "metavar": known["metavar"], "rich_help_panel": option.group or None}
    if known["complete"] or option.choices:
        shared["autocompletion"] = _COMPLETE.get(known["complete"]) or _completing(option.offered)
    if known["shown"]:
        shared["show_default"] = known["shown"]
    if option.name == "config":
        shared |= {"callback": _load_config, "is_eager": True}
    kind = _typer_type(option.field.annotation)
    several = get_origin(kind) is list
    plain = None if several or option.field.is_required() else default
    info = typer.Argument(**shared) if known["argument"] else typer.Option(option.flag, **shared)
    optional = kind if plain is not None else kind | None
    return inspect.Parameter(
        option.name, inspect.Parameter.KEYWORD_ONLY, default=plain, annotation=Annotated[optional, info]
    )


def _typer_type(annotation: Any) -> Any:
    """Return the type the command line reads a field as; what it means is the class's to check."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return _typer_type(next(part for part in parts if part is not type(None)))
    if origin is Literal:
        return str
    if origin is tuple:
        return list[parts[0]]  # type: ignore[valid-type]
    return list[str] if origin is dict else annotation


def _completing(words: tuple[str, ...]) -> Callable[[str], list[str]]:
    return lambda incomplete: [word for word in words if word.startswith(incomplete)]


def _load_config(context: typer.Context, path: Path | None) -> Path | None:
    """Make the keys of a YAML file the defaults of the command's options; unknown keys are refused by name."""
    if path is not None:
        with guarded():
            context.default_map = {**(context.default_map or {}), **_defaults(context, path)}
    return path


def _defaults(context: typer.Context, path: Path) -> dict[str, Any]:
    """Return the values of a config by parameter name; a key is an option's name, with hyphens or underscores."""
    known: dict[str, Any] = {}
    for words in (lambda each: each.opts, lambda each: [each.name or ""]):  # a name wins: MODEL over --model of a run
        for parameter in context.command.params:
            known |= {word.lstrip("-").replace("-", "_"): parameter for word in words(parameter)}
    defaults = {}
    for key, value in read_yaml(path, "config").items():
        name = key.replace("-", "_")
        if name not in known or known[name].name in ("config", "help"):
            raise UsageError(f"--config {path}: unknown key {key!r}{nearest(key, sorted(known))}")
        parameter = known[name]
        several = parameter.nargs == -1 or getattr(parameter, "multiple", False)
        defaults[str(parameter.name)] = _as_typed(key, value, several)
    return defaults


def _as_typed(key: str, value: Any, several: bool) -> Any:
    """Return a value as the command line would have given it: mappings as key=value, one word as a list of one."""
    if isinstance(value, dict):
        return [f"{name}={yaml_line(part)}" for name, part in value.items()]
    if several and value is not None and not isinstance(value, list):
        return [value]
    if isinstance(value, list) and not several:
        raise UsageError(f"--config: {key}: expected one value, got a list")
    return value
