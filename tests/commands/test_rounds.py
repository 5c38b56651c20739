"""`ranp train --rounds`: pruning and training in turn, in one folder, also after a kill in any round."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import ranp as library
from ranp import models, runs
from ranp.jobs.options import Train
from ranp.jobs.train import carry_out, prepare
from ranp.modules import tensors_of

pytest.importorskip("resource", reason="needs fork and the signals of Unix")
from killing import content, killed_before

Call = Callable[..., Any]
SETTINGS = {"base_width": 4, "depth": 2, "classes": 2}
NETWORK = ["unet3d", *(word for name, value in SETTINGS.items() for word in ("--set", f"{name}={value}"))]
LESS = ["--params", "10%", "--min-width", 1]
SMALL = [*NETWORK, "--patch", 8, "--steps", 2, "--lr", "0.01", "--method", "l1"]


def test_rounds_end_in_one_run_that_loads_from_the_original_network(ranp: Call, answer: Call, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shown = ranp("train", *SMALL, "--rounds", 3, "--sparsity", "0.6", "--out", out)
    assert "step: prune, round 2 of 3" in shown.stderr
    assert "round 3 of 3, 2 of 2, loss" in shown.stderr
    assert [line.split()[0] for line in shown.stdout.splitlines() if line[:1].isdigit()][:3] == ["1", "2", "3"]
    run = runs.read(out)
    once = library.slim(models.build("unet3d", **SETTINGS), run.plan)
    loaded, weights = library.load(out), run.weights()
    assert {name: t.shape for name, t in tensors_of(loaded).items()} == {
        n: t.shape for n, t in tensors_of(once).items()
    }
    assert all(torch.equal(tensor, weights[name]) for name, tensor in tensors_of(loaded).items())
    said = json.loads((out / runs.TRAINING).read_text())
    assert [entry["round"] for entry in said["rounds"]] == [1, 2, 3]
    assert said["rounds"][-1]["params"] == run.report.slim.params == sum(p.numel() for p in loaded.parameters())
    sparsities = [entry["sparsity"] for entry in said["rounds"]]
    assert 0 < sparsities[0] < sparsities[1] < sparsities[2] <= 0.6
    rows = (out / runs.METRICS).read_text().splitlines()
    assert rows[0].startswith("round,step,loss,lr,score")
    assert [row.split(",")[:2] for row in rows[1:]] == [[str(r), str(s)] for r in (1, 2, 3) for s in (1, 2)]
    assert "verified: slim = masked" in ranp("verify", out).stdout
    assert ranp("report", out).exit_code == 0
    longer = answer("train", out, "--steps", 1, "--rounds", 1, *LESS, "--out", tmp_path / "longer")
    assert longer["rounds"][0]["params"] < said["rounds"][-1]["params"], (
        "a run is pruned on, to a share of the full one"
    )


def test_a_trained_run_is_pruned_in_rounds_by_its_weights(answer: Call, tmp_path: Path) -> None:
    answer("train", *SMALL[:-2], "--out", tmp_path / "full")
    words = ["train", tmp_path / "full", "--steps", 2, "--method", "taylor", "--batches", 2]
    found = answer(
        *words, "--rounds", 2, "--sparsity", "0.5", "--sparsity-schedule", "cubic", "--out", tmp_path / "slim"
    )
    first, last = (entry["sparsity"] for entry in found["rounds"])
    assert first > 0.7 * last
    run = runs.read(tmp_path / "slim")
    assert run.plan.choice.method == "taylor"
    assert run.report.scored_on == "phantoms, which are generated, not your data (2 batches of 1, 8x8x8)"


def test_rounds_that_were_killed_go_on_to_the_same_files(tmp_path: Path) -> None:
    def work(out: Path) -> dict[str, object]:
        asked = Train.read(
            {"model": "unet3d", "settings": SETTINGS, "patch": "8", "out": out, "steps": 2, "save_every": 1,
             "rounds": 2, "sparsity": 0.5, "method": "snip", "batches": 1, "resume": True, "val_every": 2}
        )  # fmt: skip
        return carry_out(prepare(asked))

    work(tmp_path / "whole")
    whole = content(tmp_path / "whole")
    weights = ["last.safetensors", "samples.safetensors", "slim.safetensors", "trained.safetensors"]
    assert sorted(name for name in whole if name.endswith(".safetensors")) == weights
    stood: set[tuple[int, int]] = set()  # which round a kill left, and how many were trained
    for step in range(12, 200, 13):
        out = tmp_path / f"run{step}"
        assert killed_before(step, lambda out=out: work(out)), "both rounds were met before the end"  # type: ignore[misc]
        if (out / runs.TRAINING).is_file():
            told = runs.read(out).training
            stood.add((told["round"], len(told["rounds"])))
        work(out)
        found = content(out)
        assert found.keys() == whole.keys()
        assert all(found[name] == whole[name] for name in [*weights, "plan.json", "metrics.csv"])
        runs.read(out).check_hashes()
        if {(1, 0), (2, 1)} <= stood:
            break


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sparsity", "0.5"], "--sparsity 0.5: needs --rounds"),
        (["--freeze", "head"], "--freeze head: needs --rounds"),
        (["--rounds", "2"], "--rounds 2: needs what is reached in the end: --sparsity, or limits: --params, --flops"),
        (["--rounds", "2", "--max-sparsity"], "--rounds 2: needs what is reached in the end"),
        (["--rounds", "2", "--sparsity", "0.5", "--solver", "exact"], "--solver exact: needs a limit"),
        (["--rounds", "2", "--sparsity", "0.5", "--sparsity-schedule", "cubc"], "did you mean 'cubic'?"),
    ],
)
def test_mistakes(refused: Call, tmp_path: Path, words: list[str], message: str) -> None:
    assert message in refused("train", *SMALL[:-2], *words, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_reached_or_was_asked_otherwise(ranp: Call, refused: Call, answer: Call, tmp_path: Path) -> None:
    words = ["train", *SMALL, "--rounds", 2, "--out", tmp_path / "run"]
    said = refused(*words, "--params", "1", code=3)
    assert said.startswith("round 1 of 2: --params ")
    assert not (tmp_path / "run").exists()
    assert answer(*words, "--sparsity", "0.4", "--dry-run")["rounds"] == 2
    assert not (tmp_path / "run").exists()
    ranp(*words, "--sparsity", "0.4")
    training = tmp_path / "run" / runs.TRAINING
    told = json.loads(training.read_text())
    training.write_text(json.dumps({**told, "done": False}))
    said = refused(*words, "--sparsity", "0.5", "--resume")
    assert said == f"--sparsity 0.5: the training in {tmp_path / 'run'} was asked for 0.4"
