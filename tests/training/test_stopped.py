"""kill -9 of a training before any step on the disk, and a full disk: what is resumed ends in the same weights."""

import random
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ranp import data, runs
from ranp.errors import UsageError
from ranp.jobs.options import Train
from ranp.jobs.train import carry_out, prepare
from ranp.options import Training
from ranp.training import Keep, train_
from ranp.training._checkpoints import read_state, write_state

pytest.importorskip("resource", reason="needs fork and the signals of Unix")
from killing import content, every_step, killed_before, killed_beyond

SMALL = {"settings": {"base_width": 2, "depth": 2, "classes": 2}, "patch": "8", "data": "phantom"}


def train(folder: Path, *, resume: bool = True) -> dict[str, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Dropout(0.2), nn.Conv2d(4, 2, 1))
    batches = data.phantom((8, 8), classes=2, batches=4)
    keep = Keep(folder / "state", 1, resume)
    return train_(network, batches, F.cross_entropy, Training(steps=4, ema=0.5, lr=0.01), keep=keep).last


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_killed_before_every_step_on_the_disk_the_loop_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    whole = train(tmp_path)
    (tmp_path / "state").unlink()
    for _ in every_step(lambda: train(tmp_path)):
        assert same(train(tmp_path), whole)
        assert [path.name for path in tmp_path.iterdir()] == ["state"]  # what the killed one left is swept
        (tmp_path / "state").unlink()


def test_twenty_kills_of_the_command_end_in_the_same_files(tmp_path: Path) -> None:
    """Two kills in a row each time, the second of the training that goes on."""

    def asked(out: Path) -> Train:
        return Train(model="unet3d", out=out, steps=3, save_every=1, resume=True, val_every=2, **SMALL)

    def work(out: Path) -> dict[str, object]:
        return carry_out(prepare(asked(out)))

    work(tmp_path / "whole")
    whole = content(tmp_path / "whole")
    weights = [name for name in whole if name.endswith(".safetensors")]
    assert sorted(weights) == [f"{word}.safetensors" for word in ("last", "samples", "slim", "trained")]
    rng, killed = random.Random(0), 0
    for attempt in range(10):
        out = tmp_path / f"run{attempt}"
        for _ in range(2):
            killed += killed_before(rng.randint(1, 40), lambda out=out: work(out))  # type: ignore[misc]
        work(out)
        found = content(out)
        assert found.keys() == whole.keys()
        assert all(found[name] == whole[name] for name in [*weights, "plan.json", "metrics.csv"])
        runs.read(out).check_hashes()
    assert killed > 10


def test_a_full_disk_while_a_state_is_written_loses_nothing_older(tmp_path: Path) -> None:
    path = tmp_path / "state"
    write_state(path, {"step": 1, "weights": torch.zeros(1000)})
    before = path.read_bytes()
    assert killed_beyond(500, lambda: write_state(path, {"step": 2, "weights": torch.ones(1000)}))
    assert path.read_bytes() == before
    assert read_state(path)["step"] == 1


def test_states_keep_what_optimizers_keep(tmp_path: Path) -> None:
    state = {
        "a": {0: {"step": torch.tensor(3.0), "none": None}, 1: {}},
        "list": [1, 2.5, (torch.ones(2), "x")],
        "t": True,
    }
    write_state(tmp_path / "s", state)
    again = read_state(tmp_path / "s")
    assert again["a"][0]["step"] == 3
    assert again["a"][0]["none"] is None
    assert again["a"][1] == {}
    assert again["list"][:2] == [1, 2.5]
    assert torch.equal(again["list"][2][0], torch.ones(2))
    (tmp_path / "s").write_bytes(b"x" * 20)
    with pytest.raises(UsageError, match="damaged"):
        read_state(tmp_path / "s")
