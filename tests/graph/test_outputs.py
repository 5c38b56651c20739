"""Networks that return features beside their result: `outputs=` names what must keep its shape."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ranp
from ranp.data import losses
from ranp.errors import UsageError
from ranp.inputs import flatten


class Features(nn.Module):
    """A discriminator: every feature map, the score last."""

    def __init__(self, channels: int = 1, norm: bool = True) -> None:
        super().__init__()
        widths = (channels, 8, 12, 16)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(a, b, 3, stride=2, padding=1), nn.BatchNorm2d(b) if norm else nn.Identity(), nn.LeakyReLU()
            )
            for a, b in pairwise(widths)
        )
        self.score = nn.Conv2d(16, 1, 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        found = []
        for block in self.blocks:
            x = block(x)
            found.append(x)
        return [*found, self.score(x)]


class Pyramid(nn.Module):
    """A result first, then features in a dict, some of them added up."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.out = nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> dict[str, Any]:
        low = self.a(x).relu()
        high = low + self.b(low)
        return {"out": self.out(high), "features": (low, high)}


class Side(nn.Module):
    """An encoder beside the result that nothing else reads."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.side, self.out = nn.Conv3d(1, 8, 3), nn.Conv3d(8, 16, 3), nn.Conv3d(8, 2, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stem(x).relu()
        return self.out(x), self.side(x)


CASES: list[tuple[Callable[[], nn.Module], tuple[int, ...], tuple[int, ...]]] = [
    (Features, (1, 1, 16, 16), (-1,)),
    (lambda: Features(norm=False), (1, 1, 16, 16), (-1,)),
    (Features, (1, 1, 16, 16), (1, 3)),
    (Pyramid, (1, 1, 8, 8), (0,)),
    (Side, (1, 1, 8, 8, 8), (0,)),
]


@pytest.mark.parametrize(("make", "shape", "outputs"), CASES)
def test_what_is_not_named_shrinks_and_what_is_stays_exact(
    make: Callable[[], nn.Module], shape: tuple[int, ...], outputs: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    model, x = make().eval(), torch.randn(shape)
    whole = ranp.prune(model, x, method="l1", max_sparsity=True)
    result = ranp.prune(model, x, method="l1", sparsity=0.4, outputs=outputs)
    most = ranp.prune(model, x, method="l1", max_sparsity=True, outputs=outputs)
    assert most.plan.choice.achieved > whole.plan.choice.achieved
    assert result.plan.choice.achieved > 0.25
    assert result.plan.outputs == result.graph.outputs == outputs
    full, slim = flatten(model(x)), flatten(result.slim.eval()(x))
    stays = {place % len(full) for place in outputs}
    assert all(slim[place].shape == full[place].shape for place in stays)
    assert any(slim[place].shape[1] < full[place].shape[1] for place in range(len(full)) if place not in stays)
    assert result.report.verify.uncompared == ()
    assert result.report.verify.compared == len(full)
    assert result.report.verify.passed


def test_the_proof_sees_a_fault_in_a_feature_that_may_shrink() -> None:
    torch.manual_seed(0)
    model, x = Side().eval(), torch.randn(1, 1, 8, 8, 8)
    result = ranp.prune(model, x, method="l1", sparsity=0.4, outputs=(0,))

    class Faulty(Side):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            out, side = super().forward(x)
            return out, side.flip(1)

    slim = result.slim
    slim.__class__ = Faulty
    proof = ranp.verify(model, slim, result.plan, x)
    assert proof.max_rel_diff > 0.1
    assert not proof.passed


def test_a_feature_whose_channels_lie_among_positions_is_said_not_to_be_compared() -> None:
    class Flat(Side):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            out, side = super().forward(x)
            return out, side.flatten(1)

    torch.manual_seed(0)
    result = ranp.prune(Flat(), torch.randn(1, 1, 24, 24, 24), method="l1", sparsity=0.4, outputs=(0,))
    proof = result.report.verify
    assert proof.passed
    assert proof.uncompared == ("output 2 of 2: which part of it stays is not known",)
    assert ranp.verify(Flat(), result.slim, result.plan, torch.randn(1, 1, 24, 24, 24), verify_input=24).compared == 2


def test_slim_equals_the_full_network_without_what_was_removed() -> None:
    torch.manual_seed(0)
    model, x = Features(norm=False).eval(), torch.randn(2, 1, 16, 16)
    result = ranp.prune(model, x, method="l1", sparsity=0.4, outputs=(-1,))
    kept = {group.name: group.kept for group in result.plan.groups}
    with torch.no_grad():
        for index, reader in enumerate([model.blocks[1][0], model.blocks[2][0], model.score]):
            gone = np.setdiff1d(np.arange(reader.in_channels), kept[f"blocks.{index}.0"])
            reader.weight[:, gone] = 0
        assert torch.allclose(model(x)[-1], result.slim.eval()(x)[-1], atol=1e-6)


def test_by_default_every_output_keeps_its_shape() -> None:
    graph = ranp.trace(Features(), torch.zeros(1, 1, 16, 16))
    assert set(graph.reasons) == {"network output"}


def test_a_run_repeats_it(tmp_path: Path) -> None:
    result = ranp.prune(Features(), torch.zeros(1, 1, 16, 16), method="l1", sparsity=0.4, outputs=[-1])
    ranp.save(tmp_path / "run", result.slim, result.plan, result.report)
    plan = ranp.Plan.read(tmp_path / "run" / "plan.json")
    assert plan.outputs == (-1,)
    loaded = ranp.load(tmp_path / "run", Features)
    assert all(map(torch.equal, loaded.state_dict().values(), result.slim.state_dict().values()))
    assert ranp.verify(Features(), loaded, plan, torch.zeros(1, 1, 16, 16)).passed
    moved = ranp.transfer(plan, Features(3), torch.zeros(1, 3, 32, 32))
    assert moved.plan.outputs == (-1,)
    assert [each.shape[1] for each in moved.slim(torch.zeros(1, 3, 32, 32))] == [
        each.shape[1] for each in loaded(torch.zeros(1, 1, 16, 16))
    ]


def test_a_place_that_is_not_there() -> None:
    for place in (4, -5):
        with pytest.raises(UsageError, match=rf"^outputs={place}: the network gives 4 tensor\(s\), counted from 0"):
            ranp.trace(Features(), torch.zeros(1, 1, 16, 16), outputs=(place,))
    with pytest.raises(TypeError, match=r"^outputs= is an int; expected a list of places, such as \(-1,\)"):
        ranp.trace(Features(), torch.zeros(1, 1, 16, 16), outputs=-1)  # type: ignore[arg-type]


def test_scores_by_the_named_output() -> None:
    drawn = torch.Generator().manual_seed(0)
    batches = [(torch.randn(2, 1, 16, 16, generator=drawn), torch.randint(2, (2, 2, 2), generator=drawn))]
    bce = losses.get("bce")
    result = ranp.prune(
        Features(), batches=batches, loss=lambda found, target: bce(found[-1], target), sparsity=0.3, outputs=(-1,)
    )
    assert result.plan.choice.achieved > 0.2
