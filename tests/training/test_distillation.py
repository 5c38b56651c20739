"""The teacher's part of a loss against its formula, voxel by voxel in float64, and a training with one."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ranp.data.losses import IGNORED
from ranp.errors import UsageError
from ranp.options import Training
from ranp.training import Distillation, train_


class Says(nn.Module):
    """A teacher that says what it holds, whatever the input."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.register_buffer("answer", answer)

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.answer
        return answer


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def softmax(z: "np.ndarray", t: float) -> "np.ndarray":
    e = np.exp(z / t - (z / t).max())
    return e / e.sum()


def told(teaching: Distillation, outputs: object, target: Tensor, value: float = 0.0) -> float:
    return float(teaching(torch.tensor(value), torch.zeros(1), outputs, target))


@pytest.mark.parametrize("spatial", [(), (5,), (3, 4), (2, 3, 2)])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("channel", [False, True])
def test_classes_are_taught_by_softened_logits(spatial: tuple[int, ...], temperature: float, channel: bool) -> None:
    ours, theirs = drawn(2, 3, *spatial), drawn(2, 3, *spatial, seed=1)
    target = torch.zeros(2, *spatial, dtype=torch.int64)
    if spatial:
        target.view(-1)[::3] = IGNORED
    terms = []
    for place in np.ndindex(*target.shape):
        if target[place] != IGNORED:
            z, v = (each.double().numpy()[(place[0], slice(None), *place[1:])] for each in (ours, theirs))
            p, q = softmax(v, temperature), softmax(z, temperature)
            terms.append(temperature**2 * float((p * np.log(p / q)).sum()))
    teaching = Distillation(Says(theirs), "softmax", strength=0.3, temperature=temperature)
    given = target.unsqueeze(1) if channel and spatial else target
    assert told(teaching, ours, given, 2.0) == pytest.approx(0.7 * 2.0 + 0.3 * np.mean(terms), rel=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
def test_regions_are_taught_channel_by_channel(channels: int) -> None:
    ours, theirs = drawn(2, channels, 4, 3), drawn(2, channels, 4, 3, seed=1)
    target = torch.zeros(2, channels, 4, 3)
    target[:, :, 0] = IGNORED
    terms = []
    for place in np.ndindex(*target.shape):
        if target[place] != IGNORED:
            p, q = (1 / (1 + math.exp(-float(each[place]) / 2)) for each in (theirs, ours))
            terms.append(4 * (p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))))
    teaching = Distillation(Says(theirs), "sigmoid", strength=1.0, temperature=2.0)
    assert told(teaching, ours, target, 9.0) == pytest.approx(np.mean(terms), rel=1e-4)
    if channels == 1:
        assert told(teaching, ours, target.squeeze(1), 9.0) == pytest.approx(np.mean(terms), rel=1e-4)


def test_disparities_are_taught_where_the_target_is_one() -> None:
    ours, theirs = drawn(2, 4, 5), drawn(2, 4, 5, seed=1)
    target = torch.full((2, 4, 5), 10.0)
    target[0, 1] = 192.0
    target[1, 2, 3] = float("inf")
    terms = [
        abs(float(ours[place]) - float(theirs[place])) for place in np.ndindex(2, 4, 5) if float(target[place]) < 192
    ]
    teaching = Distillation(Says(theirs), "values", strength=0.5, limit=192)
    assert told(teaching, (ours, ours, ours), target, 1.0) == pytest.approx(0.5 + 0.5 * np.mean(terms), rel=1e-5)
    assert told(teaching, ours, torch.full((2, 4, 5), 200.0), 1.0) == 0.5, "no pixel counts"


