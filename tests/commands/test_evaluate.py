"""`ranp evaluate` on files, runs and networks of the user's own."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import Result

nibabel = pytest.importorskip("nibabel")
pytest.importorskip("scipy")

NETWORK = """
import torch
from torch import nn

class Bright(nn.Module):
    '''Class 1 where an image is above 1 after its z-score, class 2 where it is above 2.'''

    def __init__(self, noise: float = 0.0):
        super().__init__()
        self.convolution = nn.Conv3d(1, 3, 1)
        weight = torch.tensor([0.0, 10.0, 20.0]).view(3, 1, 1, 1, 1)
        self.convolution.weight.data = weight
        self.convolution.bias.data = torch.tensor([0.0, -10.0, -30.0])

    def forward(self, image):
        return self.convolution(image)
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three volumes of values 0, 50 and 100 in little noise, whose labels are 0, 1 and 4."""
    rng = np.random.default_rng(0)
    affine = np.array([[0.0, -1.5, 0.0, 0.0], [1.0, 0.0, 0.0, 7.0], [0.0, 0.0, 2.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    for k in range(3):
        classes = np.zeros((14, 13, 12), np.uint8)
        classes[2 : 7 + k, 3:9, 2:8] = 1
        classes[4:6, 5:8, 3:7] = 2
        image = np.array([0, 50, 110])[classes] + rng.normal(size=classes.shape)
        for folder, values in (
            ("images", image.astype(np.float32)),
            ("labels", np.array([0, 1, 4], np.uint8)[classes]),
        ):
            (tmp_path / "vol" / folder).mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(values, affine), tmp_path / "vol" / folder / f"case{k}.nii.gz")
    (tmp_path / "bright.py").write_text(NETWORK)
    return tmp_path


def words(data: Path) -> list[str]:
    return [f"{data / 'bright.py'}:Bright", "--data", str(data / "vol"), "--label-map", "1=1,4=2", "--patch", "8"]


def test_a_table_a_row_for_each_case_and_pictures(ranp: Callable[..., Result], data: Path) -> None:
    pytest.importorskip("matplotlib")
    shown = ranp("evaluate", *words(data), "--csv", data / "a.csv", "--sheet", data / "a.png").stdout
    assert "on 3 cases of volumes" in shown
    assert "HD95 (mm)" in shown
    lines = {line.split()[0]: line for line in shown.splitlines() if line}
    assert lines["mean"].startswith("mean without class 0")
    rows = list(csv.DictReader((data / "a.csv").read_text().splitlines()))
    assert [(row["case"], row["class"]) for row in rows] == [
        (f"case{k}", f"class {c}") for k in range(3) for c in range(3)
    ]
    assert all(float(row["dice"]) > 0.9 for row in rows if row["class"] == "class 0")
    assert (data / "a.png").read_bytes().startswith(b"\x89PNG")


def test_json_has_what_the_table_has(answer: Callable[..., dict[str, Any]], data: Path) -> None:
    found = answer("evaluate", *words(data), "--split", "all")
    assert found["task"] == "segmentation"
    assert found["unit"] == "mm"
    dice = [case["dice"] for case in found["cases"]]
    for k, each in enumerate(found["classes"]):
        assert each["dice"]["mean"] == pytest.approx(np.mean([values[k] for values in dice]))
        assert each["dice"]["sd"] == pytest.approx(np.std([values[k] for values in dice], ddof=1))
    assert found["score"] == pytest.approx(np.mean([each["dice"]["mean"] for each in found["classes"][1:]]))


def test_a_run_knows_how_its_data_were_read(
    ranp: Callable[..., Result], answer: Callable[..., dict[str, Any]], data: Path
) -> None:
    run = data / "run"
    ranp("prune", "unet3d", "--set", "base_width=4", "--set", "depth=2", "--data", data / "vol", "--label-map",
         "1=1,4=2", "--patch", "8", "--sparsity", "0.2", "--batches", "1", "--out", run)  # fmt: skip
    by_itself = answer("evaluate", run)
    assert by_itself["source"] == "3 cases of volumes"
    assert len(by_itself["classes"]) == 3
    given = answer("evaluate", run, "--data", data / "vol", "--label-map", "1=1,4=2", "--patch", "8")
    assert given["cases"] == by_itself["cases"]
    assert by_itself["weights"].startswith("untrained")


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (["--split", "validation"], None),
        (["--split", "val"], "--split val: expected testing, validation, training or all"),
        (["--overlap", "1"], "--overlap 1.0: expected a share in [0, 1)"),
        (["--sheet", "a.txt"], "--sheet a.txt: expected a picture: .png, .pdf or .svg"),
        (["--csv", "missing/a.csv"], "--csv missing/a.csv: no folder missing"),
    ],
)
def test_mistakes_are_a_line(
    ranp: Callable[..., Result], refused: Callable[..., str], data: Path, more: list[str], line: str | None
) -> None:
    if line is None:  # the layout knows no splits: all cases are each
        ranp("evaluate", *words(data), *more)
        return
    assert refused("evaluate", *words(data), *more).startswith(line)


def test_no_output_replaces_an_input_or_another_kind_of_file(refused: Callable[..., str], data: Path) -> None:
    (data / "notes.csv").write_text("a,b\n1,2\n")
    assert "exists" in refused("evaluate", *words(data), "--csv", data / "notes.csv")
    assert "not a table of `ranp evaluate`" in refused("evaluate", *words(data), "--csv", data / "notes.csv", "--force")
    assert "is the input" in refused("evaluate", *words(data), "--csv", data / "bright.py", "--force")


def test_what_is_generated_needs_no_files(answer: Callable[..., dict[str, Any]]) -> None:
    found = answer("evaluate", "unet2d", "--set", "base_width=4", "--set", "depth=2", "--patch", "16", "--batches", "2")
    assert found["source"] == "phantoms, which are generated, not your data"
    assert len(found["cases"]) == 2
    json.dumps(found, allow_nan=False)
