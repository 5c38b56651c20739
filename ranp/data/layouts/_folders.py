"""What lies in a folder: files by their suffix, splits and classes by the names of folders.

Names that begin with a dot are passed over: they are what other programs left there.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from ranp.data.dataset import TESTING, TRAINING, VALIDATION, Case
from ranp.errors import UsageError, listed, named

_SPLITS = {
    **dict.fromkeys(("train", "training"), TRAINING),
    **dict.fromkeys(("val", "valid", "validation"), VALIDATION),
    **dict.fromkeys(("test", "testing"), TESTING),
}


def entries(folder: Path) -> list[Path]:
    """Return what lies in a folder, in the order of the names.

    Raises:
        UsageError: it can't be listed.
    """
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise UsageError(f"{named('data', folder)}: can't be listed ({error.strerror})") from None


def folders(folder: Path) -> list[Path]:
    """Return the folders in a folder."""
    return [entry for entry in entries(folder) if entry.is_dir()]


def files(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """Return the files of a folder that end in one of these, in small letters or capitals."""
    return [entry for entry in entries(folder) if entry.suffix.lower() in suffixes and entry.is_file()]


def split_of(folder: Path) -> str | None:
    """Return the split that a folder is called by."""
    return _SPLITS.get(folder.name.lower())


def splits(root: Path) -> list[tuple[str, Path]]:
    """Return the folders of splits, and the root, of no split, where its folders are not all called so.

    One of several classes may be called "train".
    """
    inside = [(split_of(folder), folder) for folder in folders(root)]
    own = [(split, folder) for split, folder in inside if split is not None]
    return own if own and len(own) == len(inside) else [("", root)]


def by_class(root: Path, suffixes: Sequence[str], what: str) -> tuple[tuple[Case, ...], tuple[str, ...]]:
    """List ROOT/CLASS/FILE, or ROOT/SPLIT/CLASS/FILE, and the classes in the order of their names.

    Raises:
        UsageError: there is no folder of a class, or one without such a file.
    """
    listing = [(split, folder) for split, place in splits(root) for folder in folders(place)]
    names = sorted({folder.name for _, folder in listing})
    endings = f"files ending in {listed(suffixes)}"
    if not listing:
        raise UsageError(f"{named('data', root)}: holds no folders; expected one for each class, with {endings}")
    cases: list[Case] = []
    for split, folder in listing:
        inside = files(folder, suffixes)
        if not inside:
            raise UsageError(f"{named('data', folder)}: a class without {what}s; expected {endings}")
        label = names.index(folder.name)
        cases += [Case(name_of(file, root), (file,), label, split) for file in inside]
    return tuple(cases), tuple(names)


def holds_classes(root: Path, suffixes: Sequence[str]) -> bool:
    """Whether some folder of a class holds such files; of what can't be listed no."""
    try:
        return root.is_dir() and any(files(folder, suffixes) for _, place in splits(root) for folder in folders(place))
    except (UsageError, OSError):
        return False


def name_of(file: Path, root: Path) -> str:
    """Return the name of a case: its path below the root, without the suffix."""
    return file.relative_to(root).with_suffix("").as_posix()


def by_stem(paths: Iterable[Path]) -> dict[str, Path]:
    """Return files by their names without the suffix.

    Raises:
        UsageError: two of one name.
    """
    known: dict[str, Path] = {}
    for path in paths:
        if path.stem in known:
            raise UsageError(f"{named('data', path)}: {known[path.stem].name} has the same name; expected one of them")
        known[path.stem] = path
    return known


def check_there(file: Path, whose: str) -> Path:
    """Return a file that must be there.

    Raises:
        UsageError: it is not; `whose` says what asks for it.
    """
    if not file.is_file():
        raise UsageError(f"{named('data', file)}: no such file; expected by {whose}")
    return file


def lines(file: Path) -> list[tuple[int, str]]:
    """Return the lines of a list that hold something, with their numbers.

    Raises:
        UsageError: the list is missing, or no text.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UsageError(f"{named('data', file)}: a list that can't be read ({reason})") from None
    return [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