def test_at_a_high_temperature_logits_are_matched() -> None:
    """Hinton 2015, Eq. 4: the gradient of a sample is (z - v) / N, of logits with a mean of zero."""
    ours, theirs = drawn(2, 4), drawn(2, 4, seed=1)
    ours, theirs = (each - each.mean(1, keepdim=True) for each in (ours, theirs))
    ours.requires_grad_()
    teaching = Distillation(Says(theirs), strength=1.0, temperature=300.0)
    teaching(torch.zeros(()), torch.zeros(1), ours, torch.zeros(2, dtype=torch.int64)).backward()
    assert ours.grad is not None
    assert ours.grad == pytest.approx((ours.detach() - theirs) / 4 / 2, rel=0.1, abs=0.02)


@pytest.mark.parametrize("term", ["softmax", "sigmoid", "values"])
def test_there_is_nothing_to_learn_from_an_equal_and_smaller_maps_are_left_alone(term: str) -> None:
    ours = drawn(2, 3, 4, 4)
    target = torch.zeros(2, 4, 4, dtype=torch.int64) if term == "softmax" else torch.zeros(2, 3, 4, 4)
    teaching = Distillation(Says(ours.clone()), term, strength=0.25)
    assert told(teaching, [ours, drawn(2, 3, 2, 2)], target, 2.0) == pytest.approx(1.5, abs=1e-6)
    assert told(Distillation(Says(drawn(2, 3, 4, 4)), term, strength=0.0), ours, target, 2.0) == 2.0


def test_mistakes_are_said() -> None:
    with pytest.raises(UsageError, match="term='softmx': expected softmax, sigmoid or values; did you mean 'softmax'"):
        Distillation(nn.Identity(), "softmx")
    with pytest.raises(UsageError, match=r"strength=1\.5: expected a share from 0 to 1"):
        Distillation(nn.Identity(), strength=1.5)
    with pytest.raises(UsageError, match="temperature=0: expected a number above 0"):
        Distillation(nn.Identity(), temperature=0)
    with pytest.raises(UsageError, match=r"teacher= gives \(2, 4\); expected the shape of an output: \(2, 3\)"):
        told(Distillation(Says(drawn(2, 4))), drawn(2, 3), torch.zeros(2, dtype=torch.int64))


def test_a_training_with_a_teacher_is_the_loop_anyone_would_write() -> None:
    def network(seed: int) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            layers = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2), nn.Conv2d(4, 3, 1)
            return nn.Sequential(*layers).train()

    teacher, by_hand, trained = network(1), network(2), network(2)
    generator = torch.Generator().manual_seed(0)
    batches = [
        (torch.randn(2, 1, 6, 6, generator=generator), torch.randint(0, 3, (2, 6, 6), generator=generator))
        for _ in range(5)
    ]
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    optimizer = torch.optim.SGD(by_hand.parameters(), lr=0.1)
    wise = network(1).eval()
    for part in (by_hand, trained):
        part[3].p = 0.0
    for image, target in batches:
        logits = by_hand(image)
        with torch.no_grad():
            soft = (wise(image) / 2).softmax(1)
        term = 4 * ((soft * soft.log()).sum(1) - (soft * (logits / 2).log_softmax(1)).sum(1)).mean()
        (0.6 * F.cross_entropy(logits, target) + 0.4 * term).backward()
        optimizer.step()
        optimizer.zero_grad()
    training = Training(
        steps=5, optimizer="sgd", momentum=0.0, lr=0.1, weight_decay=0.0, schedule="constant", clip=0.0, warmup=0.0
    )
    teaching = Distillation(teacher, strength=0.4, temperature=2.0)
    train_(trained, batches, lambda outputs, target: F.cross_entropy(outputs, target), training, teaching=teaching)
    for name, tensor in by_hand.state_dict().items():
        assert torch.allclose(trained.state_dict()[name], tensor, rtol=1e-4, atol=1e-6), name
    assert teacher.training, "a copy teaches"
    assert all(torch.equal(before[name], tensor) for name, tensor in teacher.state_dict().items())
    assert all(parameter.requires_grad for parameter in teacher.parameters())
