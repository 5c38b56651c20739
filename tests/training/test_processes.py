"""A training in two processes against the same in one."""

import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from processes import errors_in, forked
from torch import Tensor, nn

from ranp import processes
from ranp.commands._console import guarded
from ranp.errors import UsageError
from ranp.options import Training
from ranp.training import Keep, Moment, Trained, train_


class Net(nn.Module):
    """Small, with a parameter that the loss does not depend on."""

    def __init__(self, dropout: float = 0.0, norm: bool = False) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 3, 1)
        self.never = nn.Linear(2, 2)
        self.middle = nn.Sequential(nn.BatchNorm2d(6) if norm else nn.Identity(), nn.ReLU(), nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.middle(self.first(x)))


def network(**options: Any) -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return Net(**options).double()


class Drawn:
    """Batches from the global generator, as a user's transforms draw."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield torch.randn(self.size, 1, 6, 6, dtype=torch.float64), torch.randint(0, 3, (self.size, 6, 6))


def validate(model: nn.Module) -> dict[str, float]:
    assert processes.rank() == 0, "the first alone measures"
    return {"score": float(sum(p.detach().sum() for p in model.parameters()))}


def train(steps: int = 7, net: nn.Module | None = None, size: int = 4, **options: Any) -> Trained:
    own = {name: options.pop(name) for name in list(options) if name in Training.model_fields}
    training = Training(steps=steps, lr=0.05, weight_decay=0.01, **own)
    return train_(net or network(), Drawn(size), F.cross_entropy, training, seed=5, **options)


def near(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.allclose(one[n], other[n], rtol=1e-9, atol=1e-11) for n in one)


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


WAYS: list[dict[str, Any]] = [
    {},
    {"accumulate": 3},
    {"optimizer": "sgd", "momentum": 0.9, "clip": 0.1},
    {"ema": 0.9},
    {"validate": validate, "validate_every": 3},
]


def test_two_processes_train_to_the_weights_of_one(tmp_path: Path) -> None:
    def both_are_one() -> None:
        alone = [train(**way) for way in WAYS]
        with processes.together():
            for way, one in zip(WAYS, alone, strict=True):
                both = train(**way)
                assert near(both.last, one.last), way
                assert near(both.best, one.best), way
                losses, expected = (torch.tensor([p["loss"] for p in each.history.curve]) for each in (both, one))
                assert torch.allclose(losses, expected), way
                assert both.history.samples == one.history.samples
                assert [v["step"] for v in both.history.validations] == [v["step"] for v in one.history.validations]
                told = processes.gather(both.last)
                assert same(told[0], told[1]), way
        print("well" * processes.is_first(), end="")

    code, out, err = forked(both_are_one, cwd=tmp_path)
    assert (code, out) == (0, "well"), err


def test_a_stopped_training_of_two_goes_on_to_the_same(tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stopping(moment: Moment) -> None:
        if moment.step == 4:
            raise Stop

    def options() -> dict[str, Any]:
        return {"net": network(dropout=0.4, norm=True), "ema": 0.9, "validate": validate, "validate_every": 2}

    def goes_on() -> None:
        with processes.together():
            whole = train(**options())
            with pytest.raises(Stop):
                train(**options(), keep=Keep(tmp_path / "state", 2), watch=stopping)
            later = train(**options(), keep=Keep(tmp_path / "state", 2, resume=True))
            assert later.history.samples == whole.history.samples
            assert later.history.curve == whole.history.curve
            if processes.rank() == 0:
                assert same(later.last, whole.last)
                assert same(later.best, whole.best)
        print("well" * processes.is_first(), end="")

    code, out, err = forked(goes_on, cwd=tmp_path)
    assert (code, out) == (0, "well"), err


def test_each_process_draws_its_own_dropout_and_a_batch_is_divided(tmp_path: Path) -> None:
    drawn: list[Any] = []

    class Spy(nn.Dropout):
        def forward(self, x: Tensor) -> Tensor:
            y = super().forward(x)
            drawn.append((y == 0).tolist())
            return y

    def draws() -> None:
        with processes.together():
            net = network()
            net.middle[2] = Spy(0.5)
            train(2, net)
            ours, theirs = processes.gather(drawn)
            assert len(ours) == 2
            assert all(one != other for one, other in zip(ours, theirs, strict=True))
            with pytest.raises(UsageError, match=r"^batch_size=3: expected a multiple of 2, the number of processes$"):
                train(size=3)
        print("well" * processes.is_first(), end="")

    code, out, err = forked(draws, cwd=tmp_path)
    assert (code, out) == (0, "well"), err


def test_a_killed_process_ends_a_training_and_the_last_state_stays_whole(tmp_path: Path) -> None:
    state = tmp_path / "state"

    def dying(moment: Moment) -> None:
        if moment.step == 4 and processes.rank() == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    def dies() -> None:
        with guarded(), processes.together():
            train(8, keep=Keep(state, 3), watch=dying)

    def goes_on() -> None:
        with processes.together():
            whole = train(8)
            later = train(8, keep=Keep(state, 3, resume=True))
            assert same(later.last, whole.last)
        print("well" * processes.is_first(), end="")

    code, _, err = forked(dies, cwd=tmp_path)
    assert code == 1
    assert len(errors_in(err)) == 1, err
    assert "another process of this run has ended" in errors_in(err)[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state"]
    code, out, err = forked(goes_on, cwd=tmp_path)
    assert (code, out) == (0, "well"), err


def test_synchronised_norms_are_refused_where_torch_has_none() -> None:
    with pytest.raises(
        UsageError, match="sync_bn=True: torch's SyncBatchNorm works on GPUs only; expected device='cuda'"
    ):
        train_(nn.Linear(2, 2), [], lambda *_: torch.zeros(()), Training(steps=1, sync_bn=True))
