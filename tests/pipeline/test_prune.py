"""prune(): all steps in one call, as a notebook user writes it."""

from collections.abc import Iterator

import pytest
import torch
from small_networks import NAMES, small
from torch import nn

import ranp
from ranp.errors import CheckFailed, InfeasibleError, UsageError


@pytest.mark.parametrize("name", NAMES)
def test_one_call_equals_the_steps(name: str) -> None:
    model, example = small(name)
    result = ranp.prune(model, example, sparsity=0.4, method="l1")
    graph = ranp.trace(model, example)
    plan = ranp.select(graph, ranp.importance(model, graph, method="l1"), sparsity=0.4)
    assert plan.to_json() == result.plan.to_json()
    assert result.report.verify["passed"]


def test_gradient_method_with_batches_and_keyword_inputs() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.head = nn.Conv2d(1, 6, 3), nn.Conv2d(2, 6, 3), nn.Conv2d(6, 2, 1)

        def forward(self, *, image: torch.Tensor, prior: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"logits": self.head((self.a(image) + self.b(prior)).relu())}

    torch.manual_seed(0)
    model = Two()
    example = {"image": torch.zeros(1, 1, 8, 8), "prior": torch.zeros(1, 2, 8, 8)}
    drawn = {name: torch.randn_like(value) for name, value in example.items()}
    result = ranp.prune(
        model, example, batches=[(drawn, torch.zeros(1, 6, 6, dtype=torch.long))], max_sparsity=True,
        loss=lambda out, target: nn.functional.cross_entropy(out["logits"], target),
    )  # fmt: skip
    assert result.slim.a.out_channels == result.slim.b.out_channels == 1
    assert result.report.sparsity["asked"] == result.report.sparsity["maximum"]


def test_costs_in_the_report_are_those_of_the_networks() -> None:
    model, example = small("residual3d")
    result = ranp.prune(model, example, sparsity=0.5, method="l1")
    assert result.report.full["params"] == sum(p.numel() for p in model.parameters())
    assert result.report.slim["params"] == sum(p.numel() for p in result.slim.parameters())
    assert result.report.slim["flops"] < result.report.full["flops"]
    assert result.report.slim["memory_bytes"] < result.report.full["memory_bytes"]


def test_freeze_keeps_a_layer_whole() -> None:
    model, example = small("residual2d")
    result = ranp.prune(model, example, sparsity=0.4, method="l1", freeze=["inner*"])
    assert result.slim.inner[0].out_channels == model.inner[0].out_channels
    assert any("fixed by the user" in reason for reason in result.report.units["frozen"])


def test_a_pattern_that_matches_nothing_is_a_mistake() -> None:
    with pytest.raises(UsageError, match=r"did you mean 'inner\.0'"):
        ranp.prune(*small("residual2d"), sparsity=0.4, method="l1", freeze=["inner.3"])


def test_gradient_methods_need_batches() -> None:
    with pytest.raises(UsageError, match="batches"):
        ranp.prune(*small("residual2d"), sparsity=0.4)


def test_too_much_sparsity_is_infeasible() -> None:
    with pytest.raises(InfeasibleError, match="largest feasible"):
        ranp.prune(*small("residual2d"), sparsity=0.99, method="l1")


def test_a_failed_check_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from ranp.pipeline import _prune as pruning

    model, example = small("residual2d")
    wrong = ranp.Verification(max_abs_diff=1.0, max_rel_diff=1.0, inputs=2, tolerance=1e-9, frozen={})
    monkeypatch.setattr(pruning, "verify", lambda *_, **__: wrong)
    with pytest.raises(CheckFailed, match="differs"):
        ranp.prune(model, example, sparsity=0.4, method="l1")


def test_not_a_module() -> None:
    with pytest.raises(UsageError, match=r"expected a torch\.nn\.Module"):
        ranp.prune("unet3d", torch.zeros(1), sparsity=0.4, method="l1")  # type: ignore[arg-type]


def test_the_report_tells_the_difference_as_verify_does() -> None:
    model, example = small("residual2d")
    result = ranp.prune(model, example, sparsity=0.4, method="l1")
    checked = ranp.verify(model, result.slim, result.plan, example)
    assert (result.report.max_abs_diff, result.report.max_rel_diff) == (checked.max_abs_diff, checked.max_rel_diff)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "either sparsity= or max_sparsity="),
        ({"sparsity": 1.0}, r"sparsity=1\.0"),
        ({"sparsity": "half"}, "sparsity='half': expected a number"),
        ({"sparsity": 0.3, "strength": float("nan"), "reweight": "flops"}, "strength=nan"),
        ({"sparsity": 0.3, "rule": "random", "seed": -1}, "seed=-1"),
        ({"sparsity": 0.3, "rule": "snip"}, "method='snip', not mpmg"),
        ({"sparsty": 0.3}, "did you mean 'sparsity'"),
    ],
)
def test_mistakes_are_found_before_anything_is_scored(options: dict, words: str) -> None:
    def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        raise AssertionError("scored")
        yield

    with pytest.raises(UsageError, match=words) as error:
        ranp.prune(*small("residual2d"), batches=batches(), loss=nn.functional.cross_entropy, **options)
    assert "\n" not in str(error.value)


def test_no_step_takes_what_is_no_module() -> None:
    model, example = small("residual2d")
    graph = ranp.trace(model, example)
    plan = ranp.select(graph, ranp.importance(model, graph, method="l1"), sparsity=0.4)
    for step in (lambda: ranp.importance(3, graph, method="l1"), lambda: ranp.slim("unet3d", plan)):  # type: ignore
        with pytest.raises(UsageError, match=r"expected a torch\.nn\.Module"):
            step()
