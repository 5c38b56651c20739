import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import nn
from typer.testing import CliRunner, Result

import ranp as library
from ranp import runs
from ranp.commands.main import app
from ranp.models import build

SMALL = ["unet3d", "--set", "base_width=4", "--set", "depth=2", "--classes", "3", "--patch", "12", "--batches", "2"]
Call = Callable[..., Any]


def image(path: Path, values: np.ndarray[Any, Any]) -> Path:
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)
    return path


@pytest.fixture
def case(tmp_path: Path) -> list[object]:
    random = np.random.default_rng(0)
    volume = image(tmp_path / "image.nii.gz", random.normal(size=(14, 15, 16)).astype(np.float32))
    labels = image(tmp_path / "labels.nii.gz", random.integers(0, 3, size=(14, 15, 16)).astype(np.int16))
    return ["--data", "nifti", "--images", volume, "--labels", labels]


def test_a_phantom_prune_leaves_a_run_and_says_what_it_saved(ranp: Call, tmp_path: Path) -> None:
    run = tmp_path / "deep" / "run"
    text = ranp("prune", *SMALL, "--sparsity", "0.5", "--reweight", "flops", "--out", run).stdout
    assert {each.name for each in run.iterdir()} == {"config.yaml", "plan.json", "slim.safetensors", "report.json"}
    for word in (
        "parameters",
        "FLOPs",
        "activation memory",
        "asked 0.5000",
        "encoder.0.0.0",
        "verified",
        f"wrote {run}",
    ):
        assert word in text.replace("\n", "") or word in text
    slim = library.load(run)
    assert sum(p.numel() for p in slim.parameters()) == json.loads((run / "report.json").read_text())["slim"]["params"]


def test_json_is_exactly_the_report_of_the_run(answer: Call, tmp_path: Path) -> None:
    report = answer("prune", *SMALL, "--max-sparsity", "--reweight", "memory", "--out", tmp_path / "run")
    assert report == json.loads((tmp_path / "run" / "report.json").read_text())
    assert set(report["full"]) >= {"params", "flops", "memory_bytes"}
    assert set(report["slim"]) == set(report["full"])
    assert report["slim"]["params"] < report["full"]["params"]
    assert report["sparsity"]["asked"] == report["sparsity"]["maximum"]
    assert set(report["units"]) == {"total", "kept", "frozen"}
    assert report["units"]["frozen"] == {"network output": 3}
    assert report["verify"]["max_rel_diff"] <= 1e-9
    assert set(report["seconds"]) == {"trace", "score", "select", "slim", "verify"}
    assert report["input"] == [[1, 12, 12, 12]]


def test_the_same_seed_gives_the_same_plan_and_the_config_repeats_it(ranp: Call, tmp_path: Path) -> None:
    ranp("prune", *SMALL, "--sparsity", "0.4", "--seed", "3", "--out", tmp_path / "a")
    ranp("prune", *SMALL, "--sparsity", "0.4", "--seed", "3", "--out", tmp_path / "b")
    ranp("prune", "--config", tmp_path / "a" / "config.yaml", "--out", tmp_path / "c")
    ranp("prune", "--config", tmp_path / "a" / "config.yaml", "--seed", "4", "--out", tmp_path / "d")
    plans = [(tmp_path / name / "plan.json").read_bytes() for name in "abcd"]
    assert plans[0] == plans[1] == plans[2] != plans[3]
    configs = [yaml.safe_load((tmp_path / name / "config.yaml").read_text()) for name in "ac"]
    assert [config.pop("out") for config in configs] == [str(tmp_path / "a"), str(tmp_path / "c")]
    assert configs[0] == configs[1]


def test_volumes_of_the_user_are_read(answer: Call, case: list[object], tmp_path: Path) -> None:
    report = answer("prune", *SMALL, *case, "--sparsity", "0.3", "--out", tmp_path / "run")
    assert report["verify"]["passed"]


def test_a_network_of_monai_prunes(answer: Call, tmp_path: Path) -> None:
    settings = ["spatial_dims=2", "in_channels=1", "out_channels=3", "channels=[4,8]", "strides=[2]", "num_res_units=1"]
    words = [word for pair in settings for word in ("--set", pair)]
    report = answer(
        "prune", "monai.networks.nets:UNet", *words, "--patch", "16x16", "--batches", "1", "--sparsity", "0.4",
        "--out", tmp_path / "run",
    )  # fmt: skip
    assert report["input"] == [[1, 16, 16]]
    assert report["verify"]["passed"]


