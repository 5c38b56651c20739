"""A slim network is trained outside of its run and goes back into it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import ranp as library
from ranp import runs

SMALL = ["unet2d", "--set", "base_width=4", "--set", "depth=2", "--classes", "3", "--patch", "12", "--method", "l1"]
Call = Callable[..., Any]


@pytest.fixture
def run(ranp: Call, tmp_path: Path) -> Path:
    ranp("prune", *SMALL, "--sparsity", "0.4", "--out", tmp_path / "run")
    return tmp_path / "run"


def trained(run: Path) -> dict[str, Tensor]:
    """Return weights that training might leave in the slim network."""
    torch.manual_seed(7)
    state = library.load(run).state_dict()
    return {
        name: value + torch.rand_like(value) if value.is_floating_point() else value for name, value in state.items()
    }


def contents(folder: Path) -> dict[str, bytes]:
    return {str(each.relative_to(folder)): each.read_bytes() for each in folder.rglob("*") if each.is_file()}


def save(state: dict[str, Tensor], path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": {f"model.{name}": value for name, value in state.items()}, "epoch": 3}, path)
    return path


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
def test_trained_weights_go_back_into_the_run(ranp: Call, answer: Call, run: Path, suffix: str, tmp_path: Path) -> None:
    (run / "notes.txt").write_text("mine")
    (run / "link").symlink_to("nowhere")
    before = contents(run)
    state = trained(run)
    file = save(state, tmp_path / f"trained{suffix}")
    assert "dry run: would write" in ranp("adopt", run, "--weights", file, "--dry-run").stdout
    assert contents(run) == before
    text = ranp("adopt", run, "--weights", file).stdout
    assert f"weights: trained{suffix}: {len(state)} tensors" in text
    assert "verified" in text
    slim = library.load(run).state_dict()
    assert all(torch.equal(slim[name], value) for name, value in state.items())
    after = contents(run)
    assert {name for name in before if before[name] != after[name]} == {"slim.safetensors", "report.json"}
    assert after["notes.txt"] == b"mine"
    assert (run / "link").is_symlink()
    report = runs.read(run).report
    assert report.trained is not None
    assert report.trained.file == file.name
    assert report.verify.passed
    assert report.full.params > report.slim.params
    assert answer("verify", run)["weights"].startswith(f"trained, trained{suffix}: ")


def test_what_was_exported_before_is_named_and_no_longer_claimed(ranp: Call, answer: Call, run: Path) -> None:
    pytest.importorskip("onnxruntime")
    assert ranp("export", run).stdout.startswith("untrained weights\n")
    file = save(trained(run), run.parent / "trained.pt")
    assert answer("adopt", run, "--weights", file)["stale"] == ["slim.onnx"]
    assert runs.read(run).report.onnx is None
    found = answer("export", run, "--force")["onnx"]
    assert found["passed"]
    assert found["weights"].startswith("trained, trained.pt: ")


def test_a_checkpoint_stands_in_for_the_weights_of_a_run(ranp: Call, answer: Call, run: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    before = contents(run)
    state = trained(run)
    file = save(state, run.parent / "trained.pt")
    assert answer("verify", run, "--weights", file)["max_rel_diff"] < 1e-9
    assert answer("profile", run, "--weights", file)["weights"].startswith(f"trained.pt: {len(state)} tensors")
    assert contents(run) == before
    place = run.parent / "trained.onnx"
    assert "weights: trained.pt: " in ranp("export", run, "--weights", file, "--onnx", place).stdout
    slim = library.load(run)
    slim.load_state_dict(state)
    session = runtime.InferenceSession(str(place), providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    image = torch.randn(given.shape, generator=torch.Generator().manual_seed(0))
    (found,) = session.run(None, {given.name: image.numpy()})
    with torch.no_grad():
        expected = slim.eval()(image)
    assert torch.allclose(torch.from_numpy(found), expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_what_does_not_fit_leaves_the_run_alone(refused: Call, run: Path, tmp_path: Path) -> None:
    before = contents(run)
    state = trained(run)
    full = library.models.build("unet2d", base_width=4, depth=2, classes=3).state_dict()
    name = next(iter(state))
    for content, expected in (
        (full, "the network's is"),
        ({key: value for key, value in state.items() if key != name}, f"{name} is missing"),
        ({**state, name: torch.full_like(state[name], float("nan"))}, f"{name} holds NaN"),
    ):
        file = save(content, tmp_path / "w.safetensors")
        for verb in ("adopt", "verify", "export"):
            if verb == "adopt" or "NaN" not in expected:
                assert expected in refused(verb, run, "--weights", file)
    assert "no such file" in refused("adopt", run, "--weights", tmp_path / "none.pt")
    assert "weights" in refused("adopt", run)
    assert contents(run) == before
    values = json.loads((run / "report.json").read_text())
    (run / "report.json").write_text(json.dumps({**values, "batch": 9}))
    assert "its hash differs" in refused("adopt", run, "--weights", save(state, tmp_path / "w.pt"))
