"""The commands of docs/data.md for shapes, ShapeNet part, loaders and `ranp data`, on small data in those layouts."""

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ranp.data.parts import CATEGORIES, FIRST

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text().replace("\\\n", "")
WORDS = ("shapes", "SHAPENET", "mine.py:batches", "nnunet:Dataset007_Pancreas")
LINES = [
    line for line in re.findall(r"^    (ranp .*)$", PAGE, flags=re.MULTILINE) if any(word in line for word in WORDS)
]
SMALLER = {"prune": ["--set", "base_width=4", "--set", "depth=2", "--patch", "16", "--batches", "1"], "data": []}
MINE = """
import torch

def batches(folder: str, size: int = 64):
    for k in range(2):
        yield torch.rand(1, 1, 16, 16, 16), torch.randint(4, (1, 16, 16, 16))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    nibabel = pytest.importorskip("nibabel")
    rng = np.random.default_rng(0)
    for category in ("Mug", "Table"):
        offset, parts = CATEGORIES[category]
        (tmp_path / "SHAPENET" / offset).mkdir(parents=True)
        rows = rng.normal(size=(60, 7))
        rows[:, 6] = FIRST[category] + rng.integers(len(parts), size=60)
        np.savetxt(tmp_path / "SHAPENET" / offset / "a.txt", rows, fmt="%.6f")
    pancreas = tmp_path / "Dataset007_Pancreas"
    for kind, values in (("imagesTr", rng.normal(size=(8, 8, 8))), ("labelsTr", rng.integers(3, size=(8, 8, 8)))):
        (pancreas / kind).mkdir(parents=True)
        name = "p1_0000.nii.gz" if kind == "imagesTr" else "p1.nii.gz"
        nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), np.eye(4)), pancreas / kind / name)
    names = {"background": 0, "pancreas": 1, "tumour": 2}
    about = {"channel_names": {"0": "CT"}, "labels": names, "numTraining": 1, "file_ending": ".nii.gz"}
    (pancreas / "dataset.json").write_text(json.dumps(about))
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_source_has_its_commands() -> None:
    assert all(any(word in line for line in LINES) for word in WORDS)
    assert len(LINES) >= 7


@pytest.mark.parametrize("line", LINES, ids=lambda line: line[:60])
def test_command(line: str, folder: Path, ranp: Callable[..., Any]) -> None:
    words = shlex.split(line)[1:]
    ranp(*words, *SMALLER[words[0]])
    written = [words[place + 1] for place, word in enumerate(words) if word in ("--out", "--sheet")]
    assert all((folder / name).exists() for name in written)
