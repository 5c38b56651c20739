"""`ranp train`: full and slim networks, folds, what is said, and that its runs are runs."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ranp as library
from ranp import runs
from ranp.jobs.options import Train
from ranp.jobs.train import prepare

nibabel = pytest.importorskip("nibabel")

Call = Callable[..., Any]
NETWORK = ["unet3d", "--set", "base_width=2", "--set", "depth=2"]
SMALL = [*NETWORK, "--patch", "8", "--steps", "4", "--lr", "0.01"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six cases with three labels, which their image shows."""
    rng = np.random.default_rng(0)
    for number in range(6):
        labels = rng.integers(0, 3, (12, 10, 9)).astype(np.uint8)
        image = labels + 0.1 * rng.standard_normal(labels.shape)
        for name, values in (("images", image), ("labels", labels)):
            (tmp_path / "data" / name).mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "data" / name / f"case{number}.nii.gz")
    return tmp_path / "data"


def test_a_network_is_trained_on_a_folder_and_its_run_is_a_run(
    ranp: Call, answer: Call, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "trained"
    shown = ranp("train", *SMALL, "--data", folder, "--fold", "0/3", "--out", out)
    assert "trained on   4 volumes cases" in shown.stdout
    assert "best" in shown.stdout
    assert f"wrote        {out}" in shown.stdout
    assert [line.partition(",")[0] for line in shown.stderr.splitlines()] == [f"step: {n} of 4" for n in range(1, 5)]
    run = runs.read(out)
    assert run.weights_are.startswith("trained, 4 steps on ")
    assert run.report.trained is not None
    network = library.load(out)
    assert all(torch.equal(tensor, run.weights()[name]) for name, tensor in network.state_dict().items())
    assert not all(torch.equal(a, b) for a, b in zip(run.weights().values(), _first(out), strict=True))
    rows = (out / runs.METRICS).read_text().splitlines()
    assert rows[0].startswith("step,loss,lr,score")
    assert len(rows) == 5
    assert "verified: slim = masked" in ranp("verify", out).stdout
    assert ranp("report", out).exit_code == 0
    moved = answer("transfer", out, "--keep-weights", "--classes", 5, "--out", tmp_path / "moved")
    assert moved["transfer"]["inherited"]


def test_evaluate_measures_the_cases_that_the_training_held_out(answer: Call, folder: Path, tmp_path: Path) -> None:
    answer("train", *SMALL, "--data", folder, "--fold", "1/3", "--out", tmp_path / "run")
    held_out = answer("evaluate", tmp_path / "run")
    assert held_out["source"] == "2 validation cases of volumes"
    assert answer("evaluate", tmp_path / "run", "--data", folder)["source"] == held_out["source"]
    assert answer("evaluate", tmp_path / "run", "--split", "training")["source"] == "4 training cases of volumes"


def _first(out: Path) -> list[torch.Tensor]:
    from safetensors.torch import load_file

    return list(load_file(out / runs.WEIGHTS).values())


def test_a_slim_network_is_trained_from_its_run(ranp: Call, answer: Call, tmp_path: Path) -> None:
    ranp("prune", *NETWORK, "--classes", 3, "--patch", 8, "--sparsity", "0.3", "--out", tmp_path / "slim")
    found = answer("train", tmp_path / "slim", "--steps", 3, "--out", tmp_path / "trained", "--recipe", "nnunet")
    assert found["options"]["optimizer"] == "sgd"
    assert found["options"]["momentum"] == 0.99
    assert found["validated_on"].startswith("phantoms")
    assert set(found) >= {"best", "validations", "seconds_per_step", "samples_per_second", "peak_memory", "loss"}
    before, after = runs.read(tmp_path / "slim"), runs.read(tmp_path / "trained")
    assert after.plan.to_json() == before.plan.to_json()
    assert before.weights_file == runs.WEIGHTS
    again = answer("train", tmp_path / "trained", "--steps", 2, "--out", tmp_path / "longer")
    assert again["steps"] == 2
    started = runs.read(tmp_path / "longer")
    trained, begun = after.weights(), _first(tmp_path / "longer")
    assert all(torch.equal(a, b) for a, b in zip(trained.values(), begun, strict=True))
    assert started.weights_are.startswith("trained, 2 steps")


def test_the_same_words_give_the_same_weights_for_any_number_of_workers(
    ranp: Call, folder: Path, tmp_path: Path
) -> None:
    for name, more in (("a", []), ("b", []), ("c", ["--workers", 2]), ("d", ["--seed", 1])):
        ranp("train", *SMALL, "--data", folder, *more, "--augment", "light", "--out", tmp_path / name)
    files = {name: (tmp_path / name / runs.LAST).read_bytes() for name in "abcd"}
    assert files["a"] == files["b"] == files["c"] != files["d"]


def test_the_run_says_how_it_was_trained(answer: Call, folder: Path, tmp_path: Path) -> None:
    words = ["--label-map", "1=1,2=1", "--intensity", "none", "--epochs", 2, "--batch-size", 2]
    answer("train", *NETWORK, "--patch", 8, "--data", folder, *words, "--out", tmp_path / "run")
    said = json.loads((tmp_path / "run" / runs.TRAINING).read_text())
    assert said["done"]
    assert said["steps"] == 6
    assert said["data"]["label_map"] == "1=1,2=1"
    assert said["data"]["intensity"] == "none"
    assert said["loss"] == "ce-dice"
    assert [point["step"] for point in said["curve"]] == [1, 2, 3, 4, 5, 6]
    assert runs.read(tmp_path / "run").plan.example_inputs()[0].shape == (1, 1, 8, 8, 8)


NEVER = """
import torch
from torch import nn

class Never(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv3d(1, 4, 1))
        self[0].bias.data[3] = -100.0
"""


@pytest.mark.filterwarnings("always:.*no training case has class 3")
def test_a_class_that_never_occurs_is_said_and_the_cases_held_out_are_counted(
    ranp: Call, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "never.py").write_text(NEVER)
    words = [f"{tmp_path / 'never.py'}:Never", "--data", folder, "--fold", "0/3", "--patch", 8, "--steps", 2]
    shown = ranp("train", *words, "--init", "keep", "--out", tmp_path / "run").stdout
    assert re.search(r"^in no case +class 3$", shown, re.MULTILINE)
    assert re.search(r"^validated on +2 validation cases of volumes$", shown, re.MULTILINE)
    said = json.loads((tmp_path / "run" / runs.TRAINING).read_text())
    assert said["never"] == ["class 3"]
    assert "dice/class 3" not in (tmp_path / "run" / runs.METRICS).read_text()
    shown = ranp("train", *SMALL, "--data", folder, "--fold", "0/3", "--out", tmp_path / "all").stdout
    assert "in no case" not in shown


@pytest.mark.filterwarnings("always:.*no training case has")
def test_a_class_that_no_training_case_has_is_said_before_and_after(ranp: Call, folder: Path, tmp_path: Path) -> None:
    words = [*NETWORK, "--classes", 4, "--patch", 8, "--steps", 1, "--data", folder]
    shown = ranp("train", *words, "--out", tmp_path / "run")
    said = f"warning: --data {folder}: no training case has class 3, which the network can't learn"
    assert shown.stderr.splitlines()[0] == said
    assert re.search(r"^not in these +class 3$", shown.stdout, re.MULTILINE)
    assert json.loads((tmp_path / "run" / runs.TRAINING).read_text())["unseen"] == ["class 3"]
    both = ["--regions", "A=1+2,B=7", "--dry-run", "--out", tmp_path / "never"]
    shown = ranp("train", *NETWORK, "--patch", 8, "--steps", 1, "--data", folder, *both)
    assert "no training case has B, which" in shown.stderr
    assert "warning" not in ranp("train", *SMALL, "--data", folder, "--dry-run", "--out", tmp_path / "never").stderr


def scan(folder: Path, names: str, background: float, values: dict[int, float]) -> Path:
    """Cases whose background and labels have values of their own."""
    rng = np.random.default_rng(len(folder.name))
    for name in names:
        labels = rng.choice([0, *values], (9, 9, 9)).astype(np.uint8)
        image = np.full(labels.shape, background) + rng.standard_normal(labels.shape)
        for value, mean in values.items():
            image[labels == value] += mean
        for kind, array in (("images", image), ("labels", labels)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), folder / kind / f"{name}.nii.gz")
    return folder


