"""`ranp profile` from the terminal."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from ranp import models, runs
from ranp.commands.profile import profile
from ranp.graph.build import trace
from ranp.graph.constraints import random_plan
from ranp.plan import Choice, Plan
from ranp.surgery import slim

app = typer.Typer()
app.command()(profile)
SMALL = ["unet3d", "--set", "base_width=4", "--set", "depth=2", "--input", "8"]
MONAI = ["monai.networks.nets:UNet", "--set", "spatial_dims=3", "--set", "in_channels=1", "--set", "out_channels=4"]
MONAI += ["--set", "channels=[4,8,16]", "--set", "strides=[2,2]", "--set", "num_res_units=2", "--input", "8"]


def run(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


def found(*words: str) -> dict[str, Any]:
    result = run(*words, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_the_published_preset() -> None:
    report = found("unet3d", "--preset", "brats-15", "--convention", "paper")
    assert {"params", "flops", "memory_bytes", "layers", "convention", "input", "batch"} <= set(report)
    assert report["params"] == 4082309
    assert round(report["flops"] / 1e9, 4) == 478.1255
    assert report["memory_bytes"] == 3628 * 2**20
    assert (report["convention"], report["input"], report["batch"]) == ("paper", [[4, 128, 128, 128]], 1)
    assert len(report["layers"]) == 15
    for key in ("params", "flops", "memory_bytes"):
        assert sum(row[key] for row in report["kinds"]) == report[key]


def test_input_and_batch_scale_what_they_should() -> None:
    once, larger = found(*SMALL), found(*SMALL[:-1], "16x8x8", "--batch", "3")
    assert (larger["input"], larger["batch"]) == ([[1, 16, 8, 8]], 3)
    assert larger["params"] == once["params"]
    assert (larger["flops"], larger["memory_bytes"]) == (6 * once["flops"], 6 * once["memory_bytes"])


def test_everything_at_once_for_people_and_for_machines() -> None:
    pytest.importorskip("fvcore")
    extras = ["--training", "--measure", "--cross-check"]
    report = found(*MONAI, *extras)
    assert report["cross_check"]["agree"]
    assert report["training"]["at_least"]
    assert report["training"]["peak"] > 4 * report["training"]["parameters"]
    assert report["latency"]["runs"] >= 1
    shown = run(*MONAI, *extras, "--layers")
    assert shown.exit_code == 0
    for word in (
        "model.0.conv.unit0.conv",
        "transposed",
        "at least",
        "median",
        "fvcore agrees",
        f"{report['params']:,}",
    ):
        assert word in shown.stdout


def test_a_run_folder_is_profiled_as_it_is(tmp_path: Path) -> None:
    settings = {"base_width": 4, "depth": 2}
    network = models.build("unet3d", **settings)
    graph = trace(network, torch.zeros(2, 1, 8, 8, 8))
    kept = random_plan(graph, 0.5, np.random.default_rng(0))
    plan = Plan.of(graph, kept, Choice(rule="random"), {})
    small = slim(network, plan)
    runs.save(tmp_path / "run", small, plan, {}, {"model": "unet3d", "settings": settings})
    report = found(str(tmp_path / "run"))
    assert report["params"] == sum(p.numel() for p in small.parameters())
    assert (report["input"], report["batch"]) == ([[1, 8, 8, 8]], 2)
    assert found(str(tmp_path / "run"), "--input", "16", "--batch", "1")["flops"] == 4 * report["flops"]
    assert run(str(tmp_path / "run"), "--set", "depth=3").exit_code == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["unet3"], "did you mean 'unet3d'"),
        (["unet3d", "--preset", "brats"], "did you mean 'brats-15'"),
        (["unet3d", "--input", "8x8"], "--input 8x8: expected 3 spatial dimensions"),
        (["unet3d", "--batch", "0"], "--batch 0: expected a whole number of at least 1"),
        (["unet3d", "--convention", "papr"], "did you mean 'paper'"),
        (["unet3d", "--device", "tpu9"], "--device tpu9"),
        (["unet3d", "--set", "base_widht=4"], "did you mean 'base_width'"),
        (["unet3d", "--model", "unet3d"], "only of use where MODEL is a run folder"),
        ([], "MODEL is missing"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(words: list[str], message: str) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_a_network_that_does_not_fit_its_input_exits_3() -> None:
    result = run(*MONAI, "--in-channels", "2")
    assert result.exit_code == 3
    assert "the network does not run" in result.stderr
