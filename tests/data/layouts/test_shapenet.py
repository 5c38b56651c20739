"""ShapeNet part: both published forms, written here, and voxels of their points."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ranp.data.dataset import TESTING, TRAINING, VALIDATION
from ranp.data.layouts import open_dataset
from ranp.data.layouts.shapenet import ShapeNetPart, voxelised
from ranp.data.parts import CATEGORIES, FIRST
from ranp.errors import UsageError

pytestmark = pytest.mark.usefixtures("typed")  # messages are those of the command line


def shape(seed: int, parts: int) -> tuple[np.ndarray, np.ndarray]:
    """Points whose parts lie above each other, and their parts from 0."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(parts, size=60)
    labels[:parts] = np.arange(parts)
    places = rng.uniform(-0.4, 0.4, (60, 3))
    places[:, 1] = labels + rng.uniform(-0.2, 0.2, 60)
    return places, labels


def lists(root: Path, names: dict[str, list[str]]) -> None:
    folder = root / "train_test_split"
    folder.mkdir()
    for word, entries in names.items():
        (folder / f"shuffled_{word}_file_list.json").write_text(json.dumps([f"shape_data/{each}" for each in entries]))


@pytest.fixture
def points(tmp_path: Path) -> Path:
    """The form with points and points_label."""
    for number, category in enumerate(("Airplane", "Mug", "Table")):
        offset, parts = CATEGORIES[category]
        for k in range(3):
            places, labels = shape(10 * number + k, len(parts))
            for kind, suffix in (("points", "pts"), ("points_label", "seg")):
                (tmp_path / offset / kind).mkdir(parents=True, exist_ok=True)
                rows = places if suffix == "pts" else labels[:, None] + 1
                np.savetxt(tmp_path / offset / kind / f"s{k}.{suffix}", rows, fmt="%.6f" if suffix == "pts" else "%d")
    (tmp_path / "synsetoffset2category.txt").write_text("Airplane\t02691156\nMug\t03797390\nTable\t04379243\n")
    return tmp_path


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """The form with normals, and with lists."""
    for category in ("Cap", "Mug"):
        offset, parts = CATEGORIES[category]
        (tmp_path / offset).mkdir()
        for k in range(3):
            places, labels = shape(k, len(parts))
            rows = np.concatenate([places, np.zeros((60, 3)), labels[:, None] + FIRST[category]], axis=1)
            np.savetxt(tmp_path / offset / f"s{k}.txt", rows, fmt="%.6f")
    both = ("02954340", "03797390")
    lists(tmp_path, {word: [f"{offset}/s{k}" for offset in both] for k, word in enumerate(("train", "val", "test"))})
    return tmp_path


def test_points_and_their_labels(points: Path) -> None:
    found = open_dataset(str(points))
    assert isinstance(found, ShapeNetPart)
    assert [case.name for case in found.cases] == [f"{c}/s{k}" for c in ("Airplane", "Mug", "Table") for k in range(3)]
    assert {case.split for case in found.cases} == {""}
    assert found.of(TRAINING) == found.cases
    assert (found.channels(), found.classes(), found.task) == ((1,), 50, "segmentation")
    assert found.class_names[36:38] == ("mug handle", "mug cup")
    for case in found.cases:
        category = case.name.split("/")[0]
        held = found.read(case)
        assert held.places.shape == (60, 3)
        expected = range(FIRST[category], FIRST[category] + len(CATEGORIES[category][1]))
        assert np.unique(held.parts).tolist() == list(expected)
        assert dict(found.facts(case).labels) == {k: (held.parts == k).sum() for k in expected}
        assert found.facts(case).shape == (60, 3)


def test_texts_and_their_lists(texts: Path) -> None:
    found = open_dataset(f"shapenet:{texts}")
    assert [case.name for case in found.of(TRAINING)] == ["Cap/s0", "Mug/s0"]
    assert [case.name for case in found.of(VALIDATION)] == ["Cap/s1", "Mug/s1"]
    assert [case.name for case in found.of(TESTING)] == ["Cap/s2", "Mug/s2"]
    assert np.unique(found.read(found.cases[-1]).parts).tolist() == [36, 37]


