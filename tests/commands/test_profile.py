"""`ranp profile` from the terminal."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from monai.networks.nets import UNet
from typer.testing import CliRunner

from ranp import cost, models, runs
from ranp.commands.profile import profile
from ranp.cost import PARTS
from ranp.data import losses
from ranp.figures import size
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


STEP = [*MONAI, "--batch", "2", "--training", "--optimizer", "adamw", "--amp", "bf16", "--loss", "ce"]


def test_a_training_step_has_a_peak_with_parts_and_a_place() -> None:
    report = found(*STEP)["training"]
    assert sum(report[part] for part in PARTS) == report["peak"]
    assert (report["optimizer_name"], report["amp"], report["loss"]) == ("adamw", "bf16", "ce")
    assert report["phase"] in ("forward", "loss", "backward", "optimizer")
    assert found(*STEP, "--loss", "ce-dice")["training"]["peak"] > report["peak"]
    plain = found(*STEP, "--optimizer", "sgd", "--momentum", "0")["training"]
    assert plain["optimizer"] == 0
    assert found(*STEP, "--amp", "fp16")["training"]["optimizer"] > report["optimizer"]
    shown = run(*STEP)
    assert f"training step (adamw, ce, bf16): at least {size(report['peak'])}" in shown.stdout
    assert report["module"] in shown.stdout


def test_the_peak_is_that_of_the_library() -> None:
    network = UNet(3, 1, 4, (4, 8, 16), (2, 2), num_res_units=2)
    target = torch.zeros(2, 8, 8, 8, dtype=torch.int64)
    step = cost.Step(losses.get("ce"), target, amp="bf16", clip=12.0)
    assert found(*STEP)["training"]["peak"] == cost.training_peak(network, torch.zeros(2, 1, 8, 8, 8), step)


@pytest.mark.parametrize(
    ("loss", "more"), [("torch.nn.MSELoss", ()), ("monai.losses.DiceLoss", ("softmax=true", "to_onehot_y=true"))]
)
def test_losses_by_path_get_a_target_they_take(loss: str, more: tuple[str, ...]) -> None:
    settings = [word for pair in more for word in ("--set-loss", pair)]
    assert found(*MONAI, "--training", "--loss", loss, *settings)["training"]["loss"] == loss


def test_a_measured_step_stands_beside_the_predicted_one() -> None:
    report = found(*SMALL, "--training", "--measure")["training"]
    assert report["measured"]["device"] == "cpu"
    assert report["measured"]["bytes"] >= 0
    assert "of the resident memory of the process" in run(*SMALL, "--training", "--measure").stdout


def test_what_fits_fits_and_the_next_does_not() -> None:
    report = found(*SMALL, "--fit", "4MiB")["fit"]
    batch, largest = report["batch"], report["input"]

    def peak(size: int, batch: int) -> int:
        return int(found(*SMALL[:-1], str(size), "--batch", str(batch), "--training")["training"]["peak"])

    assert peak(8, batch["batch"]) == batch["peak"] <= 4 * 2**20 < peak(8, batch["batch"] + 1)
    side = largest["size"][0]
    assert largest["size"] == [side] * 3
    assert peak(side, 1) == largest["peak"] <= 4 * 2**20 < peak(side + 8, 1)
    shown = run(*SMALL, "--fit", "4MiB").stdout
    assert f"a batch of {batch['batch']} of this input" in shown
    assert f"an input of {side}x{side}x{side} in a batch of 1" in shown


def test_what_can_not_fit_exits_3_with_the_least() -> None:
    result = run(*SMALL, "--fit", "10KiB")
    assert result.exit_code == 3
    assert "--fit 10KiB: a training step takes at least" in result.stderr
    assert result.stderr.count("\n") == 1


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
        (["unet3d", "--fit", "11"], "--fit 11: expected bytes with their unit"),
        (["unet3d", "--fit", "11GiBi"], "did you mean 'GiB'"),
        (["unet3d", "--amp", "bf16"], "--amp bf16: only of use with --training or --fit"),
        ([*SMALL, "--training", "--checkpoint", "decoder9"], "--checkpoint decoder9: no module of that name"),
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
