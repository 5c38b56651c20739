"""Inputs said in full: several, by name, of whole numbers, in the dtype of the network; from trace to export."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from ranp import runs
from ranp.inputs import range_of

Call = Callable[..., Any]
NETS = """
import torch
from torch import nn


class Conditioned(nn.Module):
    '''An image, words and a step, as diffusion models take them; the embedding fails outside its rows.'''

    def __init__(self, dtype=torch.float32):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU())
        self.words, self.steps = nn.Embedding(50, 8), nn.Embedding(70, 8)
        self.head = nn.Conv2d(8, 3, 1)
        self.to(dtype)

    def forward(self, image, ids, step=None):
        assert ids.dtype == torch.int64
        hidden = self.body(image) + self.words(ids).mean(1)[:, :, None, None]
        hidden = hidden + (0 if step is None else self.steps(step)[:, :, None, None])
        return self.head(hidden.relu())


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(50, 8)
        self.body = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))

    def forward(self, ids):
        return self.body(self.table(ids).mean(1))


def conditioned():
    return Conditioned()


def doubled():
    return Conditioned(torch.float64)


def words():
    return Words()


def double():
    return nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 1)).double()


def two():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(2, 6, 3, padding=1)
            self.c = nn.Conv2d(6, 3, 1)

        def forward(self, left, right):
            return self.c((self.a(left) + self.b(right)).relu())

    return Two()