@pytest.mark.parametrize(
    "options", [("--method", "l1"), ("--rule", "random"), ("--rule", "snip"), ("--rule", "layerwise")]
)
def test_methods_and_rules(answer: Call, options: tuple[str, ...], tmp_path: Path) -> None:
    assert answer("prune", *SMALL, *options, "--sparsity", "0.3", "--out", tmp_path / "run")["verify"]["passed"]


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_checkpoint_keeps_its_weights(answer: Call, suffix: str, tmp_path: Path) -> None:
    network = build("unet3d", base_width=4, depth=2, classes=3, seed=9)
    path = tmp_path / f"w{suffix}"
    save_file(network.state_dict(), path) if suffix == ".safetensors" else torch.save(
        {"state_dict": network.state_dict()}, path
    )
    run = tmp_path / "run"
    answer("prune", *SMALL, "--weights", path, "--method", "l1", "--sparsity", "0", "--out", run)
    assert yaml.safe_load((run / "config.yaml").read_text())["init"] == "keep"
    slim = library.load(run)
    assert all(torch.equal(a, b) for a, b in zip(slim.parameters(), network.parameters(), strict=True))


def test_the_weights_of_a_factory_are_kept_and_those_of_a_built_in_drawn(answer: Call, tmp_path: Path) -> None:
    words = ["--method", "l1", "--sparsity", "0", "--out"]
    answer("prune", f"{__file__}:trained", "--patch", "8x8", *words, tmp_path / "own")
    slim = library.load(tmp_path / "own", model=trained())
    assert all((parameter == 0.5).all() for parameter in slim.parameters())
    answer("prune", *SMALL, *words, tmp_path / "built-in")
    configs = [yaml.safe_load((tmp_path / name / "config.yaml").read_text()) for name in ("own", "built-in")]
    assert [config["init"] for config in configs] == ["keep", "glorot"]


def trained() -> nn.Module:
    network = Wide()
    for parameter in network.parameters():
        nn.init.constant_(parameter, 0.5)
    return network


def test_a_dry_run_writes_nothing(ranp: Call, answer: Call, tmp_path: Path) -> None:
    text = ranp("prune", *SMALL, "--sparsity", "0.3", "--out", tmp_path / "run", "--dry-run").stdout
    assert f"dry run: would write {tmp_path / 'run'}" in text
    report = answer("prune", *SMALL, "--sparsity", "0.3", "--out", tmp_path / "run", "--dry-run")
    assert report["dry_run"] is True
    assert report["full"]["params"] > 0
    assert list(tmp_path.iterdir()) == []


