"""Find, compile, check and load the native libraries.

    library("cpu")     the loaded library, or None where the pure-PyTorch path must serve
    function(...)      one symbol of it, with its argument types set

`RANP_NATIVE` is the one switch: `auto` (the default) compiles on first use and falls back to PyTorch with one line in
the log, `off` never looks, `require` raises instead of falling back. Libraries live in `RANP_CACHE`, else in the user's
cache folder; a file there ends in a digest of itself, so that a damaged one is never mapped, and it is put in place
by a rename, so that processes may race. A library beside this file (`libranp_cpu.so`) is taken before any of that.

Importing this does not import torch; only the recipe of the CUDA library asks torch which GPUs there are.
"""

import atexit
import ctypes
import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ranp.kernels.compiling import BuildError, Recipe, cpu_recipe, cuda_recipe

ABI = 4
"""Version of the C interface; `ranp_abi_version()` of a library must return it."""

KINDS = ("cpu", "cuda")
MODES = ("off", "auto", "require")
MARK = b"ranp-sha256:"

log = logging.getLogger("ranp.kernels")
_loaded: dict[str, ctypes.CDLL | None] = {}
_reasons: dict[str, str] = {}


class NativeError(RuntimeError):
    """The native library is required but can't be had; the message is one line."""

    exit_code = 3  # of a command: can't be done


class ModeError(ValueError):
    """`RANP_NATIVE` is none of the modes; the message is one line."""

    exit_code = 2  # of a command: the user's mistake


def mode() -> str:
    """Return `RANP_NATIVE`: off, auto or require.

    Raises:
        ModeError: it is none of them.
    """
    value = os.environ.get("RANP_NATIVE", "auto")
    if value not in MODES:
        raise ModeError(f"RANP_NATIVE={value!r}: expected one of {', '.join(MODES)}")
    return value


def library(kind: str) -> ctypes.CDLL | None:
    """Return the library for `cpu` or `cuda`, compiling it on first use, or None where PyTorch must serve.

    Raises:
        NativeError: `RANP_NATIVE=require` and there is none.
    """
    chosen = mode()
    if chosen == "off":
        return None
    if kind not in _loaded:
        _loaded[kind] = _obtain(kind)
    if _loaded[kind] is None and chosen == "require":
        raise NativeError(f"RANP_NATIVE=require, but the {kind} library is missing: {_reasons[kind]}")
    return _loaded[kind]


def function(kind: str, name: str, arguments: Sequence[Any], result: Any = ctypes.c_int) -> Callable[..., Any] | None:
    """Return the C function `name` with its ctypes signature set, or None where PyTorch must serve.

    Args:
        kind: `cpu` or `cuda`.
        name: the exported symbol, such as `ranp_pass_forward`.
        arguments: ctypes types, one per argument: an untyped int would keep 32 bits of a pointer.
        result: ctypes type of the result.
    """
    loaded = library(kind)
    if loaded is None:
        return None
    symbol = getattr(loaded, name)
    symbol.argtypes, symbol.restype = list(arguments), result
    return symbol  # type: ignore[no-any-return]


def check(kind: str, code: int) -> None:
    """Raise what a non-zero return code of the library stands for.

    Raises:
        RuntimeError: with the text of `ranp_error(code)`.
    """
    if code:
        describe = function(kind, "ranp_error", [ctypes.c_int], ctypes.c_char_p)
        text = describe(code).decode() if describe else str(code)
        raise RuntimeError(f"native {kind} kernel: {text}")


def _obtain(kind: str) -> ctypes.CDLL | None:
    try:
        return load(build(kind))
    except (BuildError, OSError) as error:
        _reasons[kind] = " ".join(str(error).split())
        log.warning("native %s kernels unavailable, using PyTorch: %s", kind, _reasons[kind])
        return None


def refuse(kind: str, why: str) -> None:
    """Let PyTorch serve in the place of a library from now on, and say why in the log."""
    _loaded[kind], _reasons[kind] = None, why
    log.warning("native %s kernels are not used, PyTorch is: %s", kind, why)


def load(path: Path) -> ctypes.CDLL:
    """Load a library and compare its ABI version, without which a stale shipped one would read wrong arguments.

    Raises:
        OSError: it can't be loaded, or has another version.
    """
    loaded = ctypes.CDLL(str(path))
    version = getattr(loaded, "ranp_abi_version", lambda: None)()
    if version != ABI:
        raise OSError(f"{path.name} has ABI version {version}, expected {ABI}")
    return loaded


def recipe(kind: str) -> Recipe:
    """Return how the library of this kind is made here: CUDA for the GPUs that are present, for all if there is none.

    Raises:
        BuildError: no compiler.
    """
    if kind == "cpu":
        return cpu_recipe()
    import torch  # takes seconds, and the CPU library goes without

    # One library serves the process, whichever GPU its tensors are on.
    present = map(torch.cuda.get_device_capability, range(torch.cuda.device_count()))
    targets = sorted({10 * major + minor for major, minor in present})
    return cuda_recipe(tuple(targets)) if targets else cuda_recipe()


def cache_folder() -> Path:
    """Return the folder of compiled libraries: `RANP_CACHE`, else `ranp` in the user's cache folder."""
    if named := os.environ.get("RANP_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ranp" / "kernels"


def build(kind: str, *, force: bool = False) -> Path:
    """Return the library's file: the shipped one, the cached one, or a new one.

    Args:
        kind: `cpu` or `cuda`.
        force: compile even if a good one is there.

    Raises:
        BuildError: no compiler, or one that fails.
    """
    shipped = Path(__file__).parent / f"libranp_{kind}.so"
    if shipped.exists() and not force:
        return shipped
    plan = recipe(kind)
    target = target_of(plan)
    if not force and is_whole(target):
        return target
    with tempfile.TemporaryDirectory(prefix="ranp-") as folder:
        made = plan.run(Path(folder))
        made.write_bytes(_sealed(made.read_bytes()))
        return _install(made, target)


def target_of(plan: Recipe) -> Path:
    """Return where the library of a recipe lies in the cache."""
    return cache_folder() / f"libranp_{plan.kind}-{plan.key()}.so"


def _sealed(code: bytes) -> bytes:
    return code + MARK + hashlib.sha256(code).digest()


def is_whole(path: Path) -> bool:
    """Return whether a cached library is there and ends in the digest of what precedes it."""
    try:
        content = path.read_bytes()
    except OSError:
        return False
    return _sealed(content[: -len(MARK) - 32]) == content


def _install(made: Path, target: Path) -> Path:
    """Rename the new library into the cache; where that can't be written, keep it in a folder of this process."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".ranp-", delete=False) as staged:
            staged.write(made.read_bytes())
        os.chmod(staged.name, 0o644)  # a cache may be shared; temporary files are private
        os.replace(staged.name, target)
    except OSError as error:
        log.warning("cache %s can't be written (%s): compiling in every process", target.parent, error.strerror)
        private = Path(tempfile.mkdtemp(prefix="ranp-"))
        atexit.register(shutil.rmtree, private, ignore_errors=True)
        return Path(shutil.copy(made, private / target.name))
    return target


def reason(kind: str) -> str | None:
    """Return why the library of this kind could not be had, or None."""
    return _reasons.get(kind)
