"""Losses from the command line: by name, by the path of a class, of the user's own, and what a run's files may name."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from ranp.commands._command import _parameter
from ranp.jobs.options import Prune
from ranp.options import listing

Call = Callable[..., Any]
NET = ("unet3d", "--classes", 3, "--set", "base_width=4", "--set", "depth=2", "--patch", 8, "--batches", 1)
PRUNE = ("prune", *NET, "--sparsity", 0.3)
OWN = """
import torch

def entropy(outputs, target, scale=1.0):
    return scale * torch.nn.functional.cross_entropy(outputs, target)

def nothing(outputs, target):
    return (outputs * 0).sum()
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("lossy.py").write_text(OWN)
    return tmp_path


def kept(run: Path) -> dict[str, Any]:
    values = yaml.safe_load((run / "config.yaml").read_text())
    assert isinstance(values, dict)
    return values


def test_a_class_of_monai_is_kept_with_its_settings_and_repeated(own: Path, answer: Call, ranp: Call) -> None:
    words = ["--loss", "monai.losses.DiceCELoss", "--set-loss", "to_onehot_y=true", "--set-loss", "softmax=true"]
    report = answer(*PRUNE, *words, "--out", "a")
    config = kept(own / "a")
    assert config["loss"] == "monai.losses.DiceCELoss"
    assert config["loss_settings"] == {"to_onehot_y": True, "softmax": True}
    assert config["deep_supervision"] == "equal"
    again = answer("prune", "unet3d", "--config", "a/config.yaml", "--out", "b")
    assert again["slim"] == report["slim"]
    assert answer("compare", "a")["rows"]  # of MONAI's losses, and torch's, a run's files may name any
    ranp("report", "a", "--out", "page.html")
    assert "--set-loss to_onehot_y=true" in Path("page.html").read_text()


def test_an_own_loss_scores_as_the_named_one_that_it_repeats(own: Path, answer: Call) -> None:
    named, mine = (answer(*PRUNE, "--loss", w, "--out", o) for w, o in (("ce", "a"), ("lossy.py:entropy", "b")))
    assert named["slim"] == mine["slim"]
    assert kept(own / "b")["loss"] == "lossy.py:entropy"


def test_a_run_never_makes_ranp_import_a_loss(own: Path, answer: Call, refused: Call) -> None:
    answer(*PRUNE, "--loss", "lossy.py:entropy", "--out", "run")
    Path("lossy.py").write_text("raise SystemExit('imported')\n")
    said = refused("compare", "run")
    assert said.startswith("lossy.py:entropy: a run's files never make ranp import this loss by themselves; repeat it")
    assert said.endswith("--loss lossy.py:entropy")
    said = refused("compare", "run", "--loss", "ce")
    assert said == "--loss ce: run was scored with lossy.py:entropy; leave it out, or repeat that one"
    Path("lossy.py").write_text(OWN)
    assert answer("compare", "run", "--loss", "lossy.py:entropy")["rows"]


def test_a_loss_without_a_gradient_is_refused_in_a_line_and_nothing_is_written(own: Path, refused: Call) -> None:
    said = refused(*PRUNE, "--loss", "lossy.py:nothing", "--out", "run")
    assert said.startswith("batch 1: the loss does not depend on the network: its gradient is zero for all ")
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("words", "start"),
    [
        (["--loss", "cee"], "--loss cee: expected ce, ce-dice, bce, bce-dice, stereo, mse, l1, package"),
        (["--loss", "dice-ce"], "--loss dice-ce: expected"),
        (["--loss", "ce", "--set-loss", "weight=1"], "--set-loss weight: ce takes no settings"),
        (["--set-loss", "weight"], "--set-loss weight: expected key=value"),
        (["--loss", "torch.nn.MSELos"], "--loss torch.nn.MSELos: torch.nn has no 'MSELos'; did you mean 'MSELoss'?"),
        (["--deep-supervision", "nnunt"], "--deep-supervision nnunt: expected equal or nnunet; did you mean 'nnunet'?"),
        (["--loss", "lossy.py:entropy", "--deep-supervision", "nnunet"], "--deep-supervision nnunet: lossy.py:entropy"),
        (["--loss", "monai.losses.DiceLoss"], "--loss monai.losses.DiceLoss: outputs from"),
    ],
)  # fmt: skip
def test_mistakes(words: list[str], start: str, own: Path, refused: Call) -> None:
    assert refused(*PRUNE, *words, "--out", "run").startswith(start)
    assert not Path("run").exists()


def test_the_words_complete_in_the_shell() -> None:
    (option,) = [each for each in listing(Prune) if each.name == "loss"]
    assert option.choices == ("ce", "ce-dice", "bce", "bce-dice", "stereo", "mse", "l1")
    info = _parameter(option).annotation.__metadata__[0]
    assert info.autocompletion("ce") == ["ce", "ce-dice"]
    assert "lossy" not in sys.modules