def test_the_classes_of_some_categories_and_a_background(points: Path) -> None:
    found = open_dataset(str(points), {"categories": ["Table", "Mug"], "background": True})
    assert found.class_names == ("background", "mug handle", "mug cup", "table top", "table leg", "table support")
    assert found.classes() == 6
    labels = {case.name: np.unique(found.read(case).parts).tolist() for case in found.cases}
    assert labels["Mug/s0"] == [1, 2]
    assert labels["Table/s0"] == [3, 4, 5]
    (image,), target = found.draw(found.read(found.cases[0]), [(1, 8, 8, 8)], np.random.default_rng(0))
    assert torch.equal(target == 0, image[0] == 0)


def test_samples(points: Path) -> None:
    found = open_dataset(str(points))
    held = found.read(found.cases[0])
    (image,), target = found.draw(held, [(1, 20, 24, 16)], np.random.default_rng(0))
    assert image.shape == (1, 20, 24, 16)
    assert (image.dtype, target.dtype) == (torch.float32, torch.int64)
    assert torch.equal(target == 255, image[0] == 0)
    assert set(target.unique().tolist()) == {0, 1, 2, 3, 255}
    heights = [(target == part).nonzero()[:, 1].double().mean() for part in range(4)]
    assert heights == sorted(heights, reverse=True)  # y, which is up, is the axis that points down, from below
    (picture,), _ = found.whole(held)
    assert picture.shape == (1, 64, 64, 64)


def test_turned_samples_are_the_seeds(points: Path) -> None:
    found = open_dataset(str(points), {"turn": True})
    held = found.read(found.cases[0])
    one, two, other = (found.draw(held, [(1, 12, 12, 12)], np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert torch.equal(one[1], two[1])
    assert not torch.equal(one[1], other[1])


@given(st.integers(0, 2**32 - 1))
def test_a_voxel_has_the_part_of_most_of_its_points(seed: int) -> None:
    rng = np.random.default_rng(seed)
    patch = tuple(rng.integers(1, 5, size=3).tolist())
    places, parts = rng.normal(size=(30, 3)) * rng.uniform(0, 3, 3), rng.integers(4, size=30)
    labels = voxelised(places, parts, patch)
    middle = (places.min(axis=0) + places.max(axis=0)) / 2
    step = max((np.ptp(places, axis=0) / np.maximum(np.array(patch) - 1, 0.5)).max(), 1e-300)
    for place in np.ndindex(patch):
        inside = [
            part
            for point, part in zip(places, parts, strict=True)
            if tuple(np.clip(np.floor((point - middle) / step + np.array(patch) / 2), 0, np.array(patch) - 1)) == place
        ]
        votes = np.bincount(inside, minlength=4)
        assert labels[place] == (votes.argmax() if inside else -1)


def test_points_fill_the_patch_at_one_scale() -> None:
    corners = np.array([[0.0, 0, 0], [2, 4, 1]])
    filled = np.argwhere(voxelised(corners, np.array([0, 1]), (9, 9, 9)) >= 0)
    assert filled.tolist() == [[2, 0, 3], [6, 8, 5]]
    assert voxelised(np.zeros((3, 3)), np.zeros(3, dtype=np.int64), (4, 4, 4)).max() == 0


def edit(root: Path, name: str, text: str) -> None:
    (root / name).write_text(text)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("points/s0.pts", "1 2\n3 4\n", "s0.pts: 2x2 numbers; expected x y z on each line"),
        ("points/s0.pts", "1 2 3\n1 2\n", "s0.pts: .*expected x y z on each line"),
        ("points/s0.pts", "", "s0.pts: 0x3 numbers; expected x y z"),
        ("points/s0.pts", "1 2 x\n", "s0.pts: could not convert string 'x'.*expected x y z"),
        ("points/s0.pts", "1 2 nan\n", "s0.pts: line 1 is not finite"),
        ("points_label/s0.seg", "1\n1\n", "s0.seg: 2 labels, and .*s0.pts has 60 points; expected one for each"),
        ("points_label/s0.seg", "0\n" * 60, "s0.seg: part 0; Airplane has 1 to 4"),
        ("points_label/s0.seg", "5\n" * 60, "s0.seg: part 5; Airplane has 1 to 4"),
        ("points_label/s0.seg", "1.5\n" * 60, "s0.seg: part 1.5; Airplane has 1 to 4"),
    ],
)
def test_damaged_shapes(points: Path, name: str, text: str, message: str) -> None:
    edit(points / "02691156", name, text)
    found = open_dataset(str(points))
    with pytest.raises(UsageError, match=message):
        found.read(found.cases[0])
    (problem,) = found.facts(found.cases[0]).problems
    assert "s0" in problem


