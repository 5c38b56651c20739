"""transfer(): a plan's widths in the same architecture for other channels, classes and sizes."""

import pytest
import torch
from torch import Tensor, nn

from ranp import models
from ranp.errors import UsageError
from ranp.graph.build import trace
from ranp.modules import tensors_of
from ranp.pipeline._prune import Result, prune
from ranp.pipeline._transfer import transfer
from ranp.plan import Plan

UNET = {"base_width": 8, "depth": 3}


def unet(channels: int, classes: int, width: int = 8) -> nn.Module:
    return models.build("unet2d", in_channels=channels, classes=classes, base_width=width, depth=3)


@pytest.fixture(scope="module")
def pruned() -> Result:
    return prune(unet(2, 3), torch.zeros(1, 2, 16, 16), rule="random", sparsity=0.5, align=1)


def widths(plan: Plan) -> dict[str, int]:
    return {group.name: len(group.kept) for group in plan.groups if not group.frozen}


def test_widths_stay_and_the_ends_are_rebuilt(pruned: Result) -> None:
    found = transfer(pruned.plan, unet(4, 5), torch.zeros(1, 4, 32, 32))
    assert widths(found.plan) == widths(pruned.plan)
    assert found.slim(torch.zeros(1, 4, 32, 32)).shape == (1, 5, 32, 32)
    assert found.report.verify["passed"]
    assert found.plan.choice == pruned.plan.choice
    assert found.inherited == ()
    hidden = found.slim.get_parameter("encoder.1.1.0.weight").shape
    assert hidden == pruned.slim.get_parameter("encoder.1.1.0.weight").shape


def test_the_cost_is_that_of_the_new_size(pruned: Result) -> None:
    found = transfer(pruned.plan, unet(2, 3), torch.zeros(1, 2, 32, 32))
    assert found.report.slim["params"] == pruned.report.slim["params"]
    assert found.report.slim["flops"] == 4 * pruned.report.slim["flops"]


def test_weights_are_drawn_by_the_seed_or_inherited_where_shapes_agree(pruned: Result) -> None:
    example = torch.zeros(1, 4, 16, 16)
    first, again, other = (transfer(pruned.plan, unet(4, 3), example, seed=seed).slim for seed in (1, 1, 2))
    name = "encoder.1.1.0.weight"
    assert torch.equal(first.get_parameter(name), again.get_parameter(name))
    assert not torch.equal(first.get_parameter(name), other.get_parameter(name))
    kept = transfer(pruned.plan, unet(4, 3), example, weights=pruned.slim)
    old, new = tensors_of(pruned.slim), tensors_of(kept.slim)
    assert set(old) - set(kept.inherited) == {"encoder.0.0.0.weight"}
    assert all(torch.equal(old[name], new[name]) for name in kept.inherited)


def test_one_channel_and_many_are_the_same_plan() -> None:
    from_one = prune(unet(1, 2), torch.zeros(1, 1, 16, 16), rule="random", sparsity=0.4)
    found = transfer(from_one.plan, unet(3, 4), torch.zeros(1, 3, 16, 16))
    assert widths(found.plan) == widths(from_one.plan)
    back = transfer(found.plan, unet(1, 2), torch.zeros(1, 1, 16, 16))
    assert back.plan.groups == from_one.plan.groups


def test_the_group_that_differs_is_named(pruned: Result) -> None:
    with pytest.raises(UsageError, match=r"group 'encoder.0.0.0' has width 8 in the plan and has width 12 in the"):
        transfer(pruned.plan, unet(2, 3, width=12), torch.zeros(1, 2, 16, 16))
    shallow = models.build("unet2d", in_channels=2, classes=3, base_width=8, depth=2)
    with pytest.raises(UsageError, match=r"the plan does not fit: (group|the network has no group) '"):
        transfer(pruned.plan, shallow, torch.zeros(1, 2, 16, 16))


class Tail(nn.Module):
    """Two convolutions, whose middle may be an output too."""

    def __init__(self, shows: bool) -> None:
        super().__init__()
        self.first, self.last, self.shows = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 2, 3), shows

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.first(x).relu()
        return (self.last(x), x) if self.shows else (self.last(x),)


def test_a_removed_unit_that_has_to_stay_is_an_error() -> None:
    found = prune(Tail(False), torch.zeros(1, 1, 8, 8), rule="random", sparsity=0.5)
    with pytest.raises(
        UsageError, match=r"group 'first': it removes unit \d, which has to stay here \(network output\)"
    ):
        transfer(found.plan, Tail(True), torch.zeros(1, 1, 8, 8))


def test_a_fitted_plan_reads_and_applies_like_any_other(pruned: Result) -> None:
    found = transfer(pruned.plan, unet(4, 5), torch.zeros(1, 4, 32, 32))
    read = Plan.from_json(found.plan.to_json())
    mask = read.mask(trace(unet(4, 5), read.example_inputs()))
    assert mask.sum() == found.plan.units()["kept"]