MISTAKES = {
    "unknown model": (["prune", "unet3", "--sparsity", "0.3"], "did you mean 'unet3d'?"),
    "unknown key": (["prune", "unet3d", "--sparsity", "0.3", "--set", "base_widht=4"], "did you mean 'base_width'?"),
    "wrong type": (["prune", "unet3d", "--sparsity", "0.3", "--set", "base_width=wide"], "expects int"),
    "sparsity of one": (["prune", *SMALL, "--sparsity", "1"], "[0, 1)"),
    "negative sparsity": (["prune", *SMALL, "--sparsity", "-0.1"], "[0, 1)"),
    "no sparsity": (["prune", *SMALL], "--max-sparsity"),
    "no module": (["prune", "collections:OrderedDict", "--sparsity", "0.3"], "expected an nn.Module"),
    "no model": (["prune", "--sparsity", "0.3"], "MODEL is missing"),
    "unknown option": (["prune", *SMALL, "--sparcity", "0.3"], "--sparsity"),
    "no whole number": (["prune", *SMALL, "--batches", "2.5"], "--batches 2.5: expected a whole number"),
    "no number": (["prune", *SMALL, "--sparsity", "half"], "--sparsity half: expected a number"),
    "unknown rule": (["prune", *SMALL, "--sparsity", "0.3", "--rule", "globl"], "did you mean 'global'?"),
    "unknown method": (["prune", *SMALL, "--sparsity", "0.3", "--method", "mpm"], "did you mean 'mpmg'?"),
    "unknown loss": (["prune", *SMALL, "--sparsity", "0.3", "--loss", "cee"], "did you mean 'ce'?"),
    "unknown data": (["prune", *SMALL, "--sparsity", "0.3", "--data", "nifty"], "did you mean 'nifti'?"),
    "unknown preset": (["prune", "unet3d", "--preset", "brats", "--sparsity", "0.3"], "did you mean 'brats-15'?"),
    "unknown init": (["prune", *SMALL, "--sparsity", "0.3", "--init", "glorott"], "did you mean 'glorot'?"),
    "negative seed": (["prune", *SMALL, "--sparsity", "0.3", "--seed", "-1"], "--seed -1"),
    "endless seed": (["prune", *SMALL, "--sparsity", "0.3", "--seed", str(2**64)], f"--seed {2**64}"),
    "seed of the legacy generator": (
        ["prune", *SMALL, "--sparsity", "0.3", "--rule", "random", "--seed", str(2**32)],
        "--rule random",
    ),
    "unknown device": (["prune", *SMALL, "--sparsity", "0.3", "--device", "gpu"], "--device gpu"),
    "strength alone": (["prune", *SMALL, "--sparsity", "0.3", "--strength", "3"], "--reweight"),
    "infinite strength": (["prune", *SMALL, "--sparsity", "0.3", "--reweight", "flops", "--strength", "inf"], "finite"),
    "empty batches": (["prune", *SMALL, "--sparsity", "0.3", "--batch-size", "0"], "--batch-size 0"),
    "patch of two sizes": (["prune", *SMALL[:-4], "--patch", "8x8", "--sparsity", "0.3"], "--patch 8x8"),
    "freeze of nothing": (["prune", *SMALL, "--sparsity", "0.3", "--freeze", "encodr.*"], "matches no"),
    "images without labels": (
        ["prune", *SMALL, "--sparsity", "0.3", "--images", "a.nii"],
        "--labels: 0 given for 1 --images",
    ),
    "no images": (["prune", *SMALL, "--sparsity", "0.3", "--data", "nifti"], "--images"),
    "no checkpoint": (["prune", *SMALL, "--sparsity", "0.3", "--weights", "none.pt"], "--weights none.pt"),
    "rule without its method": (["prune", *SMALL, "--sparsity", "0.3", "--rule", "snip", "--method", "l1"], "snip"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_and_nothing_is_written(
    refused: Call, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words, expected = MISTAKES[name]
    monkeypatch.chdir(tmp_path)
    assert expected in refused(*words, "--out", tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_bad_volumes_are_refused(refused: Call, case: list[object], tmp_path: Path) -> None:
    def say(images: object, labels: object, *more: object) -> str:
        words = [
            "--data",
            "nifti",
            "--images",
            images,
            "--labels",
            labels,
            "--sparsity",
            "0.3",
            "--out",
            tmp_path / "run",
        ]
        return str(refused("prune", *SMALL, *words, *more))

    good, labels = case[3], case[5]
    corrupt = tmp_path / "corrupt.nii.gz"
    corrupt.write_bytes(b"no volume at all")
    holes = np.random.default_rng(0).normal(size=(14, 15, 16))
    holes[3, 3, 3] = np.nan
    assert "no such file" in say(tmp_path / "missing.nii.gz", labels)
    assert "not a readable NIfTI" in say(corrupt, labels)
    assert "differs" in say(good, image(tmp_path / "short.nii.gz", np.zeros((14, 15, 12), dtype=np.int16)))
    assert "found 7" in say(good, image(tmp_path / "seven.nii.gz", np.full((14, 15, 16), 7, dtype=np.int16)))
    assert "NaN" in say(image(tmp_path / "nan.nii.gz", holes), labels)
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_a_number_is_refused(refused: Call, tmp_path: Path) -> None:
    path = tmp_path / "nan.safetensors"
    network = build("unet3d", base_width=4, depth=2, classes=3)
    save_file({name: torch.full_like(value, torch.nan) for name, value in network.state_dict().items()
               if value.is_floating_point()} | {name: value for name, value in network.state_dict().items()
                                                if not value.is_floating_point()}, path)  # fmt: skip
    assert "nan" in refused("prune", *SMALL, "--weights", path, "--sparsity", "0.3", "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_existing_run_is_replaced_only_by_force(ranp: Call, refused: Call, tmp_path: Path) -> None:
    run, words = tmp_path / "run", ["prune", *SMALL, "--method", "l1", "--sparsity"]
    ranp(*words, "0.3", "--out", run)
    before = (run / "plan.json").read_bytes()
    assert "--force" in refused(*words, "0.5", "--out", run)
    assert (run / "plan.json").read_bytes() == before
    ranp(*words, "0.5", "--out", run, "--force")
    assert (run / "plan.json").read_bytes() != before
    assert [each.name for each in tmp_path.iterdir()] == ["run"]


def test_force_replaces_nothing_but_a_run(refused: Call, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.jpg").write_text("dear")
    said = refused("prune", *SMALL, "--sparsity", "0.3", "--out", tmp_path / "photos", "--force")
    assert "not a run folder" in said
    assert (tmp_path / "photos" / "one.jpg").read_text() == "dear"


def test_too_much_sparsity_names_the_largest(refused: Call, answer: Call, tmp_path: Path) -> None:
    words = ["prune", *SMALL, "--method", "l1", "--out", tmp_path / "run"]
    said = refused(*words, "--sparsity", "0.999", code=3)
    largest = said.rpartition(" ")[2]
    assert not (tmp_path / "run").exists()
    report = answer(*words, "--max-sparsity")
    assert float(largest) == pytest.approx(report["sparsity"]["maximum"], abs=1e-5)


def test_an_interrupt_is_130(ranp: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ranp.jobs.prune.prune", interrupted)
    result: Result = ranp("prune", *SMALL, "--sparsity", "0.3", "--out", tmp_path / "run", code=130)
    assert result.stderr == "interrupted\n"
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["prune", "unet3", "--sparsity", "0.3", "--debug", "--out", str(tmp_path / "run")])
    assert isinstance(result.exception, library.UsageError)


def test_a_real_process_keeps_stdout_for_the_object(tmp_path: Path) -> None:
    words = [str(Path(sys.executable).with_name("ranp")), "prune", *SMALL, "--method", "l1", "--sparsity", "0.3"]
    done = subprocess.run(
        [*words, "--out", str(tmp_path / "run"), "--json"], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["out"] == str(tmp_path / "run")
    assert done.stderr == ""


class Wide(nn.Module):
    """A network that lives in this file, which no run may build by itself."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, 2, 3, padding=1))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.layers(values)
        return found


def test_a_factory_of_the_user_must_be_repeated_to_verify(ranp: Call, refused: Call, tmp_path: Path) -> None:
    spec, run = f"{__file__}:Wide", tmp_path / "run"
    ranp("prune", spec, "--set", "width=6", "--patch", "8x8", "--method", "l1", "--sparsity", "0.4", "--out", run)
    assert f"--model {spec}" in refused("verify", run)
    assert "verified" in ranp("verify", run, "--model", spec).stdout


@pytest.mark.parametrize("verb", ["prune", "compare"])
def test_what_was_found_in_a_checkpoint_is_said(ranp: Call, answer: Call, verb: str, tmp_path: Path) -> None:
    state = build("unet3d", base_width=4, depth=2, classes=3, seed=1).state_dict()
    torch.save({"state_dict": {f"model.{name}": value for name, value in state.items()}}, tmp_path / "w.ckpt")
    words = [verb, *SMALL, "--weights", tmp_path / "w.ckpt", "--sparsity", "0.3", "--out", tmp_path / "out"]
    line = f"w.ckpt: {len(state)} tensors under state_dict, model. stripped from their names"
    assert f"weights: {line}\n" in ranp(*words, "--dry-run").stdout
    assert answer(*words)["weights"] == line


def test_what_was_scored_on_is_said(ranp: Call, answer: Call, case: list[object], tmp_path: Path) -> None:
    words = ["prune", *SMALL, "--sparsity", "0.3"]
    phantoms = "phantoms, which are generated, not your data (2 batches of 1, 12x12x12)"
    assert f"scored on {phantoms}\n" in ranp(*words, "--out", tmp_path / "a").stdout
    assert f"scored on {phantoms}\n" in ranp(*words, "--dry-run", "--out", tmp_path / "b").stdout
    assert library.runs.read(tmp_path / "a").report.scored_on == phantoms
    found = answer(*words, *case, "--out", tmp_path / "b")
    assert found["scored_on"] == "1 image (2 batches of 1, 12x12x12)"
    assert answer(*words, "--method", "l1", "--out", tmp_path / "c")["scored_on"] == "no data"


def test_a_run_is_pruned_again_into_a_run_of_its_full_network(ranp: Call, refused: Call, tmp_path: Path) -> None:
    network = ("unet3d", "--set", "base_width=4", "--set", "depth=2", "--classes", 3, "--patch", 8)
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    ranp("prune", *network, "--method", "l1", "--sparsity", "0.3", "--out", one)
    shown = ranp("prune", one, "--method", "l1", "--sparsity", "0.2", "--out", two).stdout
    assert "pruned again: of " in shown
    ranp("prune", two, "--method", "l1", "--sparsity", "0.2", "--out", three)
    assert "verified: slim = masked" in ranp("verify", three).stdout
    plans = [runs.read(path).plan for path in (one, two, three)]
    assert len({plan.units().total for plan in plans}) == 1, "all are plans of the full network"
    kept = [plan.units().kept for plan in plans]
    assert kept[0] > kept[1] > kept[2]
    before, after = runs.read(two).weights(), runs.read(three).weights()
    assert {*after["final.bias"].tolist()} == {*before["final.bias"].tolist()}
    assert refused("prune", one, "--classes", 4, "--sparsity", "0.2").startswith(f"--classes 4: {one} is a run")
    said = "--model psm: only of use where MODEL is a run, and unet3d is none"
    assert refused("prune", *network, "--model", "psm", "--sparsity", "0.2", "--out", tmp_path / "no") == said
