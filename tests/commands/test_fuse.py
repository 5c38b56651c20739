import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from ranp.adapters.jobs.folder import FUSED
from ranp.commands.main import app
from ranp.errors import UsageError
from ranp.models.spec import resolve

SMALL = ["fuse", "unet2d", "--set-a", "base_width=4", "--set-a", "depth=2", "--in-channels", "1", "--classes", "3"]
SIZE = ["--input", "16", "--segments", "9"]


def test_writes_a_run_and_says_so(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [*SMALL, *SIZE, "--out", str(tmp_path / "run")])
    assert result.exit_code == 0, result.output
    assert "output       1 x 3 x 16 x 16" in result.stdout
    assert "superpixels: SLIC, about 9 an image" in result.stdout
    assert f"prune it: ranp prune {tmp_path / 'run'} --sparsity" in result.stdout
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
    assert result.stderr.startswith("error: MODEL unet2: ")
    assert result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_channels_of_an_own_factory_are_its_own(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\n\ndef net(input_channels=3):\n    return nn.Conv2d(input_channels, 9, 3, padding=1)\n"
    )
    own, run = f"{tmp_path / 'net.py'}:net", str(tmp_path / "run")
    report = json.loads(
        done(["fuse", own, "unet2d", "--set-b", "classes=9", "--input", "16x16", "--out", run, "--json"])
    )
    assert report["inputs"] == [[1, 3, 16, 16]]
    report = json.loads(
        done(["fuse", own, "--input", "16x16", "--set-a", "input_channels=2", "--out", run, "--json", "--force"])
    )
    assert report["inputs"] == [[1, 2, 16, 16]]


def test_a_fused_run_is_a_model_of_every_command(tmp_path: Path) -> None:
    fused, slim = str(tmp_path / "fused"), str(tmp_path / "slim")
    done([*SMALL, *SIZE, "--out", fused])
    assert json.loads(done(["profile", fused, "--json"]))["input"] == [[1, 16, 16]]
    assert "transparent.layers.1" in done(["inspect", fused, "--json"])
    report = json.loads(done(["prune", fused, "--batches", "1", "--sparsity", "0.3", "--json", "--out", slim]))
    assert report["input"] == [[1, 16, 16]]
    assert report["verify"]["max_rel_diff"] < 1e-9
    assert report["slim"]["params"] < report["full"]["params"]
    config = yaml.safe_load((tmp_path / "slim" / "config.yaml").read_text())
    assert (config["model"], config["settings"]) == ("ranp.adapters.jobs.fuse:load_fused", {"run": fused})
    assert config["init"] == "keep"
    assert "verified: slim = masked" in done(["verify", slim])
    assert "wrote" in done(["report", slim])
    again = json.loads(done(["fuse", slim, "--segments", "9", "--out", str(tmp_path / "again"), "--json"]))
    assert again["params"]["segmenter"] == report["slim"]["params"]


def test_two_networks_in_run_folders(tmp_path: Path) -> None:
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    small = ["prune", "unet2d", "--set", "base_width=4", "--set", "depth=2", "--in-channels", "1", "--input", "16"]
    for out, classes in ((a, "3"), (b, "9")):
        done([*small, "--rule", "random", "--sparsity", "0.2", "--classes", classes, "--out", out])
    report = json.loads(done(["fuse", a, b, "--out", str(tmp_path / "both"), "--json"]))
    assert report["superpixels"] == "scores of a network, over a grid of 16 pixels"
    weights = [f"{run}/slim.safetensors" for run in (a, b)]  # the checkpoint in a run stands for the run
    other = json.loads(done(["fuse", *weights, "--interval", "4", "--out", str(tmp_path / "files"), "--json"]))
    assert other["params"] == report["params"]
    result = CliRunner().invoke(app, ["fuse", a, a, "--out", str(tmp_path / "none")])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: superpixels: expected integer maps")
    assert result.stderr.count("\n") == 1


def test_a_fused_run_that_was_never_pruned_has_no_plan_to_verify(tmp_path: Path) -> None:
    done([*SMALL, *SIZE, "--out", str(tmp_path / "fused")])
    for verb in ("verify", "report", "export"):
        result = CliRunner().invoke(app, [verb, str(tmp_path / "fused")])
        assert result.exit_code == 2
        assert f"a run of `ranp fuse`, which has no plan; `ranp prune {tmp_path / 'fused'}`" in result.stderr


def test_force_replaces_runs_alone(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one").touch()
    result = CliRunner().invoke(app, [*SMALL, *SIZE, "--out", str(tmp_path / "photos"), "--force"])
    assert result.exit_code == 2
    assert "not a run folder, so --force does not replace it" in result.stderr
    assert (tmp_path / "photos" / "one").is_file()


def test_a_bare_checkpoint_needs_its_network(tmp_path: Path) -> None:
    (tmp_path / "a.pt").touch()
    result = CliRunner().invoke(app, ["fuse", str(tmp_path / "a.pt"), "--out", str(tmp_path / "run")])
    assert result.exit_code == 2
    assert "name that, and give the file by --weights-a" in result.stderr


def test_options_a_fused_run_knows_are_refused(tmp_path: Path) -> None:
    fused = tmp_path / "fused"
    done([*SMALL, *SIZE, "--out", str(fused)])
    result = CliRunner().invoke(app, ["profile", str(fused), "--in-channels", "2"])
    assert result.exit_code == 2
    assert "--in-channels 2: " in result.stderr
    (fused / "report.json").write_text("{}")
    result = CliRunner().invoke(app, ["profile", str(fused)])
    assert result.exit_code == 2
    assert "no inputs in its report.json" in result.stderr


def test_a_runs_files_name_no_more_than_its_folder(tmp_path: Path) -> None:
    """With `b` the factory would build what the file names, which a user alone may ask for."""
    (tmp_path / "mine.py").write_text("raise SystemExit('this file was run')")
    with pytest.raises(UsageError, match="never make ranp build this network"):
        resolve(FUSED.factory, {"run": str(tmp_path), "b": f"{tmp_path / 'mine.py'}:net"}, trusted=False)
    (tmp_path / "config.yaml").write_text(f"a: {tmp_path / 'mine.py'}:net\n")
    with pytest.raises(UsageError, match="never make ranp build this network"):
        resolve(FUSED.factory, {"run": str(tmp_path)}, trusted=False)


def done(words: list[str]) -> str:
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    return result.stdout