"""
SCORED = ("--sparsity", 0.3, "--batches", 2)


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("nets.py").write_text(NETS)
    return "nets.py"


CASES = {
    "by name": ("conditioned", ["image=1x8x8", "ids=6:int64:50", "step=:int64:70"], [[1, 8, 8], [6], []]),
    "by place": ("conditioned", ["1x8x8:float32", "6:int64:50"], [[1, 8, 8], [6]]),
    "the tables say": ("conditioned", ["image=1x8x8", "ids=6:int64", "step=:int64"], [[1, 8, 8], [6], []]),
    "in float64": ("doubled", ["image=1x8x8", "ids=6:int64"], [[1, 8, 8], [6]]),
    "words alone": ("words", ["ids=6:int64"], [[6]]),
    "two images": ("two", ["left=1x8x8", "right=2x8x8"], [[1, 8, 8], [2, 8, 8]]),
}


@pytest.mark.parametrize("case", CASES)
def test_a_network_is_pruned_proved_and_looked_at(case: str, nets: str, ranp: Call, answer: Call) -> None:
    name, words, shapes = CASES[case]
    given = [part for word in words for part in ("--input", word)]
    report = answer("prune", f"{nets}:{name}", *given, *SCORED, "--batch-size", 2, "--out", "run")
    assert report["input"] == shapes
    assert report["slim"]["params"] < report["full"]["params"]
    assert report["verify"]["max_rel_diff"] < 1e-9
    assert report["verify"]["compared"] == report["verify"]["outputs"] == 1
    config = yaml.safe_load(Path("run/config.yaml").read_text())
    assert config["input"] == (words if len(words) > 1 else words[0])
    again = answer("prune", f"{nets}:{name}", "--config", "run/config.yaml", "--out", "again")
    assert again["slim"] == report["slim"]
    assert answer("verify", "run", "--model", f"{nets}:{name}")["max_rel_diff"] < 1e-9
    assert answer("inspect", f"{nets}:{name}", *given)["groups"]
    assert answer("profile", f"{nets}:{name}", *given)["input"] == shapes
    shapes = [shape for _, shape in sorted(zip(words, shapes, strict=True))] if "=" in words[0] else shapes  # as plans
    assert answer("profile", "run", "--model", f"{nets}:{name}", "--batch", 3)["input"] == shapes


def test_whole_numbers_vary_over_their_range_in_scores_and_proof(nets: str, answer: Call) -> None:
    words = ["--input", "ids=6:int64:50"]
    answer("prune", f"{nets}:words", *words, *SCORED, "--out", "run")
    plan = json.loads(Path("run/plan.json").read_text())
    assert plan["inputs"] == {"ids": {"shape": [1, 6], "dtype": "int64", "below": 50}}
    example = runs.read("run").plan.example_inputs()
    assert isinstance(example, dict)
    assert range_of(example["ids"]) == 50


def test_a_transfer_keeps_names_and_ranges(nets: str, answer: Call) -> None:
    given = ["--input", "image=1x8x8", "--input", "ids=6:int64"]
    answer("prune", f"{nets}:conditioned", *given, *SCORED, "--out", "run")
    answer("transfer", "run", "--model", f"{nets}:conditioned", "--input", "12x12", "--out", "new")
    example = runs.read("new").plan.example_inputs()
    assert isinstance(example, dict)
    assert example["image"].shape == (1, 1, 12, 12)
    assert example["ids"].shape == (1, 6)
    assert range_of(example["ids"]) == 50
    assert answer("verify", "new", "--model", f"{nets}:conditioned")["max_rel_diff"] < 1e-9


def test_its_export_computes_the_same(nets: str, ranp: Call) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    given = ["--input", "image=1x8x8", "--input", "ids=6:int64:50", "--input", "step=:int64:70"]
    ranp("prune", f"{nets}:conditioned", *given, *SCORED, "--batch-size", 2, "--out", "run")
    ranp("export", "run", "--model", f"{nets}:conditioned")
    assert Path("run/slim.onnx").is_file()


def test_the_networks_own_dtype_needs_no_word(nets: str, answer: Call) -> None:
    report = answer("prune", f"{nets}:double", "--input", "8x8", *SCORED, "--out", "run")
    assert report["verify"]["max_rel_diff"] < 1e-9
    plan = json.loads(Path("run/plan.json").read_text())
    assert plan["inputs"] == [{"shape": [1, 2, 8, 8], "dtype": "float64"}]


def test_costs_and_scores_at_sizes_of_their_own(nets: str, answer: Call) -> None:
    given = ["--input", "image=1x16x16", "--input", "ids=6:int64"]
    report = answer("prune", f"{nets}:conditioned", *given, "--patch", "8x8", *SCORED, "--out", "run")
    assert report["input"] == [[1, 16, 16], [6]]
    assert "8x8" in report["scored_on"]


def test_a_built_in_takes_its_own_inputs_in_full(answer: Call, refused: Call) -> None:
    assert answer("profile", "unet2d", "--input", "3x32x32:float32")["input"] == [[3, 32, 32]]
    said = refused("profile", "psm", "--input", "3x64x64:float32")
    assert said.startswith("--input 3x64x64:float32: psm takes inputs such as 3x")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["image=1x8x8", "6:int64"], "--input 6:int64: has no name and others have; name all inputs or none"),
        (["image=1x8x8", "image=6:int64"], "--input: image is given twice"),
        (["ids=6:int46"], "--input ids=6:int46: no dtype int46; expected one of float32,"),
        (["ids=6:int8:200"], "--input ids=6:int8:200: expected a number from 1 to 127"),
        (["ids=6:int64:0"], "--input ids=6:int64:0: expected a number from 1 to "),
        (["x=6:float32:9"], "--input x=6:float32:9: float32 holds no whole numbers below a number"),
        (["ids=6x:int64"], "--input ids=6x:int64: expected [NAME=]CHANNELSxSIZE[:DTYPE[:BELOW]]"),
        (["image="], "--input image=: expected [NAME=]"),
        (["image=1x0x8"], "--input image=1x0x8: expected lengths of at least 1"),
        (["ids=6:int64<50"], "--input ids=6:int64<50: expected [NAME=]"),
        (["picture=1x8x8", "ids=6:int64"], "Conditioned does not run on an input of 1x1x8x8 and 1x6 (--patch"),
    ],
)  # fmt: skip
def test_mistakes(words: list[str], said: str, nets: str, refused: Call) -> None:
    given = [part for word in words for part in ("--input", word)]
    assert refused("prune", f"{nets}:conditioned", *given, *SCORED, "--out", "run").startswith(said)
    assert not Path("run").exists()


def test_channels_said_twice_and_a_runs_inputs(nets: str, ranp: Call, refused: Call) -> None:
    said = refused("inspect", f"{nets}:two", "--input", "left=1x8x8", "--in-channels", 3)
    assert said == "--in-channels 3: --input left=1x8x8 says the channels"
    ranp("prune", f"{nets}:words", "--input", "ids=6:int64", *SCORED, "--out", "run")
    said = refused("profile", "run", "--model", f"{nets}:words", "--input", "ids=6:int64")
    assert said == "--input ids=6:int64: run is a run and knows its inputs; expected a size"
