from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

import ranp
from ranp.data import Paired, first_inputs, losses
from ranp.errors import UsageError

CE = losses.get("ce")


def network(channels: int = 1) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(channels, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 3, padding=1))


def batches(count: int = 3) -> list[tuple[Tensor, Tensor]]:
    drawn = torch.Generator().manual_seed(0)
    return [
        (torch.randn(2, 1, 8, 8, generator=drawn), torch.randint(2, (2, 8, 8), generator=drawn)) for _ in range(count)
    ]


def as_dicts(image: str = "image", label: str = "label") -> list[dict[str, Any]]:
    return [{image: inputs, label: target.unsqueeze(1).float(), "name": "case"} for inputs, target in batches()]


def kept(result: ranp.Result) -> list[Any]:
    return [group.kept for group in result.plan.groups]


def test_dicts_score_as_pairs_do() -> None:
    expected = ranp.prune(network(), torch.zeros(2, 1, 8, 8), batches=batches(), loss=CE, sparsity=0.4)
    found = ranp.prune(network(), torch.zeros(2, 1, 8, 8), batches=as_dicts(), loss=CE, sparsity=0.4)
    named = ranp.prune(network(), batches=as_dicts("t1", "seg"), keys=("t1", "seg"), loss=CE, sparsity=0.4)
    assert kept(found) == kept(expected) == kept(named)
    assert found.report.sparsity.achieved > 0


def test_batches_of_monai() -> None:
    monai = pytest.importorskip("monai.data")
    cases = [
        {"image": monai.MetaTensor(inputs[0]), "label": monai.MetaTensor(target[0][None].float())}
        for inputs, target in batches()
    ]
    loader = DataLoader(monai.Dataset(cases), batch_size=3, collate_fn=monai.utils.list_data_collate)
    result = ranp.prune(network(), batches=loader, loss=CE, sparsity=0.4)
    assert result.plan.inputs[0].shape == (3, 1, 8, 8)
    assert result.report.verify.passed
    assert all(type(value) is Tensor for pair in Paired(loader) for value in pair)


def test_several_inputs() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.out = nn.Conv2d(1, 8, 3), nn.Conv2d(1, 8, 3), nn.Conv2d(8, 2, 3)

        def forward(self, left: Tensor, right: Tensor) -> Tensor:
            return self.out((self.a(left) * self.b(right)).relu())

    x, target = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.zeros(1, 4, 4)
    given = [{"t1": x, "t2": x.flip(2), "seg": target}]
    result = ranp.prune(Two(), batches=given, keys=(("t1", "t2"), "seg"), loss=CE, sparsity=0.4)
    assert len(result.plan.inputs) == 2


def test_the_first_batch_of_an_iterator_is_scored_too() -> None:
    expected = ranp.prune(network(), batches=batches(), loss=CE, sparsity=0.4)
    found = ranp.prune(network(), batches=iter(as_dicts()), loss=CE, sparsity=0.4)
    assert kept(found) == kept(expected)
    assert found.scores is not None
    assert found.scores.batches == 3


def test_a_loader_that_shuffles_is_not_disturbed() -> None:
    data = batches(8)
    loader = DataLoader(data, batch_size=None, shuffle=True)
    torch.manual_seed(3)
    state = torch.random.get_rng_state()
    inputs, same = first_inputs(loader)
    assert same is loader
    assert any(torch.equal(inputs, each) for each, _ in data)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_example_inputs_without_scores() -> None:
    result = ranp.prune(network(), batches=as_dicts(), method="l1", sparsity=0.4)
    assert result.plan.inputs[0].shape == (2, 1, 8, 8)


def test_mistakes() -> None:
    given: Iterator[Any] = iter(())
    with pytest.raises(UsageError, match=r"^batches: there are none"):
        ranp.prune(network(), batches=given, loss=CE, sparsity=0.4)
    message = r"^batch 1: a dict of img, label and name has no 'image': name those .* with keys="
    with pytest.raises(UsageError, match=message):
        ranp.prune(network(), batches=as_dicts("img"), loss=CE, sparsity=0.4)
    with pytest.raises(UsageError, match=r"has no 'lable'.*did you mean 'label'\?"):
        ranp.prune(network(), batches=as_dicts(), keys=("image", "lable"), loss=CE, sparsity=0.4)
