import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ranp.commands.main import app
from ranp.pipeline._compare import METHODS

SMALL = ["compare", "unet2d", "--set", "base_width=4", "--set", "depth=2", "--in-channels", "1", "--classes", "3"]
SIZE = ["--patch", "16", "--batches", "1"]


def test_the_table_names_every_method_and_the_largest_sparsity_of_each() -> None:
    result = CliRunner().invoke(app, [*SMALL, *SIZE, "--max-sparsity-of", "Layer-Wise"])
    assert result.exit_code == 0, result.output
    for name in ("full", *METHODS):
        assert f"\n{name} " in result.stdout
    assert "the largest of layer-wise; standard convention" in result.stdout
    assert "infeasible" in result.stdout  # a row, not an error
    assert "the largest feasible value is" in result.stdout


def test_json_is_one_object_and_the_file_is_the_same(tmp_path: Path) -> None:
    out = tmp_path / "table.json"
    result = CliRunner().invoke(app, [*SMALL, *SIZE, "--sparsity", "0.2", "--out", str(out), "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found == json.loads(out.read_text())
    assert found["sparsity"] == 0.2
    assert found["sparsity_of"] is None
    assert [row["name"] for row in found["rows"]] == ["full", *METHODS]
    assert set(found["rows"][0]["costs"]) == {"standard", "paper"}
    again = CliRunner().invoke(app, [*SMALL, *SIZE, "--sparsity", "0.2", "--out", str(out)])
    assert again.exit_code == 2
    assert "--force" in again.stderr


def test_the_papers_convention_counts_less() -> None:
    rows = {}
    for convention in ("standard", "paper"):
        result = CliRunner().invoke(app, [*SMALL, *SIZE, "--sparsity", "0.2", "--convention", convention])
        rows[convention] = next(line for line in result.stdout.splitlines() if line.startswith("full "))
    assert rows["standard"] != rows["paper"]
    assert rows["standard"].split()[1] == rows["paper"].split()[1]  # parameters


def test_dry_run_scores_nothing_and_writes_nothing(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [*SMALL, *SIZE, "--out", str(tmp_path / "table.json"), "--dry-run"])
    assert result.exit_code == 0, result.output
    assert "dry run: would compare full, random, layer-wise, SNIP, vanilla, weighted, RANP-m, RANP-f" in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_options_may_come_from_a_file(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(
        "model: unet2d\nsettings: {base_width: 4, depth: 2}\nin_channels: 1\nclasses: 3\npatch: 16\nbatches: 1\n"
    )
    result = CliRunner().invoke(app, ["compare", "--config", str(config), "--sparsity", "0.2", "--dry-run", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["input"] == [[1, 16, 16]]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--sparsity", "0.2", "--max-sparsity-of", "snip"], "either --sparsity or --max-sparsity-of"),
        (["--max-sparsity-of", "ranp"], "expected one of random"),
        (["--sparsity", "1"], "--sparsity 1.0: expected a share"),
        (["--method", "mpm"], "--method mpm"),
        (["--convention", "papers"], "--convention papers: expected standard or paper"),
        (["--data", "nifty"], "did you mean 'nifti'"),
        (["--out", "nowhere/at/all.json"], "no folder nowhere/at"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(given: list[str], words: str) -> None:
    result = CliRunner().invoke(app, [*SMALL, *SIZE, *given])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_run_gives_its_own_options_and_builds_nothing_that_its_files_name(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert CliRunner().invoke(app, ["prune", *SMALL[1:], *SIZE, "--sparsity", "0.2", "--out", str(run)]).exit_code == 0
    result = CliRunner().invoke(app, ["compare", str(run), "--classes", "4"])
    assert (result.exit_code, "a run knows its own network" in result.stderr) == (2, True)
    result = CliRunner().invoke(app, ["compare", str(run), "--dry-run", "--json"])
    assert json.loads(result.stdout)["out"] == str(run / "compare.json")
    config = (run / "config.yaml").read_text()
    (tmp_path / "mine.py").write_text("raise SystemExit(7)\n")
    (run / "config.yaml").write_text(config.replace("model: unet2d", f"model: {tmp_path / 'mine.py'}:factory"))
    result = CliRunner().invoke(app, ["compare", str(run)])
    assert result.exit_code == 2, result.output
    assert result.stderr.count("\n") == 1
    (run / "config.yaml").write_text(config + "run: elsewhere\n")
    result = CliRunner().invoke(app, ["compare", str(run)])
    assert (result.exit_code, "not a run of `ranp prune`: run in config.yaml" in result.stderr) == (2, True)
    assert not (run / "compare.json").exists()
