"""The published rule for transposed convolutions, from the command line."""

import json
from typing import Any

from typer.testing import CliRunner

from ranp.commands.main import app

SMALL = ["prune", "psm", "--set", "width=4", "--set", "maxdisp=16", "--set", "pools=[16,8,4,2]", "--input", "64x64"]


def report(tmp_path: Any, *options: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, [*SMALL, "--out", str(tmp_path / "run"), "--force", "--json", *options])
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_outputs_of_transposed_convolutions_stay_and_count_as_published(tmp_path: Any) -> None:
    options = ("--rule", "layerwise", "--sparsity", "0.4", "--method", "l1")  # of other rules: tests/selection
    proper, published = report(tmp_path, *options), report(tmp_path, *options, "--published-transposed")
    layers = {group["name"]: group for group in published["groups"]}
    wide = layers["hourglass1.c2.0"]
    assert wide["before"] == wide["after"] == 8
    assert published["paper"]["full"] == proper["paper"]["full"]
    assert published["paper"]["slim"]["params"] > proper["paper"]["slim"]["params"]
    assert published["verify"]["passed"]
