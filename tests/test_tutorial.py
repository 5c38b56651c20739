"""Every command of docs/tutorial.md runs, in the order it stands there, on volumes in the page's layout."""

import json
import re
import runpy
import shlex
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from ranp import runs
from ranp.commands.main import app

nibabel = pytest.importorskip("nibabel")
for package in ("scipy", "onnx", "onnxscript", "onnxruntime", "matplotlib"):
    pytest.importorskip(package)

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "tutorial.md").read_text().replace("\\\n", "")
LINES = re.findall(r"^    ((?:ranp|python) .*)$", PAGE, flags=re.MULTILINE)
SMALLER = {
    "examples/volumes.py": ["--size", "24", "--noise", "20", "--cases", "4"],
    "prune": ["--set", "base_width=8", "--set", "depth=2", "--patch", "16", "--batches", "2", "--sparsity", "0.3"],
    "train": ["--steps", "120", "--lr", "0.01"],
    "transfer --input": ["--input", "24"],
    "examples/train_loop.py": ["--steps", "5", "--size", "16"],
    "examples/train_slim.py": ["--steps", "5", "--size", "16", "--width", "4"],
}
"""Added to a command, to be quick: what stands later wins."""


def added(words: list[str]) -> list[str]:
    return [word for key, more in SMALLER.items() if set(key.split()) <= set(words) for word in more]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the whole page in one folder, and return it."""
    path = tmp_path_factory.mktemp("tutorial")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        for line in LINES:
            program, *words = shlex.split(line)
            words += added(words)
            if program == "python":
                runpy.run_path(str(ROOT / words[0]))["main"](words[1:])
                continue
            done = CliRunner().invoke(app, words)
            assert done.exit_code == 0, f"{line}\n{done.output[-2000:]}"
    return path


def test_the_page_goes_all_the_way() -> None:
    verbs = [shlex.split(line)[1] for line in LINES if line.startswith("ranp ")]
    expected = ["data", "prune", "train", "evaluate", "verify", "report", "export", "predict", "refine", "transfer"]
    assert list(dict.fromkeys(verbs)) == [*expected, "adopt"]
    inline = re.findall(r"`ranp (\w+)`", PAGE)
    assert set(inline) <= set(verbs)


def test_every_file_that_is_named_is_written(folder: Path) -> None:
    written = re.findall(r"--(?:out|csv|sheet) (\S+)", "\n".join(LINES))
    assert len(written) >= 11
    assert [name for name in written if not (folder / name).exists()] == []


def test_the_network_learned(folder: Path) -> None:
    run = runs.read(folder / "runs" / "trained")
    assert run.training["best"]["score"] > 0.5  # more than one of the two classes gives
    assert run.training["validated_on"] == "1 validation case of volumes"
    assert run.training["trained_on"] == "3 volumes cases"
    curve = run.training["curve"]
    assert curve[-1]["loss"] < 0.7 * curve[0]["loss"]


def test_torch_and_the_exported_file_say_the_same(folder: Path) -> None:
    said, exported = (
        np.asanyarray(nibabel.load(folder / name / "test00.nii.gz").dataobj)
        for name in ("predictions", "predictions-onnx")
    )
    image = nibabel.load(folder / "TEST" / "images" / "test00.nii.gz")
    assert said.shape == image.shape
    assert (said == exported).mean() > 0.999


def test_the_widths_are_those_of_the_first_run(folder: Path) -> None:
    plans = {name: runs.read(folder / "runs" / name).plan for name in ("slim", "trained", "other", "larger")}
    widths = {name: {group.name: len(group.kept) for group in plan.groups} for name, plan in plans.items()}
    assert widths["trained"] == widths["slim"] == widths["larger"]
    inner = {name for name in widths["slim"] if name in widths["other"] and name != "final"}
    assert len(inner) > 5
    assert all(widths["other"][name] == widths["slim"][name] for name in inner)


def test_own_weights_become_those_of_the_run(folder: Path) -> None:
    assert runs.read(folder / "runs" / "slim").report.trained is not None
    assert json.loads((folder / "runs" / "slim" / "report.json").read_text())["trained"]
