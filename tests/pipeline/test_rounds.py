"""Pruning what was pruned: the plan of both rounds, in terms of the full network, makes what the rounds made."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from small_networks import NAMES, small
from torch import Tensor, nn

import ranp
from ranp.modules import tensors_of
from ranp.pipeline import Result, prune_again
from ranp.plan import Plan


def rounds(net: nn.Module, inputs: Tensor, count: int = 3, sparsity: float = 0.3, **options: object) -> list[Result]:
    found = [ranp.prune(net, inputs, sparsity=sparsity, **options)]  # type: ignore[arg-type]
    for seed in range(1, count):
        last = found[-1]
        found.append(
            prune_again(net, last.plan, last.slim, inputs, sparsity=sparsity, **{**options, "seed": seed})  # type: ignore[arg-type]
        )
    return found


def made_at_once(net: nn.Module, plan: Plan, slim: nn.Module) -> bool:
    """Whether a plan, read from its file, makes of the full network what the rounds left."""
    once = tensors_of(ranp.slim(net, Plan.from_json(plan.to_json())))
    left = tensors_of(slim)
    return once.keys() == left.keys() and all(torch.equal(once[name], left[name]) for name in once)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rule", ["global", "random"])
def test_rounds_are_one_plan_of_the_full_network(name: str, rule: str) -> None:
    net, inputs = small(name)
    found = rounds(net, inputs, rule=rule, method="l1")
    for before, after in pairwise(found):
        assert after.report.verify.passed
        assert made_at_once(net, after.plan, after.slim)
        groups = zip(before.plan.groups, after.plan.groups, strict=True)
        assert all(set(new.kept) <= set(old.kept) and new.width == old.width for old, new in groups)
        assert after.plan.units().kept < before.plan.units().kept
        assert after.report.full.params == before.report.full.params, "costs are those of the full network"
        assert after.report.slim.params == sum(p.numel() for p in after.slim.parameters())
        assert after.plan.choice.achieved > before.plan.choice.achieved
    assert any(note.startswith("pruned again: of ") for note in found[-1].report.notes)


def test_weights_that_were_trained_in_between_stay(tmp_path: Path) -> None:
    net, inputs = small("residual2d")
    one = ranp.prune(net, inputs, sparsity=0.3, method="l1")
    with torch.no_grad():
        for parameter in one.slim.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    two = prune_again(net, one.plan, one.slim, inputs, sparsity=0.3, method="l1")
    trained, left = tensors_of(one.slim), tensors_of(two.slim)
    assert not made_at_once(net, two.plan, two.slim)
    for name, tensor in left.items():
        if tensor.dim() == 1 and tensor.is_floating_point():
            assert {*tensor.tolist()} <= {*trained[name].tolist()}, name
    ranp.save(tmp_path / "run", two.slim, two.plan, two.report)
    loaded = ranp.load(tmp_path / "run", model=net)
    assert all(torch.equal(tensor, left[name]) for name, tensor in tensors_of(loaded).items())
