import json
from pathlib import Path

from typer.testing import CliRunner

from ranp.commands.main import app

SMALL = ["fuse", "unet2d", "--set-a", "base_width=4", "--set-a", "depth=2", "--in-channels", "1", "--classes", "3"]
SIZE = ["--input", "16", "--segments", "9"]


def test_writes_a_run_and_says_so(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [*SMALL, *SIZE, "--out", str(tmp_path / "run")])
    assert result.exit_code == 0, result.output
    assert "output       1 x 3 x 16 x 16" in result.stdout
    assert "prune it: ranp prune ranp.adapters.fused_runs:load --set run=" in result.stdout
    assert (tmp_path / "run" / "fused.safetensors").is_file()


def test_json_is_one_object_and_the_config_runs_again(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    result = CliRunner().invoke(app, [*SMALL, *SIZE, "--activation", "gelu", "--out", str(first), "--json"])
    report = json.loads(result.stdout)
    assert report["verify"]["max_rel_diff"] < 1e-5
    assert report["options"]["activation"] == "gelu"
    again = CliRunner().invoke(app, ["fuse", "--config", str(first / "config.yaml"), "--out", str(second)])
    assert again.exit_code == 0, again.output
    assert (second / "config.yaml").read_text() == (first / "config.yaml").read_text()
    assert (second / "fused.safetensors").read_bytes() == (first / "fused.safetensors").read_bytes()


def test_dry_run_writes_nothing(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [*SMALL, *SIZE, "--out", str(tmp_path / "run"), "--dry-run"])
    assert result.exit_code == 0
    assert "dry run: nothing written" in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["fuse", "unet2", "--out", str(tmp_path / "run")])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: MODEL 'unet2'")
    assert result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_fused_run_is_pruned_by_the_next_command(tmp_path: Path) -> None:
    fused, slim = tmp_path / "fused", tmp_path / "slim"
    assert CliRunner().invoke(app, [*SMALL, *SIZE, "--out", str(fused)]).exit_code == 0
    model = ["ranp.adapters.fused_runs:load", "--set", f"run={fused}", "--init", "keep", "--classes", "3"]
    scoring = ["--patch", "32x32", "--batches", "1", "--sparsity", "0.3", "--json", "--out", str(slim)]
    result = CliRunner().invoke(app, ["prune", *model, *scoring])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["verify"]["max_rel_diff"] < 1e-9
    assert report["slim"]["params"] < report["full"]["params"]
