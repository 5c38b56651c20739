"""The benchmarks that train run on volumes that take seconds: cohorts, rules against each other, transfer."""

import json
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch

import ranp
from ranp.errors import UsageError
from ranp.jobs import _kept
from ranp.selection._patterns import fitting

nibabel = pytest.importorskip("nibabel")
pytest.importorskip("scipy")

HERE = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, Any]]:
    monkeypatch.syspath_prepend(str(HERE))
    return lambda name: runpy.run_path(str(HERE / name))


def volume(folder: Path, seed: int = 0) -> tuple[Path, Path]:
    """A ball in a box, and their labels."""
    rng = np.random.default_rng(seed)
    place = np.stack(np.meshgrid(*(np.arange(20) - 9.5,) * 3, indexing="ij"))
    labels = (np.abs(place).max(axis=0) < 8).astype(np.uint8) + (np.square(place).sum(axis=0) < 25).astype(np.uint8)
    image = 100 * labels + rng.standard_normal(labels.shape)
    files = folder / "image.nii.gz", folder / "labels.nii.gz"
    folder.mkdir(parents=True, exist_ok=True)
    for file, values in zip(files, (image, labels), strict=True):
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), file)
    return files


def test_a_cohort_trains_on_copies_and_validates_on_the_volume(script: Any, tmp_path: Path) -> None:
    image, labels = volume(tmp_path)
    make = script("cohort.py")["make"]
    for out in ("one", "again"):
        make(image, labels, tmp_path / out, {"box": [1], "ball": [2]}, spacing=2.0, cases=2)
    split = json.loads((tmp_path / "one" / "splits_final.json").read_text())
    assert split == [{"train": ["copy_00", "copy_01"], "val": ["original"]}]
    voxels = {}
    for name in ("copy_00", "copy_01", "original"):
        for file in (f"imagesTr/{name}_0000.nii.gz", f"labelsTr/{name}.nii.gz"):
            one, again = (nibabel.load(tmp_path / out / file) for out in ("one", "again"))
            assert one.header.get_zooms() == (2, 2, 2)
            assert np.array_equal(one.get_fdata(), again.get_fdata())
            voxels[file] = one.get_fdata()
        assert set(np.unique(voxels[f"labelsTr/{name}.nii.gz"])) == {0, 1, 2}
    assert np.array_equal(np.unique(voxels["imagesTr/original_0000.nii.gz"].round(-2)), [0, 100, 200])
    for kind in ("imagesTr/{}_0000.nii.gz", "labelsTr/{}.nii.gz"):
        one, other, original = (voxels[kind.format(name)] for name in ("copy_00", "copy_01", "original"))
        assert not np.array_equal(one, other)
        assert not np.array_equal(one, original)


def test_clips_that_only_their_motion_tells_apart(script: Any) -> None:
    moving = script("moving.py")
    first = list(moving["clips"](size=16, frames=4, batch_size=2, batches=2))
    assert [(clips.shape, labels.shape) for clips, labels in first] == [((2, 3, 4, 16, 16), (2,))] * 2
    again = list(moving["clips"](size=16, frames=4, batch_size=2, batches=2))
    assert all(torch.equal(one[0], other[0]) for one, other in zip(first, again, strict=True))
    held = next(moving["held_out"](size=16, frames=4, batch_size=2))
    assert not torch.equal(held[0], first[0][0])
    # a texture that moves left by s pixels a frame: a frame is the one before, shifted; noise aside
    left = moving["clip"](0, 32, 8, np.random.default_rng(0))
    shifts = {shift: float((left[:, 4, :, : 32 - shift] * left[:, 0, :, shift:]).mean()) for shift in range(8)}
    assert max(shifts, key=lambda shift: shifts[shift]) in (2, 3, 4, 5, 6)
    still = [float((left[:, 4, shift:] * left[:, 0, : 32 - shift]).mean()) for shift in range(8)]
    assert max(shifts.values()) > 2 * max(still)


