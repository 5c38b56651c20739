"""Data as nnU-Net keeps them: raw ones are read as it reads them, preprocessed ones are taken as they are."""

import json
from dataclasses import replace
from pathlib import Path

import nnunet_plans
import numpy as np
import pytest
from typer.testing import CliRunner

from ranp import runs
from ranp.commands.main import app
from ranp.data.layouts import open_dataset
from ranp.data.sources import FromFiles
from ranp.data.volumes import Sampling, Volumes
from ranp.errors import UsageError
from ranp.jobs._task import as_planned
from ranp.jobs.options import Prune, Train
from ranp.jobs.train import ready

nibabel = pytest.importorskip("nibabel")


def preprocessed(folder: Path) -> Path:
    """Write what nnU-Net writes before version 2.6, which needs nothing but NumPy."""
    place = folder / "nnUNetPlans_3d_fullres"
    place.mkdir(parents=True)
    (folder / "dataset.json").write_text(json.dumps(nnunet_plans.DATASET))
    (folder / "splits_final.json").write_text(json.dumps([{"train": ["c0"], "val": ["c1"]}]))
    for number in range(2):
        labels = np.zeros((1, 18, 20, 22), np.int16)
        labels[0, 4:9, 5:12, 6:14] = 1
        labels[0, 12:15, 5:12, 6:14] = 2
        labels[0, 0] = -1  # outside of what nnU-Net cut out
        image = labels + np.random.default_rng(number).normal(0, 1, labels.shape)
        np.save(place / f"c{number}.npy", image.astype(np.float32))
        np.save(place / f"c{number}_seg.npy", labels)
    return place


def test_preprocessed_cases_are_taken_as_they_are(tmp_path: Path) -> None:
    dataset = open_dataset(str(preprocessed(tmp_path)), {})
    assert dataset.word == "preprocessed"
    assert [(case.name, case.split) for case in dataset.cases] == [("c0", "training"), ("c1", "validation")]
    assert dataset.channels() == (1,)
    assert dataset.classes() == 3
    held = dataset.read(dataset.cases[0])
    assert np.array_equal(held.image, np.load(tmp_path / "nnUNetPlans_3d_fullres" / "c0.npy"))
    assert sorted(np.unique(held.labels)) == [0, 1, 2]


def test_a_slice_that_nnunet_keeps_as_a_volume_is_an_image(tmp_path: Path) -> None:
    place = tmp_path / "nnUNetPlans_2d"
    place.mkdir()
    (tmp_path / "dataset.json").write_text(json.dumps({**nnunet_plans.DATASET, "channel_names": {"0": "R", "1": "G"}}))
    image = np.random.default_rng(0).normal(size=(2, 1, 12, 10)).astype(np.float32)
    np.save(place / "a.npy", image)
    np.save(place / "a_seg.npy", np.eye(12, 10, dtype=np.int8)[None, None])
    dataset = open_dataset(str(place), {})
    assert np.array_equal(dataset.read(dataset.cases[0]).image, image[:, 0])


def test_blosc2_arrays_are_read(tmp_path: Path) -> None:
    blosc2 = pytest.importorskip("blosc2", reason="nnU-Net is not installed whole")
    place = preprocessed(tmp_path)
    expected = np.load(place / "c1.npy")
    for file in sorted(place.glob("*.npy")):
        blosc2.asarray(np.load(file), urlpath=str(file.with_suffix(".b2nd")), mode="w")
        file.unlink()
    dataset = open_dataset(str(place), {})
    assert np.array_equal(dataset.read(dataset.cases[1]).image, expected)


def test_a_folder_without_arrays_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected CASE\.b2nd and CASE_seg\.b2nd"):
        open_dataset(f"preprocessed:{tmp_path}", {})


def test_raw_cases_are_read_along_the_axes_of_the_plans(tmp_path: Path) -> None:
    plans = nnunet_plans.write(tmp_path / "plans")
    raw = nnunet_plans.write_raw(tmp_path / "raw", cases=1)
    options = Prune.read({"model": f"nnunet:{plans}#3d_fullres"})
    dataset = as_planned(open_dataset(str(raw), {}), options)
    held = dataset.read(dataset.cases[0])
    stored = np.asanyarray(nibabel.load(raw / "imagesTr" / "c0_0000.nii.gz").dataobj)
    expected = (stored - stored.mean()) / stored.std()
    assert held.image.shape == (1, 20, 28, 24)  # (z, y, x), at the spacing they have
    assert np.allclose(held.image[0], expected.transpose(2, 1, 0), atol=1e-4)
    assert held.labels is not None
    assert np.array_equal(held.labels, np.asanyarray(nibabel.load(raw / "labelsTr" / "c0.nii.gz").dataobj).T)
    files = open_dataset(str(raw), {})
    assert isinstance(files, Volumes)
    files = replace(files, sampling=Sampling(spacing=(1.0, 1.1, 1.2)))
    other = as_planned(files, options.model_copy(update={"axes": "xyz"}))
    assert np.allclose(other.read(other.cases[0]).image[0], expected, atol=1e-4)  # what is asked for wins


