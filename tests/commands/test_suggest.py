"""`ranp suggest`: costs and kept scores against sparsity, the knee, warnings; nothing is written."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ranp.commands.main import app

SMALL = ["unet3d", "--set", "base_width=8", "--set", "depth=3", "--patch", "16", "--batches", "1"]


def run(*words: Any, code: int = 0) -> Any:
    result = CliRunner().invoke(app, ["suggest", *map(str, words)])
    assert result.exit_code == code, result.output
    return result


def test_costs_and_scores_fall_with_sparsity_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = json.loads(run(*SMALL, "--min-width", 2, "--json").stdout)
    points = found["points"]
    assert [point["sparsity"] for point in points] == sorted(point["sparsity"] for point in points)
    assert points[0]["importance"] == points[0]["sparsity"] + 1 == 1
    for key in ("params", "flops", "memory_bytes"):
        values = [point["costs"][key] for point in points]
        assert values == sorted(values, reverse=True)
        assert values[-1] < values[0]
    above = [point["importance"] - point["costs"]["flops"] / points[0]["costs"]["flops"] for point in points]
    assert above[found["knee"]] == max(above)
    assert any("generated data" in note for note in found["notes"])
    assert list(tmp_path.iterdir()) == []


def test_the_table_marks_the_knee_and_warns_of_bottlenecks() -> None:
    text = run(*SMALL, "--method", "l1", "--rule", "profile").stdout
    assert text.count("knee") == 1
    assert "scores kept" in text
    assert "generated data" not in text


def test_mistakes_are_one_line() -> None:
    assert "--growth 1.5 is of --rule profile" in run(*SMALL, "--growth", 1.5, code=2).output


def test_under_limits_the_choice_and_what_breaks_them_are_shown() -> None:
    words = [*SMALL, "--method", "l1", "--rule", "profile", "--infer-memory", "60%", "--flops", "50%"]
    found = json.loads(run(*words, "--json").stdout)
    limits = {limit["name"]: limit["most"] for limit in found["chosen"]["limits"]}
    assert {*limits} == {"infer_memory", "flops"}
    within = found["within"]
    assert within["holds"]
    for point in [*found["points"], within]:
        held = point["meters"]["infer_memory"] <= limits["infer_memory"] and point["costs"]["flops"] <= limits["flops"]
        assert point["holds"] == held
    text = run(*words).stdout
    assert "under the limits" in text
    assert "over a limit" in text
    assert "limit that binds: " in text
    assert "--train-memory 3G: expected an amount" in run(*SMALL, "--train-memory", "3G", code=2).output
