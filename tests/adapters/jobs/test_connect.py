"""`ranp connect`, and its runs as a MODEL of the other commands."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import ranp
from ranp.adapters.connectivity import ConnectivityMask
from ranp.adapters.jobs.connect import load_connected
from ranp.commands.main import app
from ranp.errors import UsageError

SMALL = ("--set", "base_width=2", "--set", "depth=3", "--patch", "16x16", "--width", "4")
SEARCH = ("connect", "unet2d", *SMALL, "--data", "phantom", "--steps", "3", "--val-every", "3")
FACTORY = """
from torch import nn

def deep(channels: int = 1):
    return nn.Sequential(nn.Conv2d(channels, 3, 3, 2, 1), nn.Conv2d(3, 4, 3, 2, 1))
"""


def call(*words: object, code: int = 0) -> Any:
    result = CliRunner().invoke(app, [*map(str, words), *(["--json"] if code == 0 else [])])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout) if code == 0 else result.stderr.splitlines()[-1]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("connect") / "run"
    report = call(*SEARCH, "--classes", 3, "--decoder-init", "inherit", "--out", out)
    assert report["features"] == ["encoder.2/4", "encoder.1/2", "encoder.0/1"]
    assert report["edges"] == {"kept": 12, "searched": 12}
    assert report["inherited"]["score"] == pytest.approx(report["validations"][-1]["score"])
    assert report["decoders"]["slim"] == report["decoders"]["dense"]
    assert report["decoders"]["naive"]["macs"] > report["decoders"]["slim"]["macs"]
    return out


def test_a_run_holds_what_people_and_programs_read(run: Path) -> None:
    assert sorted(path.name for path in run.iterdir()) == [
        "config.yaml", "connected.safetensors", "connectivity.json", "decoder.svg", "report.html", "report.json",
    ]  # fmt: skip
    assert (run / "decoder.svg").read_text() in (run / "report.html").read_text()
    assert len(ConnectivityMask.load(run / "connectivity.json").edges) == 12
    assert load_connected(str(run))(torch.zeros(2, 3, 16, 16)).shape == (2, 3, 16, 16)


def test_a_run_is_a_model(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pruned = call("prune", run, "--sparsity", 0.3, "--method", "l1", "--out", tmp_path / "slim")
    assert pruned["slim"]["params"] < pruned["full"]["params"]
    assert pruned["verify"]["passed"]
    trained = call("train", run, "--data", "phantom", "--steps", 2, "--out", tmp_path / "trained")
    assert trained["steps"] == 2
    exported = call("export", tmp_path / "slim")
    assert exported["onnx"]["passed"]
    moved = call("transfer", tmp_path / "slim", "--classes", 5, "--input", "32x32", "--out", tmp_path / "moved")
    assert moved["verify"]["passed"]
    assert ranp.load(tmp_path / "moved")(torch.zeros(2, 3, 32, 32)).shape == (2, 5, 32, 32)
    own, other = (load_connected(str(run), classes=classes).state_dict() for classes in (0, 5))
    assert {name for name in own if not torch.equal(own[name], other[name])} == {
        name for name in own if name.startswith("decoder.classifier.")
    }


def test_connections_go_to_another_encoder_without_a_search(run: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(FACTORY)
    spec = f"{tmp_path / 'mine.py'}:deep"
    words = ("connect", spec, "--mask", run, "--patch", "16x16", "--out", tmp_path / "other")
    assert "--classes: is missing" in call(*words, code=2)
    report = call(*words, "--classes", 2)
    assert report["connections"] == {
        "0": ["1/4", "global"],
        "1": ["1/4", "global", "0/2", "stage at 1/4"],
    }
    with pytest.raises(UsageError, match="never make ranp build this network"):
        load_connected(str(tmp_path / "other"))
    with pytest.raises(UsageError, match=r"is over .*mine\.py:deep, not unet2d"):
        load_connected(str(tmp_path / "other"), "unet2d")
    network = load_connected(str(tmp_path / "other"), spec)
    assert network(torch.zeros(1, 1, 16, 16)).shape == (1, 2, 16, 16)


def test_a_run_may_be_the_encoder_and_is_copied(run: Path, tmp_path: Path) -> None:
    report = call("connect", run, "--mask", run, "--classes", 2, "--out", tmp_path / "again")
    assert (tmp_path / "again" / "encoder" / "connectivity.json").is_file()
    assert report["features"][-1].endswith("/1")
    assert load_connected(str(tmp_path / "again"))(torch.zeros(1, 3, 16, 16)).shape == (1, 2, 16, 16)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--classes", "3", "--strength", "-1"), "--strength -1"),
        (("--classes", "3", "--threshold", "1"), "--threshold 1"),
        (("--classes", "3", "--act", "relu7"), "did you mean 'relu"),
        (("--classes", "3", "--at", "encoder.9"), "at: 'encoder.9': no such module"),
        (("--classes", "3", "--at", "encoder.1", "--at", "encoder.1.0"), "expected features of an encoder at two str"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(more: tuple[str, ...], words: str, tmp_path: Path) -> None:
    assert words in call(*SEARCH, *more, "--out", tmp_path / "run", code=2)
    assert not (tmp_path / "run").exists()


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    report = call(*SEARCH, "--classes", 3, "--dry-run", "--out", tmp_path / "run")
    assert report["out"] is None
    assert not (tmp_path / "run").exists()
