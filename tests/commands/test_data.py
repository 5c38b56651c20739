import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Call = Callable[..., Any]


@pytest.fixture
def shapenet(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        folder = tmp_path / "parts" / "03797390"
        folder.mkdir(parents=True, exist_ok=True)
        rows = np.random.default_rng(len(name)).normal(size=(20, 7))
        rows[:, 6] = 36 + (np.arange(20) < 5)
        np.savetxt(folder / f"{name}.txt", rows, fmt="%.4f")
    return tmp_path / "parts"


def test_what_is_there_in_words(ranp: Call, shapenet: Path, tmp_path: Path) -> None:
    text = ranp("data", shapenet, "--sheet", tmp_path / "sheet.png").stdout
    lines = text.splitlines()
    assert lines[:5] == [
        f"shapenet  {shapenet}",
        "task      segmentation",
        "cases     2",
        "channels  1",
        "classes   50: airplane body, airplane wing, airplane tail, airplane engine and 46 more",
    ]
    assert "shape     20x3" in lines
    rows = [line.split() for line in lines if line.startswith(("label", "36", "37"))]
    assert rows == [
        ["label", "name", "count", "share", "cases"],
        ["36", "mug", "handle", "30", "75.0", "%", "2"],
        ["37", "mug", "cup", "10", "25.0", "%", "2"],
    ]
    assert lines[-1] == f"wrote {tmp_path / 'sheet.png'}"


def test_some_of_the_cases(ranp: Call, shapenet: Path) -> None:
    assert "cases     2; looked at 1" in ranp("data", shapenet, "--cases", 1).stdout


def test_a_problem_is_named_and_ends_with_one(ranp: Call, answer: Call, shapenet: Path) -> None:
    damaged = shapenet / "03797390" / "b.txt"
    damaged.write_text("1 2 3\n")
    text = ranp("data", shapenet, code=1).stdout
    assert text.splitlines()[-1].startswith(f"problem: Mug/b: {damaged}: 1x3 numbers; expected x y z nx ny nz part")
    found = answer("data", shapenet, code=1)
    assert [each["case"] for each in found["problems"]] == ["Mug/b"]
    assert found["labels"][0]["count"] == 15


def test_a_loaders_prints_go_to_stderr(ranp: Call, answer: Call, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        textwrap.dedent("""
        import torch
        print("imported")
        def pairs(size: int):
            print("called")
            for k in range(3):
                print("drawn")
                yield torch.rand(2, 1, size, size), torch.zeros(2, size, size, dtype=torch.int64)
        """)
    )
    source = f"{tmp_path / 'mine.py'}:pairs"
    result = ranp("data", source, "--set-data", "size=6")
    assert "called" not in result.stdout
    assert {"imported", "called", "drawn"} <= set(result.stderr.splitlines())
    assert f"loader    {source}" in result.stdout
    assert "batches   3" in result.stdout
    assert "shape     1x6x6" in result.stdout
    assert answer("data", source, "--set-data", "size=6")["labels"][0]["share"] == 1


def test_generators(ranp: Call) -> None:
    text = ranp("data", "shapes", "--patch", "10x12", "--cases", 2, "--set-data", "classes=4").stdout
    assert "generator shapes" in text
    assert "classes   4: bag handle, bag body, cap panels, cap peak" in text
    assert "255    ignored" in text


def test_mistakes(refused: Call, shapenet: Path) -> None:
    assert "did you mean 'shapes'" in refused("data", "shape")
    assert "no layout is called" in refused("data", f"shapnet:{shapenet}")
    assert "--cases 0: expected a whole number of at least 1" in refused("data", shapenet, "--cases", 0)
    assert "expected a picture" in refused("data", shapenet, "--sheet", "a.txt")
    assert "--set-data sise" in refused("data", shapenet, "--set-data", "sise=3")
    assert "expected key=value" in refused("data", shapenet, "--set-data", "sise")


def test_a_picture_takes_the_place_of_a_picture_only(ranp: Call, refused: Call, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    words = ["data", "shapes", "--patch", 8, "--cases", 1, "--sheet", sheet]
    ranp(*words)
    assert "exists: choose another name" in refused(*words)
    ranp(*words, "--force")
    sheet.write_text("mine")
    assert "not a picture that ranp drew, so --force does not replace it" in refused(*words, "--force")
