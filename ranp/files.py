"""Files and folders: read with one message for what is wrong with them, and written whole or not at all."""

import ctypes
import errno
import hashlib
import json
import os
import re
import shutil
import socket
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ranp.errors import UsageError, named

_FULL = (errno.ENOSPC, errno.EDQUOT)
_REFUSED = (
    errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.ENOENT, errno.EEXIST, errno.EISDIR, errno.ELOOP,
    errno.ENAMETOOLONG, errno.EFBIG, errno.EIO,
)  # fmt: skip
_EXCHANGE = 2  # RENAME_EXCHANGE of renameat2(2)
_HERE = -100  # AT_FDCWD


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside a file; on success it takes the file's place, otherwise it is removed.

    Raises:
        UsageError: the folder can't be written, or the disk is full.
    """
    with _told(path):
        _sweep(path)
        handle, name = tempfile.mkstemp(prefix=_prefix(path), dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            _flush(temporary)
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path, *, force: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside a folder; on success it takes its place in one step, otherwise it is removed.

    Where the path is a link, the folder it leads to is written and the link stays.

    Args:
        path: the folder to make; folders above it are made too.
        force: whether an existing one is replaced.

    Raises:
        UsageError: it exists and `force` is not given, the place can't be written, or the disk is full.
    """
    check_absent(path, force=force)
    path = path.resolve() if path.is_symlink() else path
    with _told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        temporary = Path(tempfile.mkdtemp(prefix=_prefix(path), dir=path.parent))
        try:
            temporary.chmod(0o777 & ~_umask())
            yield temporary
            for each in temporary.rglob("*"):
                if each.is_symlink():
                    continue
                _flush(each)
                each.chmod((0o777 if each.is_dir() else 0o666) & ~_umask())  # safetensors makes files private
            if path.exists():
                _exchange(temporary, path)
            else:
                temporary.rename(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def check_absent(path: Path, *, force: bool, option: str = "out") -> None:
    """Refuse an output that exists, unless told to replace it.

    Raises:
        UsageError: it exists and `force` is not given.
    """
    if path.exists() and not force:
        raise UsageError(
            f"{named(option, path)} exists: choose another name, or replace it with {named('force', True)}"
        )


def check_file_place(path: Path, *, force: bool, option: str = "out") -> None:
    """Refuse a place where a file can't be written, before any work is done for it.

    Raises:
        UsageError: a folder is there, the folder above is missing or read-only, or it exists and `force` is not given.
    """
    if path.is_dir():
        raise UsageError(f"{named(option, path)}: a folder; expected the name of a file")
    check_absent(path, force=force, option=option)
    if not path.absolute().parent.is_dir():
        raise UsageError(f"{named(option, path)}: no folder {path.parent}")
    check_writable(path.absolute().parent, named(option, path))


@dataclass(frozen=True)
class FileKind:
    """A kind of file that a command writes: its name with an article, and how a file of it is known.

    Args:
        name: for messages.
        known: whether the first bytes of a file are those of one.
        suffixes: names that nothing else has, so that they are enough.
    """

    name: str
    known: Callable[[bytes], bool]
    suffixes: tuple[str, ...] = ()


_START = 4096  # bytes by which a file's kind is told
KINDS = {
    "onnx": FileKind("an ONNX file", lambda start: start[:1] == b"\x08" and start[1:2] < b"@", (".onnx",)),
    "program": FileKind("a file of torch.export", lambda start: _is_program(start)),
    "torchscript": FileKind("a TorchScript file", lambda start: False, (".ts",)),
    "table": FileKind("a table of `ranp compare`", lambda start: start[:1] == b"{" and b'"sparsity_of"' in start),
    "page": FileKind("a page of `ranp report`", lambda start: b'content="ranp ' in start),
    "csv": FileKind("a table of `ranp evaluate`", lambda start: start.startswith(b"case,")),
    "predictions": FileKind("a folder of `ranp predict`", lambda start: False),
    "bundle": FileKind("a bundle of MONAI", lambda start: False),
    "nnunet": FileKind("a model folder of nnU-Net", lambda start: False),
    "dot": FileKind("graphviz text of `ranp inspect`", lambda start: start.startswith(b"digraph coupling {")),
    "svg": FileKind("a picture of `ranp inspect`", lambda start: b"<title>Which layers share which channels" in start),
    "labels": FileKind("a label map", lambda start: _is_label_map(start)),
    "picture": FileKind("a picture that ranp drew", lambda start: _is_drawn(start)),
}
"""What commands write beside run folders; `--force` replaces a file by one of its own kind only."""


def _is_program(start: bytes) -> bool:
    """Whether a file is an archive of torch.export; those of torch.save, which begin with their pickle, are others."""
    first = start[30 : 30 + int.from_bytes(start[26:28], "little")]  # the name of a zip's first entry
    parts = (b"/data/weights/", b"/data/constants/", b"/data/sample_inputs/", b"/models/", b"archive_", b"serialized_")
    return start.startswith(b"PK\3\4") and any(part in first for part in parts)


def _is_drawn(start: bytes) -> bool:
    """Whether a file was drawn by matplotlib, which signs PNG and SVG by name and PDF by four bytes."""
    return b"matplotlib" in start.lower() or start.startswith(b"%PDF-1.4\n%\xac\xdc \xab\xba")


def _is_label_map(start: bytes) -> bool:
    """Whether a file holds whole numbers in the types labels are written in: NumPy's or NIfTI's uint8 or uint16."""
    if start.startswith(b"\x1f\x8b"):
        start = zlib.decompressobj(31).decompress(start, 352)
    if start.startswith((b"\x93NUMPY", b"PK\3\4")):
        return b"labels.npy" in start or b"|u1" in start or b"<u2" in start
    return start[344:347] == b"n+1" and start[70:72] in (b"\x02\0", b"\x00\x02", b"\0\x02")


def check_replaces(path: Path, kind: str, option: str) -> None:
    """Refuse to replace a file of another kind: `--force` is no leave for that.

    Args:
        path: of the output; where nothing is, or an empty file, there is nothing to lose.
        kind: of `KINDS`.
        option: that named it, for messages.

    Raises:
        UsageError: the file that is there is of another kind.
    """
    if not path.is_file() or not path.stat().st_size or path.name.lower().endswith(KINDS[kind].suffixes):
        return
    with path.open("rb") as file:
        start = file.read(_START)
    if not KINDS[kind].known(start):
        raise UsageError(
            f"{named(option, path)}: not {KINDS[kind].name}, so {named('force', True)} does not replace it"
        )


def same_place(left: Path, right: Path) -> bool:
    """Whether two paths lead to one file or folder, by links too."""
    try:
        return left.samefile(right)
    except OSError:  # one of them is not there
        return left.resolve() == right.resolve()


def check_writable(folder: Path, subject: str) -> None:
    """Refuse a folder in which nothing can be made.

    Args:
        folder: it exists.
        subject: what the message begins with: who wants to write there.

    Raises:
        UsageError: it is read-only.
    """
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"{subject}: {folder} is read-only")


