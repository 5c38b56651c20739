"""Errors of the functions of `ranp` speak Python, and wrong types are one TypeError of ours."""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import ranp
from ranp import data, models, runs
from ranp.data import losses
from ranp.errors import WrongType
from ranp.export import export_run
from ranp.models.request import read_request, read_size
from ranp.models.weights import load_weights_
from ranp.pipeline import compare

INPUTS = torch.zeros(1, 1, 8, 8)
OPTION = re.compile(r"(?<!\w)--[a-z]")


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 3))


def pruned(**given: Any) -> ranp.Result:
    return ranp.prune(network(), INPUTS, **{"method": "l1", "sparsity": 0.4, **given})


def saved(place: Path, **given: Any) -> Path:
    result = pruned()
    kept = {"slim": result.slim, "plan": result.plan, "report": result.report, **given}
    return ranp.save(place, **kept)


def exported(place: Path, pool: nn.Module | None = None, **given: Any) -> dict[str, Any]:
    model = network() if pool is None else nn.Sequential(*network(), pool)
    result = ranp.prune(model, torch.zeros(1, 1, 24, 24), method="l1", sparsity=0.4)
    folder = ranp.save(place / "run", result.slim, result.plan, result.report)
    return export_run(runs.read(folder), model=model, **given)


BATCH = (torch.zeros(1, 1, 8, 8), torch.zeros(1, 4, 4, dtype=torch.int64))
CE = losses.get("ce")
MISTAKES: list[tuple[str, Callable[[Path], Any]]] = [
    (r"^opset=7: expected 18 to ", lambda place: exported(place, opset=7)),
    (r"^onnx='.*plan.json': is plan.json of the run ", lambda place: exported(place, onnx=place / "run" / "plan.json")),
    (
        r"^torch_export='.*a': onnx= writes there$",
        lambda place: exported(place, onnx=place / "a", torch_export=place / "a"),
    ),
    (
        r"^dynamic=True: can't be exported .* without dynamic=, or use torch_export=$",
        lambda place: exported(place, nn.AdaptiveAvgPool2d(2), dynamic=True),
    ),
    (
        r"^give either sparsity= or max_sparsity=, or limits: params=, flops=, activations=, "
        r"infer_memory=, train_memory= and latency=$",
        lambda _: pruned(sparsity=None),
    ),
    (r"^sparsity=1.5: expected a share", lambda _: pruned(sparsity=1.5)),
    (r"^sparsity=0.99 would leave", lambda _: pruned(sparsity=0.99)),
    (r"^min_width=0: expected a whole number", lambda _: pruned(min_width=0)),
    (r"^freeze='encoder' matches no", lambda _: pruned(freeze=["encoder"])),
    (r"^method 'mpmg' needs batches and a loss", lambda _: pruned(method="mpmg")),
    (r"^give example_inputs= or batches=", lambda _: ranp.prune(network(), method="l1", sparsity=0.4)),
    (r"^loss='dice': expected ce, .*; did you mean", lambda _: losses.get("dice")),
    (
        r"^classes=: the network has 2 classes, but a label is 7",
        lambda _: CE(torch.zeros(1, 2, 3), torch.full((1, 3), 7)),
    ),
    (r"^batch_size=0: expected at least 1", lambda _: data.phantom((8, 8), batch_size=0)),
    (r"^patch='8': expected two or three", lambda _: data.phantom((8,))),
    (r"^images=: nothing given", lambda _: data.nifti([], [], (8, 8, 8), 2)),
    (
        r"^path='.*' exists: .*force=True$|^out='.*' exists: .*force=True$",
        lambda place: [saved(place / "a") for _ in "12"],
    ),
    (r"^depth=99: expected at most", lambda _: models.build("unet3d", depth=99)),
    (r"^widht=: unet3d takes", lambda _: models.build("unet3d", widht=3)),
    (r"^preset='brats': unet3d has", lambda _: models.build("unet3d", "brats")),
    (r"^device='gpux': ", lambda _: pruned(method="mpmg", batches=[BATCH], loss=CE, device="gpux")),
    (r"^model='absent.py:Net': no file absent.py", lambda place: ranp.load(saved(place / "a"), model="absent.py:Net")),
    (r"^model='unet9': not a built-in", lambda place: ranp.load(saved(place / "a"), model="unet9")),
    (r"^model='torch.nn:PixelShuffle3d': torch.nn has no", lambda _: models.resolve("torch.nn:PixelShuffle3d")),
    (r"^verify_input='8by8': expected a size", lambda _: pruned(verify_input="8by8")),
    (r"^input='8by8': expected a size", lambda _: read_size("8by8")),
    (r"^in_channels=0: expected a positive", lambda _: read_request("unet3d", in_channels=0)),
    (r"^weights='.*': no such file", lambda place: load_weights_(network(), place / "w.pt")),
    (r"^give either sparsity= or max_sparsity_of=", lambda _: compare(network(), INPUTS, [BATCH], CE)),
]