def test_a_training_of_a_run_reads_volumes_as_the_plans_of_its_pruning_did(tmp_path: Path) -> None:
    pytest.importorskip("dynamic_network_architectures", reason="nnU-Net's networks are not installed")
    measured = {"mean": 120.0, "std": 55.5, "percentile_00_5": 0.1, "percentile_99_5": 201.0}
    made = nnunet_plans.plans(ct=nnunet_plans.configuration(normalization_schemes=["CTNormalization"]))
    made["foreground_intensity_properties_per_channel"] = {"0": measured}
    plans = nnunet_plans.write(tmp_path / "plans", made)
    raw = nnunet_plans.write_raw(tmp_path / "raw", cases=2)
    run = tmp_path / "run"
    words = ["prune", f"nnunet:{plans}", "--data", str(raw), "--patch", "8", "--batches", "1", "--sparsity", "0.3"]
    done = CliRunner().invoke(app, [*words, "--out", str(run), "--quiet"])
    assert done.exit_code == 0, done.output[-1000:]
    expected = as_planned(open_dataset(str(raw), {}), Prune.read({"model": f"nnunet:{plans}"}))
    config = runs.read(run).config
    assert (config["batch_size"], config["axes"], config["spacing"]) == (2, "zyx", "1.2x1.1x1")
    assert (config["model"], config["scales"]) == ("ranp.adapters.nnunet:network", "120.0:55.5:0.1:201.0")
    plans.unlink()  # a run needs them no more
    said = {"model": str(run), "data": str(raw), "steps": 1, "out": tmp_path / "trained"}
    prepared = ready(Train.read(said))
    assert isinstance(prepared.source, FromFiles)
    mine, theirs = (dataset.read(dataset.cases[0]) for dataset in (prepared.source.dataset, expected))
    assert np.array_equal(mine.image, theirs.image)
    stored = np.asanyarray(nibabel.load(raw / "imagesTr" / "c0_0000.nii.gz").dataobj)
    assert np.allclose(mine.image[0].T, (stored.clip(0.1, 201.0) - 120.0) / 55.5, atol=1e-5)
    assert (prepared.options.batch_size, prepared.shapes) == (2, ((1, 8, 8, 8),))
    other = ready(Train.read({**said, "intensity": "none", "axes": "xyz", "batch_size": 1}))  # what is asked for wins
    assert isinstance(other.source, FromFiles)
    assert other.options.batch_size == 1
    unscaled = other.source.dataset.read(other.source.dataset.cases[0]).image[0]
    assert np.allclose(unscaled.mean(), stored.mean(), rtol=0.1)
    place = ["predict", str(run), "--data", str(raw), "--axes", "yzx", "--out", str(tmp_path / "said"), "--quiet"]
    done = CliRunner().invoke(app, place)
    assert done.exit_code == 0, done.output[-1000:]
    files = [nibabel.load(file) for file in (raw / "imagesTs" / "new_0000.nii.gz", tmp_path / "said" / "new.nii.gz")]
    assert files[0].shape == files[1].shape  # no two sides are equal: an answer lies as its file
    assert np.array_equal(files[0].affine, files[1].affine)
    generated = ready(Train.read({"model": str(run), "steps": 1, "out": tmp_path / "trained"}))  # nothing to read so
    assert generated.options.axes is None
    arrays = ready(Train.read({**said, "data": str(preprocessed(tmp_path / "made"))}))  # nor what was brought there
    assert isinstance(arrays.source, FromFiles)
    kept = arrays.source.dataset.read(arrays.source.dataset.cases[0]).image
    assert np.array_equal(kept, np.load(tmp_path / "made" / "nnUNetPlans_3d_fullres" / "c0.npy"))


def test_a_network_of_images_sees_the_slices_that_nnunet_shows_it(tmp_path: Path) -> None:
    made = nnunet_plans.plans(flat=nnunet_plans.configuration(2, spacing=[1.1, 2.0]))
    made["transpose_forward"] = [1, 2, 0]  # slices across y, of x and z, and x at half as many voxels
    options = Prune.read({"model": f"nnunet:{nnunet_plans.write(tmp_path / 'plans', made)}", "data": "."})
    raw = nnunet_plans.write_raw(tmp_path / "raw", cases=1)
    dataset = as_planned(open_dataset(str(raw), {}), options)
    assert isinstance(dataset, Volumes)
    assert (dataset.sampling.axes, dataset.sampling.spacing) == ((0, 2, 1), (1.1, 2.0, 0.0))
    dataset = replace(dataset, sampling=replace(dataset.sampling, spacing=()))
    stored = np.asanyarray(nibabel.load(raw / "imagesTr" / "c0_0000.nii.gz").dataobj)
    slices = ((stored - stored.mean()) / stored.std()).transpose(1, 0, 2)  # (y, x, z)
    held, rng = dataset.read(dataset.cases[0]), np.random.default_rng(0)
    for _ in range(3):
        (image,), target = dataset.draw(held, [(1, *slices.shape[1:])], rng)
        assert image.shape == (1, *slices.shape[1:]) == (1, *target.shape)
        assert np.abs(slices - image[0].numpy()).max((1, 2)).min() < 1e-4
    with pytest.raises(UsageError, match="prepared volumes, which a 2D network sees slice by slice; expected the raw"):
        as_planned(open_dataset(str(preprocessed(tmp_path)), {}), options)


def test_no_data_are_read_for_a_cascade(tmp_path: Path) -> None:
    cascade = {**nnunet_plans.configuration(), "previous_stage": "3d_lowres"}
    plans = nnunet_plans.write(tmp_path / "plans", nnunet_plans.plans(a=cascade))
    with pytest.raises(UsageError, match="a cascade takes the labels that its first stage predicts as channels"):
        as_planned(
            open_dataset(str(nnunet_plans.write_raw(tmp_path / "raw", 1)), {}), Prune.read({"model": f"nnunet:{plans}"})
        )


def test_axes_that_are_none_are_refused() -> None:
    from ranp.data.sources import read_axes

    for text in ("zy", "xxz", "xyzt", ""):
        with pytest.raises(UsageError, match="expected an order of the axes"):
            read_axes(text)
