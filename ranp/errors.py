"""The errors of ranp, and the exit code each one becomes on the command line.

    RanpError
    ├── UsageError        2  the user's mistake: one line that names the option, its value, what was expected
    │   └── WrongType     2  an argument of the wrong type; a `TypeError` as well
    ├── InfeasibleError   3  the limit can't be met; carries the closest feasible value
    ├── UnsupportedError  3  the network can't be handled; names the op and the module
    ├── CheckFailed       1  the work was done but a check (verification, parity) failed
    ├── ProcessLost       1  another of the processes that work together has ended
    └── MissingExtra      4  an optional dependency is absent; names the `pip install` line

The library raises them and the command line prints the same text. `UsageError` is a `ValueError` as well, so that
notebook code may catch what it expects.
"""

import difflib
import importlib
import os
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path, PurePath
from types import CodeType, FrameType, ModuleType

_LIBRARIES = ("torch", "importlib", "contextlib", "functools", "runpy", "typer")  # whose frames say little to a user


class RanpError(Exception):
    """Base of every error ranp raises on purpose."""

    exit_code = 1


class UsageError(RanpError, ValueError):
    """A mistake in what the user gave: an option, a file, an array, a module."""

    exit_code = 2


class WrongType(UsageError, TypeError):
    """An argument of the wrong type, where Python would fail later and elsewhere."""


class InfeasibleError(RanpError):
    """A limit that no plan meets.

    Args:
        closest: the nearest value that can be met, in the unit of the limit, or None where there is none.
    """

    exit_code = 3

    def __init__(self, message: str, closest: float | None = None) -> None:
        super().__init__(message)
        self.closest = closest


class UnsupportedError(RanpError):
    """A network ranp can't handle; the message names the op and the module."""

    exit_code = 3


class CheckFailed(RanpError):
    """The work was done, but a check of it failed."""

    exit_code = 1


class ProcessLost(RanpError):
    """Another of the processes that work together has ended."""

    exit_code = 1


class MissingExtra(RanpError):
    """An optional dependency that the request needs is not installed."""

    exit_code = 4


def words_of(error: BaseException, limit: int = 300) -> str:
    """Return what an error says on one line, cut at a length.

    >>> words_of(ValueError("no\\n  way"))
    'no way'
    """
    try:
        text = str(error)
    except Exception:  # of the user's own class
        return ""
    return " ".join(text.split())[:limit]