@pytest.mark.parametrize(("message", "call"), MISTAKES)
def test_messages_name_arguments(message: str, call: Callable[[Path], Any], tmp_path: Path) -> None:
    with pytest.raises(ranp.RanpError) as caught:
        call(tmp_path)
    said = str(caught.value)
    assert re.search(message, said), said
    assert not OPTION.search(said), said
    assert "\n" not in said


WRONG: list[tuple[str, Callable[[Path], Any]]] = [
    (r"^batches= is an int; expected an iterable of \(inputs, target\)$", lambda _: pruned(batches=3)),
    (r"^batches= is a Tensor; .*such as a list of this one", lambda _: pruned(batches=INPUTS)),
    (r"^batches= is a dict; .*such as a list of this one", lambda _: pruned(batches={"image": INPUTS})),
    (r"^batch 1: a Tensor; expected a pair", lambda _: pruned(method="mpmg", batches=BATCH, loss=CE)),
    (r"^batch 1: a Tensor; expected a pair", lambda _: ranp.prune(network(), batches=BATCH, loss=CE, sparsity=0.4)),
    (r"^loss= is a str; expected a function.*ranp\.data\.losses\.get\('ce'\)", lambda _: pruned(loss="ce")),
    (
        r"^loss= is a type; expected a function .*such as CrossEntropyLoss\(\), not the class$",
        lambda _: pruned(method="mpmg", batches=[BATCH], loss=nn.CrossEntropyLoss),
    ),
    (r"^seed= is a str; expected a whole number$", lambda _: pruned(seed="first")),
    (
        r"^seed= is a float; expected a whole number$",
        lambda _: compare(network(), INPUTS, [BATCH], CE, seed=1.5, sparsity=0.1),
    ),
    (r"^loss= is a float; expected a function", lambda _: pruned(loss=1.0)),
    (r"^batch 1: the loss is a float", lambda _: pruned(method="mpmg", batches=[BATCH], loss=lambda *_: 1.0)),
    (r"^freeze= is a str; expected a list", lambda _: pruned(freeze="0")),
    (r"^keys= is a str; expected two", lambda _: pruned(batches=[BATCH], loss=CE, keys="image")),
    (r"^model is a str; expected a torch.nn.Module", lambda _: ranp.prune("unet3d", INPUTS, method="l1", sparsity=0.4)),
    (r"^example_inputs is a str; expected", lambda _: ranp.trace(network(), "64")),
    (
        r"^graph= is a Sequential; expected the graph of ranp\.trace",
        lambda _: ranp.select(network(), None, sparsity=0.1),
    ),
    (r"^graph= is a Sequential; expected", lambda _: ranp.importance(network(), network(), method="l1")),
    (r"^scores= is a dict; expected", lambda _: ranp.select(ranp.trace(network(), INPUTS), {}, sparsity=0.1)),
    (r"^plan= is a dict; expected a ranp.Plan", lambda _: ranp.slim(network(), {})),
    (r"^plan= is a dict; expected", lambda _: ranp.verify(network(), network(), {}, INPUTS)),
    (r"^plan= is a str; expected", lambda _: ranp.transfer("plan.json", network(), INPUTS)),
    (r"^slim= is a Result; expected", lambda place: saved(place / "a", slim=pruned())),
    (r"^report= is a str; expected a ranp.Report, or a dict", lambda place: saved(place / "a", report="fine")),
    (r"^report= is None; expected", lambda place: saved(place / "a", report=None)),
    (r"^path= is an int; expected", lambda _: ranp.load(3)),
]


@pytest.mark.parametrize(("message", "call"), WRONG)
def test_a_wrong_type_is_one_type_error_of_ours(message: str, call: Callable[[Path], Any], tmp_path: Path) -> None:
    with pytest.raises(TypeError) as caught:
        call(tmp_path)
    assert isinstance(caught.value, WrongType)
    assert re.search(message, str(caught.value)), str(caught.value)
    assert not list(tmp_path.iterdir())


def test_no_message_holds_an_option_or_an_argument_as_typed() -> None:
    """Literal text of an error: an option belongs into `errors.named`, which knows who reads it."""
    typed = re.compile(r"(?<![\w`-])--[a-z]|\b(?:MODEL|LOGITS) (?:\0|$)")
    raised = []
    for folder in ("ranp", "adapters"):
        for path in (Path(ranp.__file__).parents[1] / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Raise) and node.exc is not None:
                    raised += [(f"{path}:{part.lineno}", words) for part, words in _literals(node.exc)]
    assert len(raised) > 300
    assert [place for place, words in raised if typed.search(words)] == []


def _literals(node: ast.AST) -> Iterator[tuple[ast.expr, str]]:
    """Yield the text of an expression's strings, values in it as NUL; words given to `named` and its like apart."""
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("named", "setting"):
        return
    if isinstance(node, ast.JoinedStr):
        yield node, "".join(str(part.value) if isinstance(part, ast.Constant) else "\0" for part in node.values)
        for part in node.values:
            yield from _literals(part) if isinstance(part, ast.FormattedValue) else ()
        return
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node, node.value
    for child in ast.iter_child_nodes(node):
        yield from _literals(child)
