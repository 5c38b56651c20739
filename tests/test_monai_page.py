"""Every command of docs/monai.md runs, in the order it stands there, on small generated images."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import ranp
from ranp import runs
from ranp.commands.main import app

nibabel = pytest.importorskip("nibabel")
for package in ("ignite", "fire"):
    pytest.importorskip(package, reason="python -m monai.bundle needs it")

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "monai.md").read_text()
LINES = re.findall(r"^    ((?:ranp|python|cd) .*)$", PAGE, flags=re.MULTILINE)


def write_images(folder: Path) -> None:
    generator = np.random.default_rng(0)
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
        for number in range(2):
            values = generator.normal(size=(40, 36)) if name == "images" else generator.integers(0, 2, (40, 36))
            nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), np.eye(4)), folder / name / f"{number}.nii.gz")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the whole page in one folder, and return it."""
    path = place = tmp_path_factory.mktemp("monai")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        for line in LINES:
            program, *words = shlex.split(line.replace("--max_epochs 10", "--max_epochs 1"))
            if program == "cd":
                place = path / words[0]
                write_images(place / "data")
            elif program == "python":
                done = subprocess.run([sys.executable, *words], cwd=place, capture_output=True, text=True, check=False)
                assert done.returncode == 0, f"{line}\n{done.stderr[-2000:]}"
            else:
                said = CliRunner().invoke(app, words)
                assert said.exit_code == 0, f"{line}\n{said.output[-2000:]}"
    return path


def test_the_first_bundle_is_a_call_and_the_second_a_plan(folder: Path) -> None:
    first, second = (
        json.loads((folder / "bundles" / name / "configs" / "train.json").read_text())["network_def"]
        for name in ("slim", "again")
    )
    assert first["_target_"] == "UNet"
    assert all(width <= full for width, full in zip(first["channels"], [8, 16, 32], strict=True))
    assert first["channels"] != [8, 16, 32]
    assert second["_target_"] == "ranp.adapters.monai.slim_network"
    assert (folder / "bundles" / "again" / "models" / "plan.json").is_file()
    notes = runs.read(folder / "runs" / "unet").report.notes
    assert any(f"channels={first['channels']}" in note for note in notes)


def test_monai_trained_and_inferred(folder: Path) -> None:
    bundle = folder / "bundles" / "slim"
    answers = sorted((bundle / "predicted").glob("*.nii.gz"))
    assert [nibabel.load(file).shape for file in answers] == [(40, 36)] * 2
    file = torch.load(bundle / "models" / "model.pt", weights_only=True)
    trained, before = file.get("model", file), ranp.load(folder / "runs" / "unet").state_dict()
    assert {name: tensor.shape for name, tensor in trained.items()} == {n: t.shape for n, t in before.items()}
    assert not all(torch.equal(tensor, before[name]) for name, tensor in trained.items())
