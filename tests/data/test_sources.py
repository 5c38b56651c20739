from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ranp.data.sources import Drawing, Reading, open_source, read_spacing
from ranp.data.volumes import Sampling
from ranp.errors import UsageError

pytestmark = pytest.mark.usefixtures("typed")  # messages are those of the command line

nibabel = pytest.importorskip("nibabel")


def write(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        write(tmp_path / "images" / f"{name}.nii.gz", rng.normal(size=(12, 10, 8)).astype(np.float32))
        write(tmp_path / "labels" / f"{name}.nii.gz", (rng.integers(0, 2, (12, 10, 8)) * 255).astype(np.uint8))
    return tmp_path


def test_phantoms_follow_the_shapes() -> None:
    source = open_source("phantom").batches([(2, 8, 8, 8)], (3, 8, 8, 8), Drawing(batch_size=2))
    inputs, target = next(iter(source))
    assert isinstance(inputs, Tensor)
    assert inputs.shape == (2, 2, 8, 8, 8)
    assert target.shape == (2, 8, 8, 8)
    assert target.dtype == torch.int64


def test_nothing_named_is_a_phantom_and_files_name_themselves(folder: Path) -> None:
    assert open_source(None).word == "phantom"
    files = [folder / "images" / "a.nii.gz"], [folder / "labels" / "a.nii.gz"]
    assert open_source(None, *files).word == open_source("nifti", *files).word == "nifti"
    with pytest.raises(UsageError, match="are the data themselves; leave out --data"):
        open_source("phantom", *files)


def test_a_folder_says_channels_and_classes_before_a_network_is_built(folder: Path) -> None:
    source = open_source(str(folder))
    assert (source.channels(), source.classes(), source.task) == ((1,), 2, "segmentation")
    assert source.said() == "3 volumes cases"


def test_masks_of_0_and_255_are_two_classes_with_a_note(folder: Path) -> None:
    with pytest.warns(UserWarning, match="labels 0, 255 are taken as classes 0 to 1"):
        batches = open_source(str(folder)).batches([(1, 8, 8, 8)], (2, 8, 8, 8), Drawing(batches=3))
    assert {value for _, target in batches for value in target.unique().tolist()} == {0, 1}


def test_a_map_says_what_values_are_without_a_note(folder: Path) -> None:
    source = open_source(str(folder), reading=Reading(label_map="255=2,1=1"))
    _, target = next(iter(source.batches([(1, 8, 8, 8)], (3, 8, 8, 8), Drawing())))
    assert set(target.unique().tolist()) == {0, 2}


def test_what_is_ignored_does_not_count(folder: Path) -> None:
    source = open_source(str(folder), reading=Reading(ignore_label=255))
    assert source.classes() == 1
    source = open_source(str(folder), reading=Reading(ignore_label=255, label_map="1=1"))
    _, target = next(iter(source.batches([(1, 8, 8, 8)], (2, 8, 8, 8), Drawing())))
    assert set(target.unique().tolist()) == {0, 255}


def test_regions_are_masks_that_may_overlap(folder: Path) -> None:
    source = open_source(str(folder), reading=Reading(regions="all=0+255,some=255"))
    assert (source.classes(), source.task) == (2, "regions")
    _, target = next(iter(source.batches([(1, 8, 8, 8)], (2, 8, 8, 8), Drawing())))
    assert target.dtype == torch.float32
    assert target[:, 0].min() == 1
    assert set(target[:, 1].unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("pad", ["constant", "reflect"])
def test_a_volume_smaller_than_the_patch_is_padded_alike(folder: Path, pad: str) -> None:
    reading = Reading(label_map="255=1", sampling=Sampling(pad=pad, foreground=0))  # type: ignore[arg-type]
    with pytest.warns(UserWarning, match=rf"smaller than the patch of 16x10x8 are padded \({pad}\)"):
        batches = list(open_source(str(folder), reading=reading).batches([(1, 16, 10, 8)], (2, 16, 10, 8), Drawing(3)))
    image, target = batches[0]
    whole = nibabel.load(folder / "labels" / "a.nii.gz").get_fdata() / 255
    assert np.array_equal(target[0, 2:14].numpy(), whole)
    beyond = whole[[2, 1]] if pad == "reflect" else np.zeros_like(whole[:2])
    assert np.array_equal(target[0, :2].numpy(), beyond)
    assert torch.equal(image[0, 0, :2], image[0, 0, [4, 3]] if pad == "reflect" else torch.zeros(2, 10, 8))


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_are_the_same_for_any_number_of_workers(folder: Path, workers: int) -> None:
    reading = Reading(label_map="255=1")
    alone = open_source(str(folder), reading=reading).batches([(1, 4, 4, 4)], (2, 4, 4, 4), Drawing(5, 2, seed=3))
    more = open_source(str(folder), reading=reading).batches(
        [(1, 4, 4, 4)], (2, 4, 4, 4), Drawing(5, 2, seed=3, workers=workers)
    )
    state = torch.random.get_rng_state()
    pairs = list(zip(alone, more, strict=True))
    assert len(pairs) == 5
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in pairs)
    assert torch.equal(state, torch.random.get_rng_state())


def refused(source: str | None, message: str, **given: object) -> None:
    with pytest.raises(UsageError, match=message):
        open_source(source, **given)  # type: ignore[arg-type]


def test_mistakes(folder: Path) -> None:
    refused("phantm", r"--data phantm: no such file or folder.*did you mean 'phantom'\?")
    refused(str(folder / "absent"), "no such file or folder")
    refused("nifti", "--images: nothing given")
    refused(f"decathlon:{folder}", 'expected dataset.json with a list "training"')
    refused(f"nunet:{folder}", r"no layout is called 'nunet'.*did you mean 'nnunet'\?")
    refused(str(folder / "images"), "no case has a target to train on")
    (folder / "empty").mkdir()
    refused(str(folder / "empty"), "looked for nnunet")
    write(folder / "labels" / "d.nii.gz", np.zeros((12, 10, 8), np.uint8))
    refused(str(folder), r"no image in images/ is called as labels/d\.nii\.gz")
    (folder / "labels" / "d.nii.gz").unlink()
    refused("phantom", "is generated", reading=Reading(label_map="1=1"))
    refused(str(folder), "give one of them", reading=Reading(label_map="1=1", regions="a=1"))
    refused(str(folder), "--label-map 255: expected VALUE=CLASS", reading=Reading(label_map="255"))
    refused(str(folder), "no value becomes class 1", reading=Reading(label_map="255=2"))
    refused(str(folder), "--regions a: expected NAME=VALUE", reading=Reading(regions="a"))
    refused(str(folder), "no setting of volumes; it has none", settings={"fold": 1})


@pytest.mark.parametrize(
    ("inputs", "output", "labels", "message"),
    [
        ([(2, 8, 8, 8)], (2, 8, 8, 8), "", r"1 channel\(s\), the network takes 2"),
        ([(1, 8, 8, 8)] * 2, (2, 8, 8, 8), "", r"1 image\(s\) a sample, the network takes 2 input\(s\)"),
        ([(1, 8, 8, 8)], (2,), "", "segmentation needs a score per voxel and class; the network gives an output of 2"),
        ([(1, 8, 8, 8)], (5, 8, 8, 8), "", "expected labels 0 to 4 .*found 255; --label-map says what they are"),
        ([(1, 8, 8, 8, 8)], (2, 8, 8, 8, 8), "255=1", "--patch 8x8x8x8: the volumes have 3 dimensions"),
    ],
)
def test_a_network_has_to_fit(
    folder: Path, inputs: list[tuple[int, ...]], output: tuple[int, ...], labels: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        open_source(str(folder), reading=Reading(label_map=labels)).batches(inputs, output, Drawing())


def test_spacings() -> None:
    assert read_spacing("2") == (2.0,)
    assert read_spacing("0x1") == (0.0, 1.0)
    for wrong in ("0", "0x0", "a", "1x", "-1", "inf"):
        with pytest.raises(UsageError, match=f"--spacing {wrong}: expected millimetres"):
            read_spacing(wrong)
