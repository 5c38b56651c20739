"""A plan is portable and readable, and refuses what it does not fit."""

import json

import numpy as np
import pytest
import torch
from small_networks import Residual, small

import ranp
from ranp.errors import UsageError
from ranp.plan import Plan


@pytest.fixture
def plan() -> Plan:
    model, example = small("residual2d")
    graph = ranp.trace(model, example)
    return ranp.select(graph, ranp.importance(model, graph, method="l1"), sparsity=0.4)


def test_round_trip_gives_the_same_bytes_and_the_same_network(plan: Plan) -> None:
    again = Plan.from_json(plan.to_json())
    assert again.to_json() == plan.to_json()
    model, _ = small("residual2d")
    first, second = ranp.slim(model, plan).state_dict(), ranp.slim(model, again).state_dict()
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_names_layers_widths_and_kept_places(plan: Plan) -> None:
    data = json.loads(plan.to_json())
    stem = next(group for group in data["groups"] if group["name"] == "stem.0")
    assert stem["width"] == 8
    assert stem["layers"] == ["stem.0.weight", "outer.0.weight"]
    assert data["inputs"] == [{"shape": [2, 1, 12, 12], "dtype": "float32"}]
    assert plan.units()["frozen"] == {"network output": 3}


def test_another_width_is_named(plan: Plan) -> None:
    with pytest.raises(UsageError, match=r"group 'stem\.0' of width 8 in the plan is 'stem\.0' of width 6"):
        ranp.slim(Residual(2, width=6), plan)


def edited(plan: Plan, **changes: object) -> str:
    return json.dumps({**json.loads(plan.to_json()), **changes})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema_version": 2}, "schema version 2"),
        ({"surprise": 1}, "surprise"),
        ({"groups": [{"name": "a", "layers": [], "width": 2, "kept": [2]}]}, "within its width 2"),
        ({"groups": [{"name": "a", "layers": [], "width": 2, "kept": [1, 0]}]}, "ascend"),
        ({"groups": [{"name": "a", "layers": [], "width": 2, "kept": []}]}, "keeps nothing"),
        ({"groups": [{"name": "a", "layers": [], "width": 2, "kept": [-1]}]}, "groups.0.kept.0"),
    ],
)
def test_what_is_no_plan_is_refused_in_one_line(plan: Plan, changes: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words) as error:
        Plan.from_json(edited(plan, **changes))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "[" * 100_000])
def test_damaged_text_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Plan.from_json(text)


def test_unknown_dtype_is_refused(plan: Plan) -> None:
    text = edited(plan, inputs=[{"shape": [1, 1, 8, 8], "dtype": "Tensor"}])
    with pytest.raises(UsageError, match="dtype 'Tensor'"):
        ranp.slim(small("residual2d")[0], Plan.from_json(text))


def test_mask_counts(plan: Plan) -> None:
    graph = ranp.trace(*small("residual2d"))
    assert int(plan.mask(graph).sum()) == plan.units()["kept"]
    assert np.all(plan.mask(graph)[graph.frozen])
