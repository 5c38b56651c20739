"""`--outputs`, from `ranp prune` to what is done with the run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

SOURCE = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.out = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 12, 3, padding=1), nn.Conv2d(12, 3, 1)

    def forward(self, x):
        low = self.a(x).relu()
        high = self.b(low).relu()
        return low, high, self.out(high)
"""


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "net.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    return "net.py:Net"


def test_the_result_is_named_and_features_shrink(net: str, answer: Callable[..., dict[str, Any]]) -> None:
    words = ("--patch", "8x8", "--batches", 1, "--sparsity", 0.4, "--out", "run")
    report = answer("prune", net, "--outputs", -1, *words)
    assert report["sparsity"]["achieved"] > 0.3
    assert report["verify"]["uncompared"] == []
    assert report["verify"]["compared"] == 3
    assert yaml.safe_load(Path("run/config.yaml").read_text())["outputs"] == [-1]
    assert json.loads(Path("run/plan.json").read_text())["outputs"] == [-1]
    assert answer("verify", "run", "--model", net)["passed"]
    assert answer("inspect", net, "--input", "8x8", "--outputs", 2)["groups"][0]["frozen"] == {}
    again = answer("prune", "--config", "run/config.yaml", "--out", "again")
    assert again["slim"] == report["slim"]


def test_a_place_that_is_not_there(net: str, refused: Callable[..., str]) -> None:
    said = refused("prune", net, "--outputs", 3, "--patch", "8x8", "--sparsity", 0.4)
    assert said == "--outputs 3: the network gives 3 tensor(s), counted from 0, or from -1 at the end"
    assert refused("prune", net, "--outputs", "last", "--sparsity", 0.4).startswith("--outputs last: expected a whole")
