"""What every command shares: consoles, progress, JSON, and errors as one line with an exit code.

Results go to stdout; logs and bars go to stderr, and no bar is drawn where stderr is not a terminal.
"""

import json
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from contextvars import ContextVar
from typing import Any, TextIO

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from typer.core import TyperGroup
from typer.exceptions import TyperException

from ranp import processes
from ranp.errors import is_ours, is_out_of_memory, on_command_line, told, words_of

Watch = Callable[[str], None]
Track = Callable[[Iterable[Any]], Iterable[Any]]

_RESULTS: ContextVar[TextIO | None] = ContextVar("_RESULTS", default=None)  # stdout, while others' prints go to stderr
_JSON: ContextVar[bool] = ContextVar("_JSON", default=False)  # whether the words of this call hold --json
_QUIET: ContextVar[bool] = ContextVar("_QUIET", default=False)  # no lines of steps: --quiet, or --json
_UNBROKEN = 10_000  # columns
_LONGEST = 2_000  # characters of a message


def stdout() -> Console:
    """Return a console on the current stdout; in a pipe or a file no line is broken, so that it can be searched."""
    console = Console(highlight=False, file=_RESULTS.get() or sys.stdout)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _UNBROKEN
    return console


def is_quiet() -> bool:
    """Whether neither bars nor the lines of steps are shown."""
    return _QUIET.get()


def stderr() -> Console:
    """Return a console on the current stderr."""
    return Console(stderr=True, highlight=False)


def emit_json(result: dict[str, Any]) -> None:
    """Print exactly one JSON object on stdout."""
    typer.echo(json.dumps(result, indent=2, allow_nan=False), file=_RESULTS.get() or sys.stdout)


def ended(passed: bool) -> None:
    """End with exit code 1 where a check did not pass."""
    if not passed:
        raise typer.Exit(1)


@contextmanager
def progress() -> Iterator[Progress]:
    """Yield a progress display on stderr; it stays silent where stderr is not a terminal."""
    console = stderr()
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True, disable=_QUIET.get() or not console.is_terminal) as bar:
        yield bar


@contextmanager
def steps(first: str, names: Sequence[str] = (), batches: int | None = None) -> Iterator[tuple[Watch, Track]]:
    """Yield what a job calls when a step begins, and what counts the batches it works through.

    Where stderr is no terminal, a step is a line on it instead; --quiet and --json show none.

    Args:
        first: the step before the named ones.
        names: of the steps, where it is known how many there are.
        batches: how many.
    """
    with progress() as bar:
        task = bar.add_task(first, total=len(names) + 1 if names else None)

        def watch(step: str) -> None:
            bar.update(task, description=step, advance=1)
            if not (_QUIET.get() or stderr().is_terminal):
                typer.echo(f"step: {step}", err=True)

        def track(items: Iterable[Any]) -> Iterable[Any]:
            return bar.track(items, total=batches, description="batches")

        yield watch, track


