"""`ranp prune` and `ranp compare` under limits, from the command line."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from ranp.commands.main import app

SMALL = ["unet3d", "--set", "base_width=8", "--set", "depth=3", "--patch", "16"]


def run(*words: Any, code: int = 0) -> Any:
    result = CliRunner().invoke(app, [*map(str, words)])
    assert result.exit_code == code, result.output
    return result


def test_a_profile_needs_no_data_and_its_config_repeats_it(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    found = json.loads(
        run("prune", *SMALL, "--flops", "40%", "--rule", "profile", "--growth", 1.25, "--out", first, "--json").stdout
    )
    assert found["scored_on"] == "no data"
    limit = found["chosen"]["limits"][0]
    assert (limit["name"], limit["asked"]) == ("flops", "40%")
    assert limit["built"] == found["slim"]["flops"] <= 0.4 * found["full"]["flops"]
    assert found["chosen"]["floor"] == 4
    run("prune", "--config", first / "config.yaml", "--out", second)
    assert (first / "plan.json").read_bytes() == (second / "plan.json").read_bytes()


def test_a_limit_takes_flat_widths_of_a_u_net_and_what_was_trained_a_ranking(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    words = ["--flops", "70%", "--min-width", 1, "--method", "l1"]
    run("prune", *SMALL, *words, "--out", first)
    widths = {group["name"]: len(group["kept"]) for group in json.loads((first / "plan.json").read_text())["groups"]}
    assert len({width for name, width in widths.items() if name != "final"}) < len(widths) / 2
    run("prune", first, *words, "--out", second)
    rules = [yaml.safe_load((path / "config.yaml").read_text())["rule"] for path in (first, second)]
    assert rules == ["auto", "global"]
    assert json.loads((first / "plan.json").read_text())["choice"]["rule"] == "profile"


def test_the_limit_that_binds_and_the_uniform_network_are_printed(tmp_path: Path) -> None:
    words = ["--method", "l1", "--flops", "50%", "--params", "40%", "--solver", "exact", "--min-width", "10%"]
    text = run("prune", *SMALL, *words, "--out", tmp_path / "a").stdout
    assert "limit that binds: " in text
    assert "rule global, solver exact, least width 10%" in text
    assert "below the best on its grid of widths" in text
    assert "uniform network of equal FLOPs: " in text


def test_memory_of_the_training_that_is_named_is_a_limit_and_kept_in_the_config(tmp_path: Path) -> None:
    words = ["--rule", "profile", "--train-memory", "60%", "--amp", "bf16", "--optimizer", "sgd", "--min-width", 2]
    found = json.loads(run("prune", *SMALL, *words, "--out", tmp_path / "a", "--json").stdout)
    (limit,) = found["chosen"]["limits"]
    assert limit["slim"] == limit["built"] <= limit["most"] < limit["full"]
    assert found["chosen"]["rounds"] == 1
    step = ["--training", "--amp", "bf16", "--optimizer", "sgd", "--json"]
    assert json.loads(run("profile", tmp_path / "a", *step).stdout)["training"]["peak"] == limit["built"]
    config = yaml.safe_load((tmp_path / "a" / "config.yaml").read_text())
    assert (config["train_memory"], config["amp"], config["optimizer"]) == ("60%", "bf16", "sgd")


def test_draws_and_generated_data_are_said(tmp_path: Path) -> None:
    words = ["--batches", 1, "--draws", 2, "--sparsity", 0.3, "--min-width", 2]
    found = json.loads(run("prune", *SMALL, *words, "--out", tmp_path / "a", "--json").stdout)
    assert any(note.startswith("2 draws: widths spread by") for note in found["notes"])
    assert any("scores are of generated data" in note for note in found["notes"])


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--flops", "0.1%"], 3, "--flops 0.1%: the smallest network takes"),
        (["--flops", "3GiB"], 2, "--flops 3GiB: expected an amount such as 12M, 3.5G"),
        (["--train-memory", "1KiB", "--rule", "profile"], 3, "--train-memory 1KiB: the smallest network takes"),
        (["--train-memory", "3G"], 2, "--train-memory 3G: expected an amount such as 200MiB, 1.5GiB"),
        (["--latency", "5MiB"], 2, "--latency 5MiB: expected an amount such as 5ms, 1.5s"),
        (["--latency", "5ms", "--device", "cuda:97"], 2, "--device cuda:97: "),
        (["--flops", "10%", "--optimizer", "sgd"], 2, "--optimizer sgd: only of use with --train-memory"),
        (["--flops", "10%", "--sparsity", 0.5], 2, "give either --sparsity or --max-sparsity, or limits: --params,"),
        (["--sparsity", 0.5, "--min-width", "0%"], 2, "--min-width 0%: expected a whole number"),
        (["--sparsity", 0.5, "--solver", "greedy"], 2, "--solver greedy: needs a limit"),
        (["--sparsity", 0.5, "--draws", 3, "--init", "keep"], 2, "--draws 3: needs weights that are drawn"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(tmp_path: Path, words: list[Any], code: int, said: str) -> None:
    result = run("prune", *SMALL, "--method", "l1", *words, "--out", tmp_path / "a", code=code)
    error = next(line for line in result.output.splitlines() if line.startswith("error:"))
    assert said in error
    assert not (tmp_path / "a").exists()


def test_compare_takes_limits(tmp_path: Path) -> None:
    words = ["--batches", 1, "--flops", "50%", "--out", tmp_path / "table.json", "--json"]
    found = json.loads(run("compare", *SMALL, *words).stdout)
    assert found["limits"] == {"flops": "50%"}
    rows = {row["name"]: row for row in found["rows"]}
    full = rows["full"]["costs"]["standard"]["flops"]
    for name in ("uniform", "profile", "RANP-f", "SNIP"):
        assert rows[name]["costs"]["standard"]["flops"] <= 0.5 * full