def test_a_text_with_a_part_of_another_category(texts: Path) -> None:
    (texts / "02954340" / "s0.txt").write_text("0 0 0 0 0 1 30\n")
    found = open_dataset(str(texts))
    with pytest.raises(UsageError, match=r"s0.txt: part 30; Cap has 6 to 7"):
        found.read(found.cases[0])


def test_a_listed_shape_that_is_missing_is_a_problem(texts: Path) -> None:
    (texts / "03797390" / "s2.txt").unlink()
    found = open_dataset(str(texts))
    assert len(found.cases) == 6
    (problem,) = found.facts(found.cases[-1]).problems
    assert problem == f"{texts / '03797390' / 's2.txt'}: no such file; a list in train_test_split names it"


def test_points_without_labels_are_found_and_not_trained_on(points: Path) -> None:
    (points / "03797390" / "points_label" / "s1.seg").unlink()
    found = open_dataset(str(points))
    assert len(found.cases) == 9
    assert "Mug/s1" not in [case.name for case in found.of(TRAINING)]
    assert found.facts(found.cases[4]).shape == (60, 3)


def test_wrong_folders(points: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(UsageError, match=r"--data .*: no shapes of Car; expected 02691156/points"):
        open_dataset(str(points), {"categories": ["Car"]})
    with pytest.raises(
        UsageError, match=r"--set-data categories=Airplan: expected some of Airplane, .*did you mean 'Airplane'"
    ):
        open_dataset(str(points), {"categories": ["Airplan"]})
    with pytest.raises(UsageError, match=r"--set-data backgroun: no setting of shapenet; .*'background'"):
        open_dataset(str(points), {"backgroun": True})
    with pytest.raises(UsageError, match=r"--set-data turn=1: expected true or false"):
        open_dataset(str(points), {"turn": 1})
    (points / "03797390" / "points" / "s1.pts").unlink()
    with pytest.raises(UsageError, match=r"s1.seg: labels of no points; expected .*s1.pts"):
        open_dataset(str(points))
    (points / "03797390").rename(points / "Mugs")
    with pytest.raises(UsageError, match=r"Mugs: no category of ShapeNet part; did you mean 'Mug'"):
        open_dataset(str(points))
    empty = tmp_path_factory.mktemp("empty")
    assert not ShapeNetPart.recognises(empty)
    assert not ShapeNetPart.recognises(empty / "not there")
    with pytest.raises(UsageError, match=r"no shapenet folder; expected"):
        open_dataset(f"shapenet:{empty}")


def test_wrong_lists(points: Path) -> None:
    lists(points, {"train": ["02691156/s0"], "val": ["02691156/s0"]})
    with pytest.raises(UsageError, match=r"shuffled_val_file_list.json: shape_data/02691156/s0 is of the training"):
        open_dataset(str(points))
    edit(points, "train_test_split/shuffled_val_file_list.json", "{")
    with pytest.raises(UsageError, match=r"shuffled_val_file_list.json: .*expected a JSON list of names"):
        open_dataset(str(points))
    edit(points, "train_test_split/shuffled_val_file_list.json", '["s0"]')
    with pytest.raises(UsageError, match=r"shuffled_val_file_list.json: s0; expected a name such as"):
        open_dataset(str(points))


def test_networks_that_take_something_else(points: Path) -> None:
    found = open_dataset(str(points))
    held, rng = found.read(found.cases[0]), np.random.default_rng(0)
    with pytest.raises(UsageError, match=r"--patch 8x8: shapenet needs three sizes"):
        found.draw(held, [(1, 8, 8)], rng)
    with pytest.raises(UsageError, match=r"gives one input of one channel, and the network takes 3x8x8x8"):
        found.draw(held, [(3, 8, 8, 8)], rng)
