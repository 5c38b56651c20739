"""Every command and snippet of the README runs, in the order it stands there, on small generated volumes."""

import re
import runpy
import shlex
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from ranp.commands.main import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
SMALLER = {
    "prune unet3d": ["--set", "base_width=16", "--set", "depth=3", "--patch", "16", "--batches", "1"],
    "train runs/brain": ["--patch", "16", "--steps", "2"],
}  # added to a command, to be quick


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands() -> list[str]:
    return [line for block in blocks("sh") for line in block.splitlines() if line.startswith("ranp ")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hold a cohort of a small image with labels under the README's name."""
    nibabel = pytest.importorskip("nibabel")
    path = tmp_path_factory.mktemp("readme")
    generator = np.random.default_rng(0)
    labels = np.zeros((24, 24, 24), dtype=np.uint8)
    labels[4:20, 4:20, 4:20] = generator.integers(1, 4, (16, 16, 16))
    image = labels + generator.normal(0, 0.2, labels.shape)
    files = path / "t1.nii.gz", path / "tissue.nii.gz"
    for file, voxels in zip(files, (image.astype(np.float32), labels), strict=True):
        nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), file)
    make = runpy.run_path(str(ROOT / "benchmarks" / "cohort.py"))["make"]
    make(*files, path / "BRAINS", {"grey": [1], "white": [2], "other": [3]}, spacing=1.0, cases=2)
    return path


def test_the_commands_in_their_order(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one test: the later ones take the runs of the first, and tests may be run by several workers."""
    monkeypatch.chdir(folder)
    for line in commands():
        words = shlex.split(line)[1:]
        words += SMALLER.get(" ".join(words[:2]), [])
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, f"{line}: {done.output[-2000:]}"


def test_snippet_in_python(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(folder)
    (snippet,) = blocks("python")
    names: dict = {}
    exec(snippet, names)
    assert names["result"].report.verify["passed"]
    assert "max_rel_diff" in capsys.readouterr().out


def test_config_in_yaml(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (text,) = blocks("yaml")
    (folder / "prune.yaml").write_text(text)
    done = CliRunner().invoke(app, ["prune", "--config", "prune.yaml"])
    assert done.exit_code == 0, done.output[-2000:]
    assert (folder / yaml.safe_load(text)["out"] / "plan.json").exists()


def test_every_command_stands_where_it_is_run() -> None:
    inline = {" ".join(found.split()) for found in re.findall(r"`(ranp [a-z][^`]*)`", README)}
    run = {*commands(), "ranp prune --config prune.yaml"}
    assert {text for text in inline if not any(line.startswith(text) for line in run)} == set()
    assert not re.search(r"^    ranp ", README, flags=re.MULTILINE)


def test_the_demo_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`make demo` minus its set-up, on smaller volumes."""
    monkeypatch.chdir(folder)
    makefile = (ROOT / "Makefile").read_text()
    (line,) = re.findall(r"^demo:.*\n\t\S+/ranp (.+)", makefile, flags=re.MULTILINE)
    done = CliRunner().invoke(app, [*shlex.split(line), "--set", "depth=2", "--patch", "16", "--batches", "1"])
    assert done.exit_code == 0, done.output[-2000:]


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = re.findall(r"^    make (\w+)", README, flags=re.MULTILINE)
    assert named
    assert all(re.search(rf"^{name}:", makefile, flags=re.MULTILINE) for name in named)


def test_every_page_that_is_linked_exists() -> None:
    links = re.findall(r"\]\((docs/[^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
