"""What the user's network prints, warns of and raises, from the command line."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from ranp.commands import start

pytestmark = pytest.mark.filterwarnings("always:take care")  # the network's own

SOURCE = """
import os
import warnings
import torch
from torch import nn

print("on import")

class Unspeakable(Exception):
    def __str__(self):
        raise RuntimeError("no words")

class Net(nn.Module):
    def __init__(self, how="runs"):
        super().__init__()
        print("on build")
        self.how, self.first, self.last = how, nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 2, 1)

    def forward(self, x):
        print("on forward")
        warnings.warn("take care", stacklevel=1)
        return self.last(self.middle(self.first(x)))

    def middle(self, x):
        if self.how == "key":
            raise KeyError("mask")
        if self.how == "bare":
            raise NotImplementedError
        if self.how == "assert":
            assert x is None
        if self.how == "stop":
            raise StopIteration
        if self.how == "exit":
            raise SystemExit(3)
        if self.how == "base":
            raise GeneratorExit
        if self.how == "unspeakable":
            raise Unspeakable
        if self.how == "timed" and not x.is_meta or self.how == "trained" and self.training:
            raise NotImplementedError
        if self.how == "interrupt":
            raise KeyboardInterrupt
        if self.how == "exporting" and torch.compiler.is_exporting():
            raise AssertionError
        if self.how == "system":
            os.write(1, b"past Python\\n")
        if self.how == "lines":
            raise ValueError("two\\nlines")
        return x
