"""search(): what it trains and keeps is what select, slim and train_ make, whatever it was stopped by."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from killing import killed_before
from small_networks import small
from torch import Tensor, nn

import ranp
from ranp import cost
from ranp.data import losses
from ranp.errors import CheckFailed, InfeasibleError, UsageError
from ranp.pipeline import Found, candidate
from ranp.reports import Search
from ranp.training import Keep, Training, train_

INPUTS = torch.zeros(1, 1, 6, 6)
TRAINING = Training(steps=4, lr=0.01)
LOSS = losses.get("ce")
WORDS = ["weighted", "RANP-f", "profile", "uniform+l1"]


def network(seed: int) -> nn.Module:
    return small("residual2d", seed)[0]


def batches(seed: int) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    images = [torch.randn(2, 1, 6, 6, generator=generator) for _ in range(3)]
    return [(image, (image[:, 0] > 0).long() + (image[:, 0] > 1).long()) for image in images]


def validate(model: nn.Module) -> dict[str, float]:
    with torch.no_grad():
        values = [float(LOSS(model(image), target)) for image, target in batches(99)]
    return {"score": -sum(values)}


def wide(model: nn.Module) -> dict[str, float]:
    """The score is how many weights there are, so that who wins follows from the plans."""
    return {"score": float(sum(parameter.numel() for parameter in model.parameters()))}


def searched(measure: Callable[[nn.Module], dict[str, float]] = validate, **options: Any) -> Found:
    asked: dict[str, Any] = {
        "example_inputs": INPUTS, "scoring": 2, "candidates": WORDS, "seeds": 2, "eta": 2, "flops": "50%",
        "min_width": 1, **options,
    }  # fmt: skip
    return ranp.search(network, batches, LOSS, measure, TRAINING, **asked)


@pytest.fixture(scope="module")
def found() -> Found:
    return searched()


def timeless(table: Search) -> dict[str, Any]:
    values = table.to_dict()
    values.pop("seconds")
    assert all(row.pop("step_ms", 1.0) is not None for row in values["rows"])
    return values


def test_the_winner_is_what_select_slim_and_training_by_hand_make(found: Found) -> None:
    table = found.table
    row = table.rows[0]
    assert (row.name, row.status) == (table.winner, "won")
    best = candidate(table.winner)
    full = network(table.seed)
    graph = ranp.trace(full, INPUTS)
    scores = ranp.importance(full, graph, batches(table.seed)[:2], LOSS, method=best.method or "mpmg", seed=table.seed)
    plan = ranp.select(graph, scores, seed=table.seed, flops="50%", **{"min_width": 1, **best.options})
    assert found.result.plan.to_json() == plan.to_json()
    by_hand = ranp.slim(full, plan)
    assert all(torch.equal(a, b) for a, b in zip(by_hand.parameters(), found.result.slim.parameters(), strict=True))
    trained = train_(by_hand, batches(table.seed), LOSS, TRAINING, seed=table.seed)
    assert all(torch.equal(tensor, trained.last[name]) for name, tensor in found.trained.best.items())
    assert validate(by_hand.eval())["score"] == max(row.scores)
    assert found.result.report.verify.passed
    assert found.trained.history.curve == trained.history.curve


def test_the_table_has_every_candidate_and_halves_them(found: Found) -> None:
    table = found.table
    assert [row.name for row in table.rows if row.status == "same"] == ["uniform+l1"]
    assert {row.name for row in table.rows} == {"uniform", *WORDS}
    assert [(each.candidates, each.seeds, each.steps) for each in table.rounds] in (
        [(4, 2, 2), (2, 2, 4)], [(4, 2, 2), (3, 2, 4)]
    )  # fmt: skip
    last = [row for row in table.rows if row.status in ("won", "stayed")]
    assert all((row.round, row.steps, len(row.scores)) == (2, 4, 2) for row in last)
    assert all((row.round, row.steps) == (1, 2) for row in table.rows if row.status == "dropped")
    graph = ranp.trace(network(0), INPUTS)
    price = cost.compile(graph)
    uniform = ranp.select(graph, ranp.importance(network(0), graph, method="l1"), rule="uniform", flops="50%")
    row = next(row for row in table.rows if row.name == "uniform")
    assert row.costs is not None
    assert row.costs.to_dict() == price(uniform.mask(graph)).to_dict()


def test_candidates_of_equal_widths_are_trained_once_but_not_where_weights_are_given() -> None:
    measured: list[int] = []

    def counted(model: nn.Module) -> dict[str, float]:
        measured.append(1)
        return validate(model)

    words = ["uniform+l1", "uniform+fpgm"]
    same = searched(counted, candidates=words)
    assert len(measured) == 2
    assert [row.status for row in same.table.rows] == ["won", "same", "same"]
    assert same.table.rows[1].scores == same.table.rows[0].scores
    assert same.table.reasons() == [f"{word}: its networks are those of uniform" for word in words]
    measured.clear()
    given = searched(counted, candidates=words, given_weights=True)
    assert len(measured) > 2
    assert {row.status for row in given.table.rows} <= {"won", "stayed", "dropped"}


def test_uniform_narrowing_is_never_dropped_and_wins_within_the_noise() -> None:
    def narrow(model: nn.Module) -> dict[str, float]:
        return {"score": -wide(model)["score"]}

    for measure in (wide, narrow):
        table = searched(measure, candidates=["weighted", "RANP-f", "RANP-m", "profile"]).table
        uniform = next(row for row in table.rows if row.name == "uniform")
        assert uniform.status in ("won", "stayed")
        best = max((row for row in table.rows if row.status in ("won", "stayed")), key=lambda row: row.mean or 0)
        assert table.rows[0].mean is not None
        assert best.mean is not None
        assert table.rows[0].mean <= best.mean
    equal = searched(lambda _: {"score": 0.5}, candidates=["profile", "weighted"])
    assert equal.table.winner == "uniform"
    assert "the next is" in equal.table.why


def test_what_cannot_hold_the_limits_is_listed_with_its_reason() -> None:
    table = searched(candidates=["weighted+8", "profile"], flops="30%").table
    assert [row.status for row in table.rows][-1] == "infeasible"
    (reason,) = table.reasons()
    assert reason.startswith("weighted+8: flops='30%': the smallest network takes ")
    with pytest.raises(InfeasibleError, match=r"flops='0\.001%': the smallest network takes"):
        searched(flops="0.001%")


def test_limits_of_memory_and_time_hold_for_every_candidate() -> None:
    def time(model: nn.Module, _: Any) -> float:
        return float(sum(parameter.numel() for parameter in model.parameters()))

    limits = {"flops": None, "train_memory": "80%", "latency": "60%"}
    found = searched(candidates=["profile", "RANP-l"], timer=time, **limits)
    chosen = found.result.report.chosen
    assert chosen is not None
    assert {limit.name for limit in chosen.limits} == {"train_memory", "latency"}
    assert all(limit.built <= limit.most < limit.full for limit in chosen.limits)
    assert next(limit.built for limit in chosen.limits if limit.name == "latency") == time(found.result.slim, None)
    rows = [row for row in found.table.rows if row.status != "infeasible"]
    assert {row.name for row in rows} == {"uniform", "profile", "RANP-l"}
    assert all(row.limited.keys() == {"train_memory", "latency"} for row in rows)
    assert found.table.columns[8:10] == ("latency", "train_memory")
    assert all(cells[8].endswith(" ms") and cells[9].endswith("KiB") for cells in found.table.table())


def test_a_training_that_fails_is_listed_and_ends_no_other() -> None:
    uniform = ranp.prune(network(0), INPUTS, method="l1", flops="50%", min_width=1, rule="uniform").slim
    count = sum(parameter.numel() for parameter in uniform.parameters())

    def measure(model: nn.Module) -> dict[str, float]:
        return {} if sum(parameter.numel() for parameter in model.parameters()) == count else validate(model)

    table = searched(measure, candidates=["profile"]).table
    assert table.winner == "profile"
    assert table.why == "profile is the only one that could be trained"
    assert table.reasons() == ["uniform: seed 0, nothing could be measured"]
    with pytest.raises(CheckFailed, match="no candidate could be trained: seed 0, nothing could be measured"):
        searched(lambda _: {})


def test_a_stopped_search_goes_on_to_what_it_would_have_found(found: Found, tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    keep = Keep(tmp_path / "search", every=1)
    left = 8  # steps of trainings

    def stop(_: Any) -> None:
        nonlocal left
        left -= 1
        if not left:
            raise Stopped

    with pytest.raises(Stopped):
        searched(keep=keep, follow=stop)
    assert sorted(path.suffix for path in keep.path.iterdir()) == [".json"] * 4 + [".state"]
    with pytest.raises(UsageError, match=r"holds a search that was stopped; go on with resume=True"):
        searched(keep=keep)
    with pytest.raises(UsageError, match=r"eta=3: the search in .* was asked for 2"):
        searched(keep=replace(keep, resume=True), eta=3)
    seen: list[str] = []
    again = searched(keep=replace(keep, resume=True), watch=seen.append)
    assert not any(step.startswith("score") for step in seen)
    assert timeless(again.table) == timeless(found.table)
    assert again.result.plan.to_json() == found.result.plan.to_json()
    assert all(torch.equal(tensor, again.trained.best[name]) for name, tensor in found.trained.best.items())


@pytest.mark.parametrize("step", [2, 9, 24, 61])
def test_a_killed_search_goes_on(step: int, found: Found, tmp_path: Path) -> None:
    keep = Keep(tmp_path / "search", every=1, resume=True)
    assert killed_before(step, lambda: searched(keep=keep))
    again = searched(keep=keep)
    assert timeless(again.table) == timeless(found.table)
    assert all(torch.equal(tensor, again.trained.best[name]) for name, tensor in found.trained.best.items())
    assert all(path.suffix in (".json", ".safetensors") for path in keep.path.iterdir())
    assert json.loads((keep.path / "plans.json").read_text())["same"] == {"uniform+l1": "uniform"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flops": None}, "give a limit: params=, flops="),
        ({"seeds": 0}, "seeds=0: expected a whole number of at least 1"),
        ({"eta": 1}, "eta=1: expected a whole number of at least 2"),
        ({"rule": "uniform"}, "rule=: there is no such option"),
        ({"candidates": "unifrom"}, "candidates='unifrom': expected one of"),
        ({"method": "mpgm"}, "method='mpgm': expected"),
    ],
)
def test_mistakes(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        searched(**options)
