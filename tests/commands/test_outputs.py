"""No output destroys an input, a run, or what the command would never have written."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from ranp.commands.main import app as program
from ranp.jobs import options as jobs
from ranp.options import Options, listing

SMALL = ["unet2d", "--set", "base_width=4", "--set", "depth=2", "--classes", "3"]
PRUNE = ["prune", *SMALL, "--patch", "12", "--method", "l1", "--sparsity", "0.4"]
PARTS = ("config.yaml", "plan.json", "slim.safetensors", "report.json")
Call = Callable[..., Any]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of a run and files of a person's."""
    folder = tmp_path_factory.mktemp("made")
    done = CliRunner().invoke(program, [*PRUNE, "--out", str(folder / "run")])
    assert done.exit_code == 0, done.output
    (folder / "net.py").write_text(
        "from torch import nn\n\n\ndef net():\n    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1))\n"
    )
    np.save(folder / "logits.npy", np.random.default_rng(0).normal(size=(3, 8, 9)).astype(np.float32))
    np.save(folder / "image.npy", np.random.default_rng(1).normal(size=(8, 9)).astype(np.float32))
    (folder / "options.yaml").write_text("debug: false\n")
    (folder / "notes.txt").write_text("mine")
    (folder / "other.json").write_text("{}")
    np.save(folder / "mine.npy", np.zeros((8, 9)))
    torch.save({"weight": torch.ones(2)}, folder / "trained.pt2")
    np.savez(folder / "arrays.pt2", weight=np.ones(2))
    (folder / "arrays.pt2.npz").rename(folder / "arrays.pt2")
    (folder / "mine.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"><title>My house</title></svg>')
    (folder / "mine.dot").write_text("digraph house { door -> room }")
    (folder / "mine.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(64))
    (folder / "mine.pdf").write_bytes(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "run"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(each.relative_to(folder)): each.read_bytes() for each in sorted(folder.rglob("*")) if each.is_file()}


WRITERS = {
    "onnx": ["export", "run", "--onnx"],
    "torch export": ["export", "run", "--torch-export"],
    "compare": ["compare", *SMALL, "--patch", "12", "--batches", "1", "--sparsity", "0.3", "--out"],
    "compare a run": ["compare", "run", "--out"],
    "page": ["report", "run", "--out"],
    "dot": ["inspect", "run", "--dot"],
    "svg": ["inspect", *SMALL, "--input", "12", "--svg"],
    "labels": ["refine", "logits.npy", "--out"],
    "picture": ["refine", "logits.npy", "--out", "o.npy", "--picture"],
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("name", WRITERS)
def test_no_output_is_a_file_of_a_run(refused: Call, run: Path, name: str, part: str) -> None:
    before = contents(run.parent)
    said = refused(*WRITERS[name], f"run/{part}", "--force")
    assert f" run/{part}: is " in said
    assert said.endswith("name another output")
    assert contents(run.parent) == before


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_no_output_leads_to_one_by_a_link(refused: Call, run: Path, link: Callable[[Path, Path], None]) -> None:
    link(run / "plan.json", run.parent / "link.onnx")
    before = contents(run.parent)
    assert "name another output" in refused("export", "run", "--onnx", "link.onnx", "--force")
    (run.parent / "folder").symlink_to("run")
    assert "name another output" in refused("export", "run", "--onnx", "folder/plan.json", "--force")
    assert "name another output" in refused(
        *WRITERS["dot"], run.parent / "folder" / ".." / "run" / "plan.json", "--force"
    )
    (run.parent / "folder").unlink()
    assert contents(run.parent) == before


INPUTS = {
    "logits": ["refine", "logits.npy", "--out", "logits.npy"],
    "image": ["refine", "logits.npy", "--image", "image.npy", "--out", "./image.npy"],
    "truth": ["refine", "logits.npy", "--labels", "image.npy", "--out", "image.npy"],
    "config of refine": [
        "refine",
        "logits.npy",
        "--config",
        "options.yaml",
        "--out",
        "o.npy",
        "--picture",
        "options.yaml",
    ],
    "config": ["export", "run", "--config", "options.yaml", "--onnx", "options.yaml"],
    "network": ["inspect", "net.py:net", "--svg", "net.py"],
    "network of a run": ["export", "run", "--model", "net.py:net", "--onnx", "net.py"],
    "checkpoint": ["export", "run", "--weights", "notes.txt", "--onnx", "notes.txt"],
    "table": ["report", "run", "--compare", "other.json", "--out", "other.json"],
    "checkpoint of compare": ["compare", *SMALL, "--weights", "notes.txt", "--out", "notes.txt"],
    "run itself": ["transfer", "run", "--out", "run"],
    "run by a link": ["transfer", "linked", "--out", "run"],
    "checkpoint in the run": ["prune", *SMALL, "--weights", "run/plan.json", "--out", "run"],
    "fused into its part": ["fuse", "run", "--out", "run"],
}


@pytest.mark.parametrize("name", INPUTS)
def test_no_output_is_an_input(refused: Call, run: Path, name: str) -> None:
    (run.parent / "linked").symlink_to("run")
    before = contents(run.parent)
    said = refused(*INPUTS[name], "--force")
    assert "the input" in said
    assert said.endswith("name another output")
    assert contents(run.parent) == before


OTHERS = {
    "onnx": ["export", "run", "--onnx", "notes.txt"],
    "torch export": ["export", "run", "--torch-export", "notes.txt"],
    "a checkpoint": ["export", "run", "--torch-export", "trained.pt2"],
    "arrays": ["export", "run", "--torch-export", "arrays.pt2"],
    "another svg": ["inspect", "run", "--svg", "mine.svg"],
    "another dot": ["inspect", "run", "--dot", "mine.dot"],
    "another picture": ["refine", "logits.npy", "--out", "o.npy", "--picture", "mine.png"],
    "another page": ["refine", "logits.npy", "--out", "o.npy", "--picture", "mine.pdf"],
    "a run of another command": ["fuse", "unet2d", "--classes", "3", "--input", "16", "--out", "run"],
    "compare": ["compare", *SMALL, "--out", "other.json"],
    "page": ["report", "run", "--out", "notes.txt"],
    "dot": ["inspect", "run", "--dot", "notes.txt"],
    "svg": ["inspect", "run", "--svg", "notes.txt"],
    "labels": ["refine", "logits.npy", "--out", "mine.npy"],
    "picture": ["refine", "logits.npy", "--out", "o.npy", "--picture", "net.py"],
}


@pytest.mark.parametrize("name", OTHERS)
def test_force_replaces_only_what_the_command_itself_writes(refused: Call, run: Path, name: str) -> None:
    before = contents(run.parent)
    assert "so --force does not replace it" in refused(*OTHERS[name], "--force")
    assert contents(run.parent) == before


OWN = {
    "page": [["report", "run", "--out", "page.html"]],
    "dot and svg": [["inspect", "run", "--dot", "a.dot", "--svg", "a.svg"]],
    "labels": [["refine", "logits.npy", "--out", f"o{suffix}"] for suffix in (".npy", ".npz", ".nii", ".nii.gz")],
    "pictures": [
        ["refine", "logits.npy", "--out", f"{suffix}.npy", "--picture", f"p.{suffix}"]
        for suffix in ("png", "pdf", "svg")
    ],
    "compare": [[*WRITERS["compare"], "table.json"]],
    "torch export": [["export", "run", "--torch-export", "net.bin"]],
}


@pytest.mark.parametrize("name", OWN)
def test_what_it_wrote_is_replaced_by_force(ranp: Call, refused: Call, run: Path, name: str) -> None:
    for words in OWN[name]:
        ranp(*words)
        assert "replace it with --force" in refused(*words)
        ranp(*words, "--force")


def test_an_onnx_file_is_replaced_under_any_name(ranp: Call, run: Path) -> None:
    pytest.importorskip("onnxruntime")
    ranp("export", "run", "--onnx", "net.bin")
    ranp("export", "run", "--onnx", "net.bin", "--force")
    assert (run.parent / "net.bin").stat().st_size


def test_a_run_with_other_files_in_it_is_not_replaced(ranp: Call, refused: Call, run: Path) -> None:
    ranp("report", "run")
    ranp(*PRUNE, "--out", "run", "--force")
    assert not (run / "report.html").exists()
    ranp("prune", "--config", "run/config.yaml", "--out", "run", "--force")  # the config of the run that is made again
    torch.save({}, run / "trained.pt")
    before = contents(run)
    said = refused(*PRUNE, "--out", "run", "--force")
    assert said == "--out run: holds trained.pt, which is not of the run, so --force does not replace it"
    assert contents(run) == before


def test_two_outputs_are_two_files(refused: Call, run: Path) -> None:
    assert "--svg a: --dot writes there" in refused("inspect", "run", "--dot", "a", "--svg", "./a")
    shutil.copy(run.parent / "notes.txt", run.parent / "b.npy")
    assert "--out writes there" in refused("refine", "logits.npy", "--out", "b.npy", "--picture", run.parent / "b.npy")


def test_every_option_that_writes_says_so() -> None:
    """A new output is checked by what its field says; options of these names are outputs."""
    assert program.registered_commands
    classes = [value for value in vars(jobs).values() if isinstance(value, type) and issubclass(value, Options)]
    outputs = [each for options in classes for each in listing(options) if each.name in ("out", "dot", "svg", "onnx")]
    assert len(outputs) > 6
    assert all(each.known["writes"] for each in outputs)