class OneLineErrors(TyperGroup):
    """The program's group of commands: what typer refuses (an unknown option, a word for a number) is one line too."""

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **kwargs: Any) -> Any:
        """Parse the program's own options."""
        _JSON.set("--json" in args)
        with _one_line_usage():
            return super().make_context(info_name, args, *rest, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        """Parse the options of a command and run it."""
        with _one_line_usage():
            return super().invoke(ctx)


@contextmanager
def _one_line_usage() -> Iterator[None]:
    try:
        yield
    except TyperException as error:
        text = error.format_message()
        if "\n" in text:  # the help that a call without arguments shows
            raise
        raise _refusal(_wrong_word(error) or text, error, error.exit_code) from None
    except KeyboardInterrupt:
        raise _interrupted() from None


def _wrong_word(error: Exception) -> str | None:
    """Say of a word that is no number which option it was given to, and what was expected."""
    found: list[dict[str, Any]] = getattr(error.__cause__, "errors", list)()
    names = getattr(getattr(error, "param", None), "opts", None)
    if not found or not names:
        return None
    kind = str(found[0]["type"]).partition("_")[0]
    expected = {"int": "expected a whole number", "float": "expected a number"}.get(kind, found[0]["msg"])
    return f"{names[0]} {found[0]['input']}: {expected}"


@contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """Show warnings as one line each on stderr, without where in the code they arose."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        stderr().print(f"warning: {' '.join(str(message).split())}", soft_wrap=True, markup=False)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


@contextmanager
def _only_results_on_stdout() -> Iterator[None]:
    """Send what others print to stderr, programs and libraries in C too: the user's code may, stdout is for results.

    Of several processes the first alone is heard.
    """
    with ExitStack() as after:
        results = sys.stdout
        with suppress(OSError, ValueError, AttributeError):  # no file of the system: a notebook's, a test's
            results = after.enter_context(_apart(sys.stdout))
        if not processes.is_first():
            results = after.enter_context(open(os.devnull, "w"))
            after.enter_context(redirect_stderr(results))
        after.callback(_RESULTS.reset, _RESULTS.set(results))
        after.enter_context(redirect_stdout(sys.stderr))
        yield


@contextmanager
def _apart(stream: TextIO) -> Iterator[TextIO]:
    """Yield a stream to where one of the system's leads, which leads to stderr meanwhile."""
    stream.flush()
    place, copy = stream.fileno(), os.dup(stream.fileno())
    with suppress(BrokenPipeError), open(copy, "w", encoding=stream.encoding, errors=stream.errors) as results:
        os.dup2(sys.stderr.fileno(), place)
        try:
            yield results
        finally:
            results.flush()
            os.dup2(copy, place)


@contextmanager
def guarded(*, debug: bool = False, quiet: bool = False) -> Iterator[None]:
    """Turn the errors of a command into one line on stderr and an exit code; with --json into an object on stdout too.

    What the user's code prints goes to stderr.

    An error of ranp's own tree, or of the kernels, carries its code; an interrupt is 130; no memory left is 3, for what
    can't be done; anything else is a defect of ours and says so.

    Args:
        debug: show the traceback instead.
        quiet: show no progress.
    """
    _QUIET.set(quiet)
    try:
        with _only_results_on_stdout(), _warnings_as_lines(), on_command_line():
            yield
    except typer.Exit:
        raise
    except KeyboardInterrupt:
        raise _interrupted() from None
    except BaseException as error:
        if debug:
            raise
        if isinstance(error, Exception):
            code = getattr(error, "exit_code", 1) if is_ours(error) else 1 + 2 * is_out_of_memory(error)
            raise _refusal(_one_line(error), error, code) from None
        raise _refusal(f"the network's code ended the program: {told(error)}", error, 2) from None


def _refusal(line: str, error: BaseException, code: int, said: str = "error: ") -> typer.Exit:
    """Say what is wrong, unless another process has, and return the exit."""
    if not processes.speaks():
        return typer.Exit(code)
    typer.echo(f"{said}{line}", err=True)
    if _JSON.get():
        closest = getattr(error, "closest", None)
        emit_json({"error": {"message": line, "kind": type(error).__name__, "exit_code": code, "closest": closest}})
    return typer.Exit(code)


def _interrupted() -> typer.Exit:
    return _refusal("interrupted", KeyboardInterrupt(), 130, said="")


def _one_line(error: Exception) -> str:
    text = words_of(error, _LONGEST)
    if is_ours(error):
        return text
    if is_out_of_memory(error):
        return f"not enough memory; a smaller patch, input or batch needs less ({text[:160] or 'MemoryError'})"
    if isinstance(error, OSError):
        where = f": {error.filename}" if error.filename else ""
        return f"{error.strerror or text}{where}"
    return f"{type(error).__name__}: {text} (a defect in ranp: please report it, with the output of --debug)"