def told(error: BaseException, limit: int = 300) -> str:
    """Return what an error of the user's code was and where it arose, on one line.

    The frames are the first and the last of the user's own code: not ours, and not those of torch or Python unless
    there are no others.

    Args:
        error: with its traceback.
        limit: characters of its own words.
    """
    words = words_of(error, limit)
    frames = [(_home(frame), frame.f_code, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    frames = [each for each in frames if each[0] != "ranp" and not each[1].co_filename.startswith("<")]
    own = [each for each in frames if each[0] not in _LIBRARIES] or frames[-1:]
    ends = dict.fromkeys(_place(code, line) for _, code, line in own[:1] + own[-1:])
    where = f" ({', ... '.join(ends)})" if ends else ""
    return f"{type(error).__name__}{f': {words}' if words else ''}{where}"


def _home(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def _place(code: CodeType, line: int) -> str:
    file = Path(code.co_filename)
    shown = file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file
    return f"{str(shown).rpartition('site-packages' + os.sep)[2]}:{line} in {code.co_name}"


def is_ours(error: BaseException) -> bool:
    """Whether an error says all a person needs: one of this tree, or one of the kernels, which know no tree."""
    return isinstance(error, RanpError) or hasattr(error, "exit_code")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: in Python and numpy, on a GPU, in torch's allocator of the CPU, or in a kernel."""
    names = [each.__name__ for each in type(error).__mro__]
    told = "can't allocate memory" in str(error) or "kernel: out of memory" in str(error)
    return "MemoryError" in names or "OutOfMemoryError" in names or told


@contextmanager
def saying(kind: type[RanpError], what: str) -> Iterator[None]:
    """Turn an error of the user's code into one of ours, which says what stopped; ours and a lack of memory pass.

    >>> with saying(UsageError, "batch 1: the loss does not run"):
    ...     raise KeyError("mask")
    Traceback (most recent call last):
    ranp.errors.UsageError: batch 1: the loss does not run: KeyError: 'mask'
    """
    try:
        yield
    except Exception as error:
        if is_ours(error) or is_out_of_memory(error):
            raise
        raise kind(f"{what}: {told(error)}") from error


_ON_COMMAND_LINE: ContextVar[bool] = ContextVar("_ON_COMMAND_LINE", default=False)
_NOT_GIVEN = object()


@contextmanager
def on_command_line() -> Iterator[None]:
    """Let messages name options as the command line writes them; elsewhere they are written as in Python."""
    token = _ON_COMMAND_LINE.set(True)
    try:
        yield
    finally:
        _ON_COMMAND_LINE.reset(token)


def named(option: str, value: object = _NOT_GIVEN, flag: str | None = None) -> str:
    """Return an option, and a value of it, as the reader of a message writes them.

    Args:
        option: its name in Python; in capitals that of an argument which goes by its place on the command line.
        value: that it was given; on the command line True is the option alone, a switch.
        flag: its name on the command line, where that is not `--` and its name.

    >>> named("min_width", 0), named("MODEL", "unet3d")
    ('min_width=0', "model='unet3d'")
    >>> with on_command_line():
    ...     named("min_width", 0), named("MODEL", "unet3d"), named("settings", flag="--set")
    ('--min-width 0', 'MODEL unet3d', '--set')
    """
    if _ON_COMMAND_LINE.get():
        words = flag or (option if option.isupper() else f"--{option.replace('_', '-')}")
        return words if value is _NOT_GIVEN or value is True else f"{words} {value}"
    option = option.lower() if option.isupper() else option
    if value is _NOT_GIVEN:
        return f"{option}="
    plain = str(value) if isinstance(value, PurePath) else value
    return f"{option}={plain!r}"


def setting(name: str, value: object = _NOT_GIVEN, flag: str = "--set") -> str:
    """Return a setting of a factory, and its value, as the reader of a message writes them.

    Args:
        name: its key.
        value: that it was given; `...` where one is missing.
        flag: the option that takes such settings.

    >>> setting("depth", 3)
    'depth=3'
    >>> with on_command_line():
    ...     setting("depth", 3), setting("depth")
    ('--set depth=3', '--set depth')
    """
    typed = _ON_COMMAND_LINE.get()
    if value is _NOT_GIVEN:
        return f"{flag} {name}" if typed else named(name)
    shown = "..." if value is ... else repr(value)
    return f"{f'{flag} ' if typed else ''}{name}={shown}"


def check_type(option: str, value: object, fits: bool, expected: str) -> None:
    """Refuse an argument of the wrong type.

    Args:
        option: its name in Python; a word in capitals is an argument that goes by its place.
        value: that it was given.
        fits: whether it will do.
        expected: what would.

    Raises:
        WrongType: it does not fit.

    >>> check_type("loss", "ce", callable("ce"), "a function")
    Traceback (most recent call last):
    ranp.errors.WrongType: loss= is a str; expected a function
    """
    if not fits:
        raise WrongType(
            f"{named(option)} is {'None' if value is None else _a(type(value).__name__)}; expected {expected}"
        )


def _a(noun: str) -> str:
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"


def described(thing: object) -> str:
    """Return what kind of thing something is, as a sentence says it.

    >>> described(3), described([]), described(None)
    ('an int', 'a list', 'nothing')
    """
    return "nothing" if thing is None else _a(type(thing).__name__)


def listed(words: Iterable[str], last: str = "or") -> str:
    """Return words as a sentence lists them.

    >>> listed(["sum", "mean", "max"])
    'sum, mean or max'
    """
    *first, final = [*words] or [""]
    return f"{', '.join(first)} {last} {final}" if first else final


def some(names: Sequence[str], shown: int = 8) -> str:
    """Return the first of many names, and how many more there are.

    >>> some(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `"; did you mean 'x'?"` for the closest of the known words, or an empty string; case counts least.

    >>> nearest("unet3", ["unet3d", "psm"]), nearest("PSM", ["unet3d", "psm"])
    ("; did you mean 'unet3d'?", "; did you mean 'psm'?")
    """
    words = list(known)
    lowered = {each.lower(): each for each in words}
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.5)
    close = close or [lowered[each] for each in difflib.get_close_matches(word.lower(), lowered, n=1, cutoff=0.5)]
    return f"; did you mean {close[0]!r}?" if close else ""


def need(module: str, extra: str) -> ModuleType:
    """Import an optional dependency where it is used, or say which extra brings it.

    Args:
        module: dotted name to import, such as `"nibabel"`.
        extra: the extra in pyproject.toml that installs it, such as `"medical"`.

    Raises:
        MissingExtra: with the exact `pip install` line.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = module.partition(".")[0]
        raise MissingExtra(f"{name} is not installed: pip install 'ranp[{extra}]'") from error
