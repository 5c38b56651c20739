"""Runs that are a part of another run: found by the word that names them, and copied, so that it does without them."""

import shutil
from pathlib import Path

from ranp import runs


def run_folder(word: str | None) -> Path | None:
    """Return the folder of a run that a word names, by itself or by the weights in it; None for another MODEL."""
    if word is None:
        return None
    path = Path(word)
    if path.name == runs.WEIGHTS and (path.parent / runs.PLAN).is_file():
        return path.parent
    return path if path.is_dir() else None


def copy_run(source: Path, to: Path) -> None:
    """Copy a run without what loading it does not read: pages, exports, tables."""
    shutil.copytree(source, to, ignore=_not_needed)


def _not_needed(folder: str, names: list[str]) -> set[str]:
    pages = {"report.html", "compare.json", runs.METRICS, runs.TRAINING, runs.STATE, "decoder.svg"}
    return {name for name in names if name in pages or name.endswith((".onnx", ".data", ".pt2"))}