"""
RAISED = {
    "key": "KeyError: 'mask'",
    "bare": "NotImplementedError",
    "assert": "AssertionError",
    "stop": "StopIteration",
    "exit": "SystemExit: 3",
    "base": "GeneratorExit",
    "unspeakable": "Unspeakable",
    "lines": "ValueError: two lines",
}


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "net.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    return "net.py:Net"


@pytest.mark.parametrize("how", RAISED)
@pytest.mark.parametrize("verb", ["inspect", "prune"])
def test_what_a_forward_raises_is_told_with_its_place(
    how: str, verb: str, net: str, ranp: Callable[..., Result]
) -> None:
    words = ("--sparsity", 0.3, "--batches", 1, "--patch", "8x8") if verb == "prune" else ("--input", "8x8")
    code = 3 if verb == "inspect" and how not in ("exit", "base") else 2
    result = ranp(verb, net, "--set", f"how={how}", *words, code=code)
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert f"{RAISED[how]} (net.py:22 in forward, ... net.py:" in line
    assert line.endswith("in middle)")
    assert result.stdout == ""


def test_what_a_constructor_raises_is_told_with_its_place(tmp_path: Path, ranp: Callable[..., Result]) -> None:
    (tmp_path / "net.py").write_text("def net():\n    assert False\n")
    line = ranp("inspect", f"{tmp_path}/net.py:net", code=2).stderr
    assert line == f"error: MODEL {tmp_path}/net.py:net: AssertionError ({tmp_path}/net.py:2 in net)\n"


@pytest.mark.parametrize("verb", ["inspect", "prune", "profile"])
def test_stdout_is_one_object_whatever_the_network_prints(verb: str, net: str, ranp: Callable[..., Result]) -> None:
    words = ("--sparsity", 0.3, "--batches", 1, "--patch", "8x8") if verb == "prune" else ("--input", "8x8")
    result = ranp(verb, net, *words, "--json")
    assert isinstance(json.loads(result.stdout), dict)
    for said in ("on import", "on build", "on forward", "warning: take care"):
        assert said in result.stderr.splitlines()


def test_what_is_printed_past_python_is_kept_off_stdout(net: str, tmp_path: Path) -> None:
    program = [sys.executable, "-c", "from ranp.commands.start import run; run()"]
    words = ["inspect", net, "--set", "how=system", "--input", "8x8", "--json"]
    done = subprocess.run([*program, *words], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["layers"]
    assert "past Python" in done.stderr.splitlines()


def test_an_interrupt_is_an_object_too(net: str, ranp: Callable[..., Result]) -> None:
    result = ranp("inspect", net, "--set", "how=interrupt", "--input", "8x8", "--json", code=130)
    said = {"message": "interrupted", "kind": "KeyboardInterrupt", "exit_code": 130, "closest": None}
    assert json.loads(result.stdout) == {"error": said}
    assert result.stderr.splitlines()[-1] == "interrupted"


def test_what_a_forward_raises_while_it_is_exported(net: str, ranp: Callable[..., Result]) -> None:
    ranp("prune", net, "--set", "how=exporting", "--patch", "8x8", "--method", "l1", "--sparsity", 0.3, "--out", "run")
    line = ranp("export", "run", "--model", net, "--torch-export", "a.pt2", code=3).stderr.splitlines()[-1]
    assert line.startswith("error: --torch-export: the network can't be captured: ")
    assert "AssertionError" in line
    assert "net.py:22 in forward" in line


@pytest.mark.parametrize(
    ("how", "option", "said"),
    [
        ("timed", "--measure", "the network does not run while it is timed: NotImplementedError (net.py:22 in forward"),
        ("trained", "--training", "the training step can't be replayed: NotImplementedError (net.py:22 in forward"),
    ],
)
def test_what_a_forward_raises_while_it_is_profiled(
    how: str, option: str, said: str, net: str, ranp: Callable[..., Result]
) -> None:
    result = ranp("profile", net, "--set", f"how={how}", "--input", "8x8", option, code=3)
    assert result.stderr.splitlines()[-1].startswith(f"error: {said}")


def test_a_run_of_an_own_factory_is_not_compared_by_its_folder(net: str, ranp: Callable[..., Result]) -> None:
    ranp("prune", net, "--patch", "8x8", "--method", "l1", "--sparsity", 0.3, "--out", "run")
    line = ranp("compare", "run", code=2).stderr.splitlines()[-1]
    assert line.endswith("name net.py:Net in the place of the run, with its options")


def test_what_a_forward_raises_while_it_is_fused(net: str, ranp: Callable[..., Result]) -> None:
    line = ranp("fuse", net, "--set-a", "how=bare", "--input", "8x8", "--out", "run", code=2).stderr.splitlines()[-1]
    assert line.startswith("error: segmenter: the network does not run on the example: NotImplementedError (net.py:22")
    assert not Path("run").exists()


def test_people_get_results_on_stdout_alone(net: str, ranp: Callable[..., Result]) -> None:
    result = ranp("inspect", net, "--input", "8x8")
    assert "2 layers" in result.stdout
    assert "on forward" not in result.stdout


@pytest.mark.parametrize(
    ("words", "code", "kind", "message"),
    [
        (("prune", "unet3", "--sparsity", "0.1"), 2, "UsageError", "did you mean 'unet3d'?"),
        (("prune", "unet3d"), 2, "UsageError", "give either --sparsity or --max-sparsity"),
        (("prune", "unet3d", "--sparsty", "0.1"), 2, "NoSuchOption", "No such option: --sparsty"),
        (("prune", "unet3d", "--batches", "many"), 2, "BadParameter", "--batches"),
        (("verify", "nowhere"), 2, "UsageError", "no such run folder"),
        (("inspect", "net.py:Net", "--set", "how=key", "--input", "8x8"), 3, "UnsupportedError", "KeyError: 'mask'"),
    ],
)
def test_an_error_is_one_object_too(
    words: tuple[str, ...], code: int, kind: str, message: str, net: str, ranp: Callable[..., Result]
) -> None:
    result = ranp(*words, "--json", code=code)
    error = json.loads(result.stdout)["error"]
    assert message in error["message"]
    assert (error["kind"], error["exit_code"], error["closest"]) == (kind, code, None)
    assert f"error: {error['message']}" in result.stderr.splitlines()


def test_an_infeasible_goal_carries_the_closest(net: str, answer: Callable[..., dict[str, Any]]) -> None:
    words = (net, "--patch", "8x8", "--batches", 1, "--method", "l1")
    error = answer("prune", *words, "--sparsity", 0.99, code=3)["error"]
    assert error["kind"] == "InfeasibleError"
    assert 0 < error["closest"] < 0.99
    answer("prune", *words, "--sparsity", int(error["closest"] * 1e6) / 1e6, "--out", "closest")


def test_an_interrupt_while_the_program_is_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupted:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "ranp.commands.main":
                raise KeyboardInterrupt

    monkeypatch.delitem(__import__("sys").modules, "ranp.commands.main")
    monkeypatch.setattr("sys.meta_path", [Interrupted(), *__import__("sys").meta_path])
    with pytest.raises(SystemExit) as stopped:
        start.run()
    assert stopped.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_an_interrupt_while_options_are_read(monkeypatch: pytest.MonkeyPatch, ranp: Callable[..., Result]) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ranp.commands._command.read_yaml", stop)
    assert ranp("prune", "unet3d", "--config", "a.yaml", code=130).stderr == "interrupted\n"


@pytest.mark.parametrize(
    ("words", "verb"),
    [
        (("-h",), ""),
        (("help",), ""),
        (("prune", "-h"), "prune"),
        (("help", "prune"), "prune"),
        (("help", "kernels", "build"), "build"),
    ],
)
def test_help_by_every_usual_word(words: tuple[str, ...], verb: str, ranp: Callable[..., Result]) -> None:
    text = ranp(*words).stdout
    assert text.startswith("Usage: ")
    assert verb in text.splitlines()[0]
