"""Runs of earlier versions load, verify, show and move on; 0.1.0 at d6b9280 wrote those in tests/published/saved."""

import shutil
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import ranp
from ranp.adapters import load_fused
from ranp.commands.main import app
from ranp.plan import Plan

SAVED = Path(__file__).parent / "published" / "saved"


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to work in; the slim network of a fused run names that by its relative path."""
    shutil.copytree(SAVED, tmp_path / "runs")
    monkeypatch.chdir(tmp_path / "runs")
    return tmp_path / "runs"


def done(*words: str) -> str:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("name", ["pruned", "moved", "fused-slim"])
def test_it_loads_and_verifies(name: str, runs: Path) -> None:
    image = torch.zeros(1, 1 if name == "fused-slim" else 3, 16, 16)
    assert ranp.load(name)(image).shape[-2:] == image.shape[-2:]
    assert "verified" in done("verify", name)


def test_a_fused_run_is_still_a_model(runs: Path) -> None:
    assert load_fused("fused")(torch.zeros(1, 1, 16, 16)).shape == (1, 3, 16, 16)
    assert "transparent" in done("inspect", "fused", "--json")


def test_reports_and_tables_are_still_read(runs: Path) -> None:
    done("report", "pruned")
    assert "RANP-f" in (runs / "pruned" / "report.html").read_text()
    done("report", "pruned", "moved")


def test_a_run_moves_on_and_its_config_repeats_it(runs: Path) -> None:
    done("transfer", "pruned", "--classes", "5", "--out", "five")
    done("prune", "--config", "pruned/config.yaml", "--out", "again")
    before, after = (Plan.read(runs / name / "plan.json") for name in ("pruned", "again"))
    assert (after.groups, after.choice) == (before.groups, before.choice)
