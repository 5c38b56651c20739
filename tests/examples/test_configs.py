"""Every config of the examples is taken by `ranp prune`, and names what it says."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from ranp.commands.main import app

CONFIGS = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))


def test_there_are_some() -> None:
    assert len(CONFIGS) >= 3


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["prune", "--config", str(path), "--dry-run", "--json"])
    assert done.exit_code == 0, done.output[-2000:]
    said, wanted = json.loads(done.stdout), yaml.safe_load(path.read_text())
    assert said["model"] == wanted["model"]
    assert said["out"] == wanted["out"]
    assert said["config"]["reweight"] == wanted["reweight"]
    assert list(tmp_path.iterdir()) == []
