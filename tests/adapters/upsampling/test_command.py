"""The setting `upsampling` of the built-in U-Nets on the command line: pruned, verified, exported from the run."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ranp.commands.main import app

MODEL = "unet2d"
SMALL = ["--set", "base_width=4", "--set", "depth=2", "--set", "in_channels=1", "--set", "classes=3", "--classes", "3"]


def ranp(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("method", ["fade", "carafe"])
def test_prune_and_export(method: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    run, data = tmp_path / "run", ["--data", "phantom", "--patch", "16x16", "--batches", "2"]
    words = [MODEL, "--set", f"upsampling={method}", *SMALL, *data, "--sparsity", "0.3", "--out", run, "--json"]
    report = json.loads(ranp("prune", *words))
    assert report["slim"]["flops"] < report["full"]["flops"]
    taps = "kernel taps of the upsampling at decoder.0.upsample.upsampler"
    assert taps in json.dumps(report)
    ranp("export", run)
    entry = json.loads((run / "report.json").read_text())["onnx"]
    assert entry["passed"]


def test_an_unknown_method_is_one_line() -> None:
    result = CliRunner().invoke(app, ["profile", MODEL, "--set", "upsampling=fad"])
    assert result.exit_code == 2
    assert "--set upsampling='fad': expected one of carafe, fade, fade-lite; did you mean 'fade'" in result.stderr
    assert len(result.stderr.splitlines()) == 1
