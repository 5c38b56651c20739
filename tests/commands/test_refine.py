import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner

from ranp.commands.main import app
from ranp.kernels import native


@pytest.fixture
def case(tmp_path: Path) -> Path:
    """Noisy logits of a square in a square, its image and its true labels, as .npy files."""
    random = np.random.default_rng(0)
    truth = np.zeros((24, 28), dtype=np.int64)
    truth[6:18, 6:22] = 1
    truth[10:14, 10:18] = 2
    np.save(tmp_path / "truth.npy", truth)
    np.save(tmp_path / "image.npy", 80.0 * truth + random.normal(size=truth.shape))
    np.save(tmp_path / "logits.npy", 1.5 * np.eye(3)[truth].transpose(2, 0, 1) + random.normal(size=(3, 24, 28)))
    return tmp_path


def run(folder: Path, *arguments: str, code: int = 0) -> str:
    paths = [str(folder / word) if "." in word and word[0].isalpha() else word for word in arguments]
    result = CliRunner().invoke(app, ["refine", *paths])
    assert result.exit_code == code, result.output
    return result.stderr if code else result.stdout


def test_labels_are_refined_reported_and_drawn(case: Path) -> None:
    inputs = ["logits.npy", "--image", "image.npy", "--labels", "truth.npy", "--strength", "2"]
    found: dict[str, Any] = json.loads(run(case, *inputs, "--out", "o.npy", "--picture", "p.png", "--json"))
    energy, metrics = found["energy"], found["metrics"]
    assert energy["after"] < energy["before"]
    assert energy["per_iteration"][-1] == energy["after"]
    assert len(energy["per_iteration"]) == 5
    assert metrics["after"]["miou"] > 0.95 > metrics["before"]["miou"]
    before, after = np.load(case / "logits.npy").argmax(0), np.load(case / "o.npy")
    assert after.dtype == np.uint8
    assert found["changed"] == (before != after).sum()
    assert metrics["after"]["accuracy"] == pytest.approx((after == np.load(case / "truth.npy")).mean())
    assert (case / "p.png").read_bytes().startswith(b"\x89PNG")


def test_people_read_the_same_figures(case: Path) -> None:
    text = run(case, "logits.npy", "--labels", "truth.npy", "--out", "o.npz", "--method", "trws", "--iterations", "2")
    assert "24 x 28, 3 labels: trws, potts x 1, edges none, 4 directions" in text
    assert "iteration 2" in text
    assert "changed" in text
    assert "mIoU" in text
    assert "o.npz" in text


def test_volumes_keep_their_affine(tmp_path: Path) -> None:
    scores = np.random.default_rng(0).normal(size=(4, 5, 6, 2)).astype(np.float32)
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(scores, affine), tmp_path / "s.nii.gz")
    run(tmp_path, "s.nii.gz", "--out", "o.nii.gz", "--method", "isgmr", "--picture", "p.svg")
    labels = nibabel.load(tmp_path / "o.nii.gz")
    assert labels.shape == (4, 5, 6)
    assert np.array_equal(labels.affine, affine)
    assert (tmp_path / "p.svg").exists()


def test_probabilities(case: Path) -> None:
    logits = np.load(case / "logits.npy")
    shares = np.exp(logits) / np.exp(logits).sum(0)
    np.savez(case / "shares.npz", probabilities=shares)
    run(case, "logits.npy", "--out", "a.npy")
    run(case, "shares.npz", "--probabilities", "--out", "b.npy")
    assert np.array_equal(np.load(case / "a.npy"), np.load(case / "b.npy"))


def test_a_dry_run_writes_nothing(case: Path) -> None:
    found = json.loads(run(case, "logits.npy", "--out", "o.npy", "--dry-run", "--json"))
    assert found["directions"] == 4
    assert "energy" not in found
    assert "dry run: would write" in run(case, "logits.npy", "--out", "o.npy", "--dry-run")
    assert not (case / "o.npy").exists()


def test_an_existing_output_needs_force(case: Path) -> None:
    run(case, "logits.npy", "--out", "o.npy")
    first = (case / "o.npy").read_bytes()
    assert "replace it with --force" in run(case, "logits.npy", "--out", "o.npy", "--strength", "9", code=2)
    assert (case / "o.npy").read_bytes() == first
    run(case, "logits.npy", "--out", "o.npy", "--strength", "9", "--force")
    assert (case / "o.npy").read_bytes() != first


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.npy", "--out", "o.npy"], "LOGITS"),
        (["logits.npy", "--out", "o.txt"], "--out"),
        (["logits.npy", "--out", "o.npy", "--method", "trvp"], "did you mean 'trwp'"),
        (["logits.npy", "--out", "o.npy", "--directions", "5"], "--directions 5: expected 4, 8, 16 in 2D"),
        (["logits.npy", "--out", "o.npy", "--directions", "0"], "--directions 0"),
        (["logits.npy", "--out", "o.npy", "--iterations", "0"], "--iterations 0"),
        (["logits.npy", "--out", "o.npy", "--rho", "2"], "--rho 2.0: expected a number above 0 and up to 1"),
        (["logits.npy", "--out", "o.npy", "--probabilities"], "--probabilities"),
        (["logits.npy", "--out", "o.npy", "--device", "gpu"], "--device gpu"),
        (["logits.npy", "--out", "o.npy", "--picture", "p.gif"], "--picture"),
        (["logits.npy", "--out", "o.npy", "--labels", "image.npy"], "--labels"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(case: Path, arguments: list[str], message: str) -> None:
    before = sorted(case.iterdir())
    error = run(case, *arguments, code=2)
    assert message in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert sorted(case.iterdir()) == before


@pytest.mark.parametrize(
    ("mode", "code", "message"),
    [
        ("on", 2, "error: RANP_NATIVE='on': expected one of off, auto, require\n"),
        ("require", 3, "error: RANP_NATIVE=require, but the cpu library is missing: no C++ compiler found"),
    ],
)
def test_native_code_that_can_not_be_had_is_one_line(
    case: Path, mode: str, code: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "_loaded", {})
    monkeypatch.setenv("RANP_NATIVE", mode)
    monkeypatch.setenv("CXX", "/no/such/compiler")
    error = run(case, "logits.npy", "--out", "o.npy", code=code)
    assert error.splitlines()[-1].startswith(message.strip())
    assert "defect" not in error
    assert not (case / "o.npy").exists()