def test_transfer_from_the_command_line(
    script: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make = script("cohort.py")["make"]
    for name, groups in (("A", {"box": [1], "ball": [2]}), ("B", {"both": [1, 2]})):
        make(*volume(tmp_path / name / "raw"), tmp_path / name, groups, spacing=2.0, cases=2)
    words = [tmp_path / "A", tmp_path / "B", "--patch", 8, "--steps", 2, "--flops", "70%", "--seeds", 0]
    words += ["--set", "base_width=8", "--set", "depth=2", "--work", tmp_path / "work"]
    main = script("transfer.py")["main"]
    main([str(word) for word in words])
    said = capfd.readouterr()
    rows = [[entry.strip() for entry in line.split("|")[1:-1]] for line in said.out.splitlines()[2:]]
    assert [row[:2] for row in rows] == [
        ["A", "A"], ["A", "B"], ["A", "nothing"], ["B", "B"], ["B", "A"], ["B", "nothing"],
    ]  # fmt: skip
    assert float(rows[0][3].split()[0]) < float(rows[2][3].split()[0])
    commands = [line for line in said.err.splitlines() if line.startswith("+ ranp")]
    assert [line.split()[2] for line in commands].count("train") == 6
    shutil.rmtree(tmp_path / "work" / "seed0" / "A-full")
    with monkeypatch.context() as stopping:
        stopping.setattr(_kept, "trained", Mock(side_effect=UsageError("stopped")))
        with pytest.raises(SystemExit):
            main([str(word) for word in words])
    capfd.readouterr()
    main([str(word) for word in words])  # what is there is not done again, half a training is gone on with
    again = capfd.readouterr()
    assert again.out == said.out
    assert [line.split()[2] for line in again.err.splitlines() if line.startswith("+ ranp")] == ["train"]


def test_a_cell_of_the_table(script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    learning = script("learning.py")
    results = tmp_path / "lines.jsonl"
    task = learning["Task"](
        "unet3d",
        {"classes": 3, "in_channels": 1, "base_width": 16, "depth": 2},
        {"data": "phantom"},
        ((1, 8, 8, 8),),
        2,
        2,
    )
    learning["TASKS"].clear()
    learning["TASKS"]["balls"] = task
    words = ["--tasks", "balls", "--rules", "uniform", "RANP-f", "--budgets", "20% FLOPs", "--seeds", "0"]
    monkeypatch.setattr(sys, "argv", ["learning.py", *words, "--work", str(tmp_path), "--results", str(results)])
    learning["main"]()
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    assert [line["rule"] for line in lines] == ["uniform", "RANP-f"]
    assert all(line["flops_share"] <= 0.2 for line in lines)
    assert all(0 <= line["score"] <= 1 for line in lines)
    learning["main"]()
    assert len(results.read_text().splitlines()) == 2
    table = learning["table"](lines).splitlines()
    assert table[2].startswith("| 20% FLOPs | uniform |")
    assert len(table) == 4


def test_at_equal_time_a_network_trains_for_the_steps_that_uniform_narrowing_has_time_for(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learning = script("learning.py")
    steps: list[int] = []

    def trained(model: Any, shared: Any, task: Any, count: int, out: Path, validated: bool = True) -> dict[str, Any]:
        steps.extend([count] if validated else [])
        return {"seconds_per_step": 0.4 if model["rule"] == "full" else 0.1, "validations": [{"score": 0.5}]}

    for name, value in {
        "trained": trained, "chosen": lambda cell, *_: {"rule": cell.rule}, "costs": lambda *_: {},
        "runs": SimpleNamespace(read=lambda _: None),
    }.items():  # fmt: skip
        monkeypatch.setitem(learning["measure"].__globals__, name, value)
    monkeypatch.setattr("shutil.rmtree", lambda *_, **__: None)
    measured = [
        learning["measure"](learning["Cell"]("shapes", rule, "10% FLOPs, equal time", 0, 600), {}, tmp_path)
        for rule in ("uniform", "weighted", "full")
    ]
    assert steps == [600, 600, 150]
    assert [line.get("taken") for line in measured] == [None, 600, 150]


def test_the_page_shows_the_results(script: Any) -> None:
    learning = script("learning.py")
    page, lines = (HERE.parent / "docs" / "evidence.md").read_text(), learning["read"](learning["RESULTS"])
    assert learning["table"](lines) in page
    assert learning["paired"](lines) in page


def test_rules_are_paired_with_narrowing_by_hand(script: Any) -> None:
    learning = script("learning.py")
    lines = [
        {"task": task, "rule": rule, "budget": budget, "seed": seed, "score": score, "steps": asked.steps}
        for task, asked in learning["TASKS"].items()
        if asked.unit != "EPE"
        for seed in (0, 1)
        for rule, score in (("uniform", 0.5), ("profile", 0.7 + 0.2 * seed if task != "clips" else 0.1))
        for budget in (learning["CUTS"] if rule == "uniform" or task == "clips" else learning["CUTS"][1:])
    ]
    shown = learning["paired"](lines).splitlines()[2:]
    assert shown == [
        "| 5% FLOPs, 10% FLOPs, 20% FLOPs | auto, the default | +0.200 (0.040) | 12 of 18 |",
        "| 5% FLOPs, 10% FLOPs, 20% FLOPs | profile | +0.067 (0.082) | 12 of 18 |",
        "| 5% FLOPs | auto, the default | +0.000 (0.000) | 0 of 2 |",
        "| 5% FLOPs | profile | -0.400 (0.000) | 0 of 2 |",
        "| 10% FLOPs | auto, the default | +0.225 (0.059) | 6 of 8 |",
        "| 10% FLOPs | profile | +0.125 (0.119) | 6 of 8 |",
        "| 20% FLOPs | auto, the default | +0.225 (0.059) | 6 of 8 |",
        "| 20% FLOPs | profile | +0.125 (0.119) | 6 of 8 |",
    ]


@pytest.mark.parametrize("task", ["shapes", "clips", "stereo"])
def test_the_default_of_each_task_is_what_its_network_takes(script: Any, task: str) -> None:
    learning = script("learning.py")
    asked = learning["TASKS"][task]
    graph = ranp.trace(asked.network(0), learning["example"](asked))
    assert fitting(graph) == asked.auto