def read_yaml(path: Path, option: str = "") -> dict[str, Any]:
    """Read a YAML mapping of names to values; nothing in the file is executed.

    Args:
        path: of the file.
        option: that named it, for messages.

    Raises:
        UsageError: the file is missing, is not YAML, or is not a mapping.
    """
    return _mapping(path, option, yaml.safe_load, "plain YAML", "a mapping of option names to values")


def read_json(path: Path, option: str = "") -> dict[str, Any]:
    """Read a JSON object; arguments and errors as `read_yaml`."""
    return _mapping(path, option, json.loads, "JSON", "an object")


def _mapping(path: Path, option: str, parse: Callable[[str], Any], kind: str, shape: str) -> dict[str, Any]:
    subject = named(option, path) if option else str(path)
    try:
        values = parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{subject}: {getattr(error, 'strerror', None) or 'not a text file'}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:120]
        raise UsageError(f"{subject}: not {kind} ({reason})") from None
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise UsageError(f"{subject}: expected {shape}")
    return values


def yaml_line(value: Any) -> str:
    """Write a value as YAML on one line.

    >>> yaml_line([1, "a"]), yaml_line(True)
    ('[1, a]', 'true')
    """
    text: str = yaml.safe_dump(value, default_flow_style=True, width=2**31)
    return text.removesuffix("...\n").strip()


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _told(path: Path) -> Iterator[None]:
    from safetensors import SafetensorError  # not needed by who only reads

    try:
        yield
    except (OSError, SafetensorError) as error:
        number = error.errno if isinstance(error, OSError) else _errno_in(str(error))
        if number in _FULL:
            raise UsageError(f"{path}: the disk is full; nothing was written") from error
        if number in _REFUSED:
            raise UsageError(f"{path}: {os.strerror(number)}; nothing was written") from error
        raise


def _errno_in(text: str) -> int | None:
    """Return the system's error number that a library of Rust wrote into its message."""
    found = re.search(r"\(os error (\d+)\)", text)
    return int(found[1]) if found else None


def _prefix(path: Path) -> str:
    """Return how temporaries beside a place begin: no name that a person gives, and whose they are."""
    return f".{path.name}.ranp-{_host()}-{os.getpid()}."


def _host() -> str:
    return re.sub(r"\W", "_", socket.gethostname())[:48]


def _sweep(path: Path) -> None:
    """Remove what processes of this machine that were killed left beside a place; all else is somebody's."""
    ours = re.compile(rf"{re.escape(f'.{path.name}.ranp-{_host()}-')}(\d+)\.\w+", re.ASCII)
    for entry in path.parent.iterdir():
        match = ours.fullmatch(entry.name)
        if match is None or _alive(int(match[1])):
            continue
        with suppress(OSError):  # another user's, or swept by another process meanwhile
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _exchange(new: Path, old: Path) -> None:
    """Swap two folders in one step where the system can; otherwise in two renames."""
    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if function is not None and function(_HERE, os.fsencode(new), _HERE, os.fsencode(old), _EXCHANGE) == 0:
        return
    aside = Path(tempfile.mkdtemp(prefix=_prefix(old), dir=old.parent)) / "old"
    old.rename(aside)
    new.rename(old)
    shutil.rmtree(aside.parent, ignore_errors=True)


def _flush(path: Path) -> None:
    if path.is_file():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all; folders above it are made.

    Raises:
        UsageError: as `whole_file`.
    """
    with _told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as temporary:
        temporary.write_text(text)
