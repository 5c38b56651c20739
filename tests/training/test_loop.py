"""The loop against one written out by hand, and against itself when it is stopped."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ranp import data
from ranp.errors import CheckFailed, UsageError
from ranp.options import Training
from ranp.training import Keep, Moment, Trained, resolved, train_


def network(seed: int = 0, dropout: float = 0.0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(dropout), nn.Conv2d(6, 3, 1)
        return nn.Sequential(*layers)


def batches(count: int = 12, size: int = 2) -> data.Source:
    return data.phantom((12, 12), classes=3, batches=count, batch_size=size)


def loss(outputs: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(outputs, target)


def train(steps: int = 12, model: nn.Module | None = None, **options: Any) -> Trained:
    own = {name: options.pop(name) for name in list(options) if name in Training.model_fields}
    training = Training(steps=steps, **own)
    return train_(model or network(), options.pop("batches", batches()), loss, training, **options)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_plain_training_is_the_loop_anyone_would_write() -> None:
    by_hand = network()
    optimizer = torch.optim.SGD(by_hand.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3)
    by_hand.train()
    losses = []
    for image, target in batches():
        value = loss(by_hand(image), target)
        value.backward()
        nn.utils.clip_grad_norm_(by_hand.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(value.item())
    trained = train(
        optimizer="sgd", lr=0.05, momentum=0.9, weight_decay=1e-3, schedule="constant", clip=1.0, warmup=0.0
    )
    assert same(trained.last, dict(by_hand.state_dict()))
    assert [point["loss"] for point in trained.history.curve] == pytest.approx(losses)
    assert trained.history.samples == 24


def test_gradients_of_several_batches_make_one_step() -> None:
    by_hand = network()
    optimizer = torch.optim.Adam(by_hand.parameters(), lr=0.01, amsgrad=True)
    for number, (image, target) in enumerate(batches(), start=1):
        (loss(by_hand(image), target) / 3).backward()
        if number % 3 == 0:
            optimizer.step()
            optimizer.zero_grad()
    trained = train(
        4, accumulate=3, optimizer="adam", amsgrad=True, lr=0.01, weight_decay=0.0, schedule="constant", clip=0.0,
        warmup=0.0,
    )  # fmt: skip
    assert same(trained.last, dict(by_hand.state_dict()))


class Stop(Exception):
    """Stands for a kill."""


def stopping_after(step: int) -> Callable[[Moment], None]:
    def watch(moment: Moment) -> None:
        if moment.step == step:
            raise Stop

    return watch


EVERYTHING = {"optimizer": "adamw", "ema": 0.9, "dropout": 0.3}


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("stops", [(1,), (5,), (3, 4, 8), (11,)])
def test_a_stopped_training_goes_on_to_the_same_weights(optimizer: str, stops: tuple[int, ...], tmp_path: Path) -> None:
    scores = iter(range(100))

    def options(scores: Iterator[int] = scores) -> dict[str, Any]:
        return {
            "optimizer": optimizer, "ema": 0.9, "lr": 0.01, "schedule": "cosine", "validate_every": 2,
            "validate": lambda model: {"score": float(sum(p.detach().sum() for p in model.parameters()))},
        }  # fmt: skip

    whole = train(model=network(dropout=0.3), **options())
    for stop in stops:
        with pytest.raises(Stop):
            train(
                model=network(dropout=0.3), watch=stopping_after(stop), **options(),
                keep=Keep(tmp_path / "state", 1, resume=True),
            )  # fmt: skip
    later = train(model=network(dropout=0.3), **options(), keep=Keep(tmp_path / "state", 1, resume=True))
    assert same(later.last, whole.last)
    assert same(later.best, whole.best)
    assert later.history.curve == whole.history.curve
    assert later.history.validations == whole.history.validations
    assert later.history.best == whole.history.best


def test_batches_that_can_only_be_iterated_go_on_likewise(tmp_path: Path) -> None:
    """A loader that draws from the global generator, as transforms do."""

    class Loader:
        def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
            for _ in range(4):
                yield torch.randn(2, 1, 6, 6), torch.randint(0, 3, (2, 6, 6))

    whole = train(10, batches=Loader())
    with pytest.raises(Stop):
        train(10, batches=Loader(), watch=stopping_after(6), keep=Keep(tmp_path / "state", 2))
    assert same(train(10, batches=Loader(), keep=Keep(tmp_path / "state", 2, resume=True)).last, whole.last)


def test_a_state_of_another_training_is_refused(tmp_path: Path) -> None:
    train(4, keep=Keep(tmp_path / "state", 2, asked={"lr": 0.1}))
    with pytest.raises(UsageError, match=r"lr=0.2: the training in .*state was asked for 0.1"):
        train(4, keep=Keep(tmp_path / "state", 2, resume=True, asked={"lr": 0.2}))
    (tmp_path / "state").write_bytes(b"nothing")
    with pytest.raises(UsageError, match="state: damaged"):
        train(4, keep=Keep(tmp_path / "state", 2, resume=True))


def test_the_best_weights_are_those_of_the_best_validation() -> None:
    seen: list[dict[str, Tensor]] = []
    scores = iter([0.1, 0.7, 0.7, 0.3])

    def validate(model: nn.Module) -> dict[str, float]:
        seen.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return {"dice": next(scores)}

    trained = train(8, validate=validate, validate_every=2)
    assert same(trained.best, seen[2]), "of equals the later"
    assert same(trained.last, seen[3])
    assert trained.history.best == {"step": 6, "score": 0.7}


def test_a_loss_that_is_no_number_stops_with_its_step_and_the_state_before(tmp_path: Path) -> None:
    def broken(outputs: Tensor, target: Tensor) -> Tensor:
        calls.append(1)
        return loss(outputs, target) * (float("nan") if len(calls) == 5 else 1.0)

    calls: list[int] = []
    training = Training(steps=3000, lr=0.01)
    with pytest.raises(CheckFailed, match="step 5: the loss is nan"):
        train_(network(), batches(3000), broken, training, keep=Keep(tmp_path / "state", 4))
    assert (tmp_path / "state").exists()


def test_the_callers_numbers_are_left_alone() -> None:
    state = torch.random.get_rng_state()
    train(2, model=network(dropout=0.5))
    assert torch.equal(state, torch.random.get_rng_state())


def test_average_precision_format_and_compile_train_alike() -> None:
    plain = train(4, lr=0.01)
    for change in ({"channels_last": True}, {"amp": "bf16"}):
        other = train(4, lr=0.01, **change)
        assert all(torch.allclose(plain.last[name], other.last[name], atol=0.05) for name in plain.last)
    averaged = train(12, lr=0.05, ema=0.99)
    assert not same(averaged.last, train(12, lr=0.05).last)


def test_recipes_fill_what_is_not_given() -> None:
    nnunet = resolved(Training(recipe="nnunet", lr=0.1))
    assert (nnunet.optimizer, nnunet.lr, nnunet.momentum, nnunet.schedule, nnunet.gamma) == (
        "sgd",
        0.1,
        0.99,
        "poly",
        0.9,
    )
    assert resolved(Training(recipe="ucf101")).milestones == (40, 55, 60, 70)
    assert resolved(Training(momentum=0.0, optimizer="sgd")).momentum == 0


@pytest.mark.parametrize("options", [{}, {"steps": 1, "epochs": 1}])
def test_length_is_asked_for_once(options: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="give either steps= or epochs="):
        train_(network(), batches(), loss, Training(**options))
    with pytest.raises(UsageError, match="epochs=2: the batches do not say how many"):
        train_(network(), iter(batches()), loss, Training(epochs=2))
    trained = train_(network(), batches(3), loss, Training(epochs=2))
    assert trained.history.samples == 12


def test_no_batches_are_refused() -> None:
    with pytest.raises(UsageError, match="step 1: there are no batches"):
        train(2, batches=[])
