"""Every command of docs/nnunet.md runs, in the order it stands there; nnU-Net's own where it is installed whole.

nnU-Net itself is shortened by its own means: a trainer in a folder that `nnUNet_extTrainer` names. While it looks a
trainer up it imports all it has, transformers among them; timm, which these need and nothing here, is a stub.
"""

import importlib.util
import json
import os
import pickle
import re
import shlex
import subprocess
import sys
from pathlib import Path

import nnunet_plans
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from ranp.adapters.nnunet import network
from ranp.adapters.nnunet._plans import read
from ranp.commands.main import app
from ranp.models.weights import load_weights_

pytest.importorskip("dynamic_network_architectures", reason="nnU-Net's networks are not installed")
pytest.importorskip("nibabel")

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "nnunet.md").read_text()
LINES = re.findall(r"^    ((?:ranp|nnUNetv2_\w+) .*)$", PAGE, flags=re.MULTILINE)
WHOLE = all(importlib.util.find_spec(name) for name in ("nnunetv2", "blosc2", "acvl_utils", "batchgeneratorsv2"))
SMALLER = {"prune": ["--batches", "1", "--batch-size", "1"], "export": ["--memory", "64MiB"]}
SHORT = ["-tr", "nnUNetTrainerShort", "-device", "cpu"]
TRAINER = """
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer


class nnUNetTrainerShort(nnUNetTrainer):
    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs, self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 1, 2, 1
"""
DATASET = Path("nnUNet_preprocessed", "Dataset999_Toy")


def nnunet(words: list[str], folder: Path) -> None:
    places = {name: str(folder / name) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
    planning = words[0] == "nnUNetv2_plan_and_preprocess"  # which takes the number for one of threads, too
    alone = {"nnUNet_n_proc_DA": "1" if planning else "0", "nnUNet_def_n_proc": "1", "nnUNet_compile": "f"}
    alone |= {"OMP_NUM_THREADS": "1"}
    own = {"nnUNet_extTrainer": str(folder / "trainers"), "PYTHONPATH": str(folder / "stub")}
    program = Path(sys.executable).with_name(words[0])
    done = subprocess.run(
        [str(program), *words[1:]], env={**os.environ, **places, **alone, **own}, cwd=folder, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{words}\n{done.stdout[-1000:]}{done.stderr[-2000:]}"


def by_hand(folder: Path) -> None:
    """Write what nnU-Net's planning and preprocessing would."""
    made = nnunet_plans.plans(**{"3d_fullres": nnunet_plans.configuration()})
    nnunet_plans.write(folder / DATASET, made)
    place = folder / DATASET / "nnUNetPlans_3d_fullres"
    place.mkdir()
    for number in range(2):
        labels = np.zeros((1, 20, 22, 24), np.int16)
        labels[0, 4:9, 5:12, 6:14], labels[0, 12:15, 5:12, 6:14] = 1, 2
        image = labels + np.random.default_rng(number).normal(0, 1, labels.shape)
        np.save(place / f"c{number}.npy", image.astype(np.float32))
        np.save(place / f"c{number}_seg.npy", labels)


def ran(*words: str) -> None:
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, f"{words}\n{done.output[-2000:]}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the whole page in one folder, and return it."""
    path = tmp_path_factory.mktemp("nnunet")
    nnunet_plans.write_raw(path / "nnUNet_raw" / "Dataset999_Toy")
    (path / "trainers").mkdir()
    (path / "trainers" / "nnUNetTrainerShort.py").write_text(TRAINER)
    (path / "stub" / "timm" / "models").mkdir(parents=True)
    anything = "from torch import nn\ndef __getattr__(name):\n    return nn.Module\n"
    for name in ("__init__", "layers", "models/__init__", "models/eva"):
        (path / "stub" / "timm" / f"{name}.py").write_text("" if name.endswith("__init__") else anything)
    if WHOLE:
        nnunet(shlex.split("nnUNetv2_plan_and_preprocess -d 999 -c 3d_fullres -np 1 -npfp 1"), path)
    else:
        by_hand(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        for line in LINES:
            words = shlex.split(line)
            if words[0] == "ranp":
                given = SMALLER[words[1]] if words[1] != "export" or "--memory" in words else []
                ran(*words[1:], *given)
            elif WHOLE:
                trained = "from_modelfolder" not in words[0]
                nnunet([*words, *(SHORT if trained else SHORT[2:])], path)
    return path


def test_the_page_prunes_exports_trains_and_predicts() -> None:
    assert [line.split()[0] for line in LINES] == [
        "ranp", "ranp", "nnUNetv2_train", "nnUNetv2_predict", "nnUNetv2_predict_from_modelfolder", "ranp",
    ]  # fmt: skip


def test_the_plans_have_one_more_configuration_of_nnunets_own_class(folder: Path) -> None:
    plans = json.loads((folder / DATASET / "nnUNetPlans.json").read_text())["configurations"]
    made, full = plans["3d_fullres_ranp"], plans["3d_fullres"]
    widths, before = (each["architecture"]["arch_kwargs"]["features_per_stage"] for each in (made, full))
    assert made["architecture"]["network_class_name"] == full["architecture"]["network_class_name"]
    assert all(width < whole for width, whole in zip(widths, before, strict=True))
    assert all(side % 4 == 0 and side >= old for side, old in zip(made["patch_size"], full["patch_size"], strict=True))


@pytest.mark.skipif(not WHOLE, reason="nnU-Net is not installed whole: pip install 'ranp[nnunet]'")
@pytest.mark.parametrize("form", ["tied", "free"])
def test_nnunet_trained_either_form_and_its_checkpoint_is_read(
    form: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page trains the tied form, and predicts; a configuration of widths of their own is trained beside it."""
    monkeypatch.chdir(folder)
    name = f"3d_fullres_{'ranp' if form == 'tied' else 'free_ranp'}"
    plans = folder / DATASET / "nnUNetPlans.json"
    if form == "tied":
        assert all((folder / place / "new.nii.gz").is_file() for place in ("predicted", "predicted-2"))
    else:
        content = json.loads(plans.read_text())
        content["configurations"]["3d_fullres_free"] = content["configurations"]["3d_fullres"]
        plans.write_text(json.dumps(content))
        ran("prune", f"nnunet:{plans}#3d_fullres_free", "--method", "l1", "--sparsity", "0.5", "--out", "runs/free")
        ran("export", "runs/free", "--nnunet", f"{plans}#3d_fullres_free")
        nnunet(["nnUNetv2_train", "999", name, "0", *SHORT], folder)
    (checkpoint,) = (folder / "nnUNet_results").rglob(f"*__{name}/fold_0/checkpoint_final.pth")
    configuration = json.loads(plans.read_text())["configurations"][name]
    assert ("slim_network" in configuration["architecture"]["network_class_name"]) == (form == "free")
    built = network(**read(f"{plans}#{name}", "plans").settings)
    assert "under network_weights" in load_weights_(built, checkpoint)
    trained = torch.load(checkpoint, weights_only=False)["network_weights"]
    assert all(torch.equal(tensor, trained[key]) for key, tensor in built.state_dict().items())
    with pytest.raises(pickle.UnpicklingError, match="weights_only"):  # which torch itself does not read without code
        torch.load(checkpoint, weights_only=True)