@pytest.mark.filterwarnings("always:labels 0, 2, 5 are taken as classes 0 to 2")
def test_other_data_are_validated_on_as_the_training_reads_its_own(tmp_path: Path) -> None:
    """Scaled by the training's foreground, and values stand for the same classes where one of them lacks."""
    train, val = scan(tmp_path / "a", "xyz", 0, {2: 40.0, 5: 90.0}), scan(tmp_path / "bb", "v", 900, {2: 7.0})
    words = {"model": "unet3d", "settings": {"base_width": 2, "depth": 2}, "patch": "8", "steps": 1}
    asked = {**words, "classes": 3, "intensity": "ct", "data": str(train), "val": str(val), "out": tmp_path / "run"}
    prepared = prepare(Train.read(asked))
    assert prepared.validation is not None
    seen: list[Any] = []

    class Network(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            seen.append(image)
            return torch.stack([image[:, 0] * 0, image[:, 0], image[:, 0] * 0], 1)

    prepared.validation(Network())
    mean, sd, low, high = (prepared.learned["scales"][0][name] for name in ("mean", "sd", "low", "high"))
    raw = nibabel.load(val / "images" / "v.nii.gz").get_fdata()
    expected = (raw.clip(low, high) - mean) / sd
    fed = [part[0, 0] for part in seen if not part.is_meta]
    assert any(torch.equal(part, torch.from_numpy(expected[:8, :8, :8]).float()) for part in fed)
    latest = prepared.validation.latest
    assert latest is not None
    labels = nibabel.load(val / "labels" / "v.nii.gz").get_fdata()
    told = expected > 0  # as class 1, which value 2 stands for
    dice = 2 * (told & (labels == 2)).sum() / (told.sum() + (labels == 2).sum())
    assert latest.spread("dice", 1).mean == pytest.approx(dice)
    assert latest.never == ("class 2",)


def test_curves_are_written_for_tensorboard(ranp: Call, tmp_path: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    words = [*NETWORK, "--patch", 8, "--steps", 2, "--val-every", 2, "--rounds", 2, "--sparsity", "0.3"]
    ranp("train", *words, "--method", "l1", "--tensorboard", tmp_path / "events", "--out", tmp_path / "run")
    found = events.EventAccumulator(str(tmp_path / "events")).Reload()
    said = json.loads((tmp_path / "run" / runs.TRAINING).read_text())
    losses = [point["loss"] for each in said["rounds"] for point in each["curve"]]
    assert [event.step for event in found.Scalars("loss")] == [1, 2, 3, 4], "rounds count on"
    assert [event.value for event in found.Scalars("loss")] == pytest.approx(losses)
    scores = [row["score"] for each in said["rounds"] for row in each["validations"]]
    written = found.Scalars("validation/score")
    assert [event.step for event in written] == [2, 4]
    assert [event.value for event in written] == pytest.approx(scores)
    assert {"learning rate", "samples per second"} <= set(found.Tags()["scalars"])


def test_without_tensorboard_it_is_said_how_to_get_it(
    ranp: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    shown = ranp("train", *SMALL, "--tensorboard", tmp_path / "events", "--out", tmp_path / "run", code=4)
    assert "tensorboard is not installed: pip install 'ranp[tensorboard]'" in shown.stderr
    assert not any(tmp_path.iterdir())


def test_to_go_on_replaces_no_folder_that_is_no_training(refused: Call, ranp: Call, tmp_path: Path) -> None:
    ranp("prune", *NETWORK, "--classes", 3, "--patch", 8, "--sparsity", "0.3", "--out", tmp_path / "slim")
    own = tmp_path / "photos"
    own.mkdir()
    (own / "one.jpg").write_bytes(b"1")
    for model in ("unet3d", tmp_path / "slim"):
        said = refused("train", model, "--steps", 1, "--patch", 8, "--out", own, "--resume")
        assert said.startswith(f"--out {own} exists: choose another name")
    assert [path.name for path in own.iterdir()] == ["one.jpg"]
    assert refused("train", "unet3d", "--steps", 1, "--patch", 8, "--out", tmp_path / "slim", "--resume")


SIZED = """
import torch

def batches():
    return [(torch.zeros(2, 1, 8, 8, 8), torch.zeros(2, 8, 8, 8, dtype=torch.long))] * 3
"""


def test_a_loader_that_knows_its_length_has_epochs(answer: Call, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(SIZED)
    words = ["--data", f"{tmp_path / 'own.py'}:batches", "--epochs", 4, "--accumulate", 2, "--dry-run"]
    assert answer("train", *NETWORK, "--classes", 2, *words, "--out", tmp_path / "run")["steps"] == 6


def test_a_dry_run_writes_nothing(answer: Call, tmp_path: Path) -> None:
    found = answer("train", *SMALL, "--dry-run", "--out", tmp_path / "run")
    assert found["dry_run"]
    assert not (tmp_path / "run").exists()


def test_resume_needs_the_same_words(ranp: Call, refused: Call, tmp_path: Path) -> None:
    out = tmp_path / "run"
    ranp("train", *SMALL, "--out", out)
    assert "exists" in refused("train", *SMALL, "--out", out)
    assert "wrote" in ranp("train", *SMALL, "--out", out, "--resume").stdout


def test_weights_that_lie_with_their_channels_last_are_kept(ranp: Call, tmp_path: Path) -> None:
    out = tmp_path / "trained"
    ranp("train", *SMALL, "--channels-last", "--amp", "bf16", "--out", out)
    again = library.load(out).state_dict()
    assert any(not torch.equal(tensor, before) for tensor, before in zip(again.values(), _first(out), strict=True))


def test_a_loss_that_is_no_number_leaves_the_state_before(refused: Call, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(
        "calls = []\n"
        "def loss(outputs, target):\n"
        "    calls.append(1)\n"
        "    return outputs.square().mean() * (float('nan') if len(calls) > 2 else 1)\n"
    )
    words = [*SMALL, "--loss", f"{tmp_path / 'broken.py'}:loss", "--save-every", 1, "--out", tmp_path / "run"]
    said = refused("train", *words, code=1)
    assert said.startswith("step 3: the loss is nan; ")
    assert "state.safetensors keeps the state before" in said
    assert "--lr" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([*NETWORK, "--patch", "8"], "give either --steps or --epochs"),
        ([*SMALL, "--epochs", "3"], "give either --steps or --epochs"),
        (
            [*NETWORK, "--epochs", "3", "--patch", "8"],
            "--epochs 3: the data do not say how many they",
        ),
        ([*SMALL, "--fold", "0/3"], "--fold 0/3: needs cases on the disk, not phantom"),
        ([*SMALL, "--data", "{data}", "--fold", "3/3"], "--fold 3/3: expected K/N"),
        ([*SMALL, "--data", "{data}", "--fold", "a"], "--fold a: expected K/N, such as 0/5"),
        ([*SMALL, "--data", "{data}", "--fold", "0/3", "--val", "{data}"], "--val {data}: --fold 0/3 validates on"),
        ([*SMALL, "--val", "nowhere"], "--val nowhere: no such file or folder"),
        ([*SMALL, "--model", "unet3d"], "--model unet3d: only of use where MODEL is a run folder"),
        ([*SMALL, "--classes", "2", "--loss", "cee"], "--loss cee: expected"),
        (["nothing", "--steps", "3"], "MODEL nothing: not a built-in"),
        ([*SMALL, "--optimizer", "adan"], "did you mean 'adam'?"),
        ([*SMALL, "--lr", "0"], "--lr 0.0: expected a number above 0"),
    ],
)
def test_mistakes(refused: Call, folder: Path, tmp_path: Path, words: list[str], message: str) -> None:
    filled = [word.replace("{data}", str(folder)) for word in words]
    assert message.replace("{data}", str(folder)) in refused("train", *filled, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_slim_network_learns_from_the_full_one(ranp: Call, answer: Call, refused: Call, tmp_path: Path) -> None:
    full, slim = tmp_path / "full", tmp_path / "slim"
    ranp("train", *SMALL, "--classes", 3, "--out", full)
    best = full / runs.TRAINED
    network = (*NETWORK, "--classes", 3, "--patch", 8)
    ranp("prune", *network, "--weights", best, "--method", "taylor", "--sparsity", "0.3", "--out", slim)
    learns = ("train", slim, "--steps", 3)
    found = answer(*learns, "--teacher", full, "--temperature", 2, "--teacher-strength", "0.9", "--out", tmp_path / "a")
    assert found["teacher"] == {"teacher": str(full), "teacher_strength": 0.9, "temperature": 2.0}
    again = ("--teacher", "unet3d", "--teacher-weights", best, "--temperature", 2, "--teacher-strength", "0.9")
    answer(*learns, *again, "--out", tmp_path / "b")
    answer(*learns, "--out", tmp_path / "alone")
    taught, same, alone = (list(runs.read(tmp_path / name).weights().values()) for name in ("a", "b", "alone"))
    assert all(torch.equal(one, other) for one, other in zip(taught, same, strict=True)), "a run's full network"
    assert not all(torch.equal(one, other) for one, other in zip(taught, alone, strict=True))
    out = ("--out", tmp_path / "never")
    assert refused(*learns, *out, "--teacher", "unet3d").startswith("--teacher unet3d: has learned nothing; give")
    assert refused(*learns, *out, "--teacher-weights", best) == f"--teacher-weights {best}: needs --teacher"
    ranp("train", *SMALL, "--classes", 4, "--out", tmp_path / "other")
    said = refused(*learns, *out, "--teacher", tmp_path / "other")
    assert said.endswith("gives 4x8x8x8; expected 3x8x8x8, as the network that learns")
    assert not (tmp_path / "never").exists()
