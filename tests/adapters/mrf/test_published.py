"""Energies of the published setups: on a generated pair of our own, and on crops of the Middlebury pairs if present."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage.io import imread
from torch import Tensor

from ranp.adapters import mrf

DATA = Path(__file__).parents[2] / "published" / "stereo"
MIDDLEBURY = Path(__file__).parents[4] / "shared" / "data" / "stereo"
FIGURES: dict[str, Any] = json.loads((DATA / "energies.json").read_text())
METHODS = {"mf": mrf.mean_field, "sgm": mrf.sgm, "trws": mrf.trws, "isgmr": mrf.isgmr, "trwp": mrf.trwp}
TOLERANCE = {"mf": 1e-3, "sgm": 0.0, "trws": 1e-5, "isgmr": 0.0, "trwp": 1e-3}


def unary_of(folder: Path, files: list[str], labels: int, cut: tuple[slice, ...] = ()) -> Tensor:
    left, right = (torch.from_numpy(np.atleast_3d(imread(folder / name))).permute(2, 0, 1)[None] for name in files)
    return mrf.birchfield_tomasi(left, right, labels)[:, :, *cut]


def check(unary: Tensor, model: dict[str, Any], key: str, iterations: int) -> None:
    method, directions, dtype = key.split("-")
    unary = unary.double() if dtype == "f64" else unary
    truncation = model["trunc"]
    pairwise = mrf.truncated_linear(truncation) if model["func"] == "TL" else mrf.truncated_quadratic(truncation**2)
    labels = METHODS[method](unary, pairwise, model["weight"], int(directions), iterations).labels
    expected = model["energies_E4_En_by_iteration"][key][str(iterations)]
    for connections, target in zip((4, int(directions)), expected, strict=True):
        ours = mrf.energy(labels, unary, pairwise, model["weight"], directions=connections).item()
        assert ours == pytest.approx(target, rel=TOLERANCE[method], abs=0)


def test_the_matching_costs_are_those_of_the_published_energies() -> None:
    unary = unary_of(DATA, ["synth_left.png", "synth_right.png"], FIGURES["labels"])
    layout = unary[0].permute(1, 2, 0).contiguous().numpy()  # (H, W, L)
    assert unary.sum().item() == FIGURES["unary_sum"]
    assert hashlib.sha256(layout.tobytes()).hexdigest() == FIGURES["unary_sha256"]


@pytest.mark.parametrize("model", FIGURES["models"])
@pytest.mark.parametrize("key", ["sgm-4-f32", "sgm-16-f32", "isgmr-8-f32", "trwp-4-f64", "mf-8-f32", "trws-4-f64"])
def test_energies_of_the_generated_pair_after_one_iteration(model: str, key: str) -> None:
    unary = unary_of(DATA, ["synth_left.png", "synth_right.png"], FIGURES["labels"])
    check(unary, FIGURES["models"][model], key, 1)


@pytest.mark.parametrize("key", ["sgm-4-f32", "isgmr-4-f32", "isgmr-16-f64", "trwp-4-f32", "trwp-8-f32", "mf-4-f32"])
def test_energies_of_the_generated_pair_after_five_iterations(key: str) -> None:
    unary = unary_of(DATA, ["synth_left.png", "synth_right.png"], FIGURES["labels"])
    check(unary, FIGURES["models"]["TL2x20"], key, 5)


def test_trws_after_ten_iterations() -> None:
    unary = unary_of(DATA, ["synth_left.png", "synth_right.png"], FIGURES["labels"])
    check(unary, FIGURES["models"]["TQ3x15"], "trws-4-f64", 10)


@pytest.mark.data
@pytest.mark.skipif(not MIDDLEBURY.is_dir(), reason="the Middlebury pairs are not beside the checkout")
@pytest.mark.parametrize("key", ["sgm-8-f32", "isgmr-4-f32", "isgmr-16-f32", "trwp-4-f32"])
@pytest.mark.parametrize("crop", FIGURES["crops"])
def test_energies_of_middlebury_crops(crop: str, key: str) -> None:
    model = FIGURES["crops"][crop]
    cut = (slice(*model["rows"]), slice(*model["cols"]))
    check(unary_of(MIDDLEBURY, model["files"], model["labels"], cut), model, key, 10)
