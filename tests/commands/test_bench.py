"""`ranp bench` from the terminal; nothing here depends on how long anything takes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from ranp import models, runs
from ranp.commands.bench import bench
from ranp.graph.build import trace
from ranp.graph.constraints import random_plan
from ranp.jobs.bench import fastest, words_of_setting
from ranp.plan import Choice, Plan
from ranp.surgery import slim

app = typer.Typer()
app.command()(bench)
SMALL = ["unet3d", "--set", "base_width=4", "--set", "depth=2", "--input", "8", "--runs", "1"]


def run(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


def test_every_setting_is_measured_and_the_fastest_named() -> None:
    result = run(*SMALL, "--threads", "1", "--json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert len(report["rows"]) == 2 * 4
    assert {row["what"] for row in report["rows"]} == {"inference", "training step"}
    for best in report["fastest"]:
        same = [row["median_ms"] for row in report["rows"] if row["what"] == best["what"]]
        assert best["median_ms"] == min(same)
        assert best["speedup"] == pytest.approx(same[0] / best["median_ms"])
    shown = run(*SMALL, "--threads", "1", "--inference-only")
    assert "is fastest" in shown.stdout
    assert "training step" not in shown.stdout
    assert "prediction of a case" not in shown.stdout


def test_of_a_run_both_networks_are_measured(tmp_path: Path) -> None:
    settings = {"base_width": 4, "depth": 2}
    network = models.build("unet3d", **settings)
    graph = trace(network, torch.zeros(1, 1, 8, 8, 8))
    plan = Plan.of(graph, random_plan(graph, 0.5, np.random.default_rng(0)), Choice(rule="random"), {})
    runs.save(tmp_path / "run", slim(network, plan), plan, {}, {"model": "unet3d", "settings": settings})
    result = run(str(tmp_path / "run"), "--runs", "1", "--inference-only", "--json")
    assert result.exit_code == 0, result.stderr
    assert [row["network"] for row in json.loads(result.stdout)["fastest"]] == ["full", "slim"]


def test_the_networks_share_of_a_prediction_is_said(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    image = np.random.default_rng(0).normal(size=(12, 10, 9)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(image, np.eye(4)), tmp_path / "scan.nii.gz")
    words = [*SMALL, "--threads", "1", "--inference-only", "--images", str(tmp_path / "scan.nii.gz")]
    found = json.loads(run(*words, "--json").stdout)["prediction"]
    parts = [found[part] for part in ("loading", "windows", "network", "writing")]
    assert min(parts) >= 0
    assert found["total"] == pytest.approx(sum(parts))
    assert 0 < found["share"] == pytest.approx(found["network"] / found["total"])
    assert [path.name for path in tmp_path.iterdir()] == ["scan.nii.gz"]


def row(median: float, **more: Any) -> dict[str, Any]:
    setting = {"channels_last": False, "amp": "off", "compile": False, "threads": 1}
    times = {"median_ms": median, "low_ms": 0.9 * median, "high_ms": 1.1 * median, "runs": 5}
    return {"network": "full", "what": "inference", **setting, **times, **more}


def test_a_gain_within_the_noise_is_called_so() -> None:
    (near,), (far,) = fastest([row(10.0), row(9.0, amp="bf16")]), fastest([row(10.0), row(2.0, amp="bf16")])
    assert (near["amp"], near["clear"], far["clear"]) == ("bf16", False, True)
    assert far["speedup"] == 5.0
    broken = {key: value for key, value in row(1.0).items() if not key.endswith("ms")} | {"error": "no such kernel"}
    (left,) = fastest([row(10.0), broken])
    assert left["median_ms"] == 10.0
    assert fastest([broken]) == []


def test_settings_have_words() -> None:
    assert words_of_setting(row(1.0)) == "channels first, float32, 1 thread"
    assert words_of_setting(row(1.0, amp="bf16", channels_last=True, compile=True, threads=4)) == (
        "channels last, bf16, compiled, 4 threads"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--threads", "0"], "--threads 0: expected a whole number of at least 1"),
        (["--amp", "bf16"], "--amp bf16: every kind of autocast is measured"),
        (["--device", "tpu9"], "--device tpu9"),
        (["--loss", "cee"], "did you mean 'ce'"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(words: list[str], message: str) -> None:
    result = run(*SMALL, *words)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
