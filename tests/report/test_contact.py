"""The contact sheet: which slice, which way up, which colours, and a file that is a picture."""

import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from ranp.report.contact import Tile, _coloured, _colours, compared, shown, tiles, write_sheet

NAN, INF = float("nan"), float("inf")


def test_the_slice_with_most_labels_is_shown() -> None:
    image = torch.zeros(1, 4, 5, 6)
    image[0] = torch.arange(4.0)[:, None, None]
    labels = torch.zeros(4, 5, 6, dtype=torch.int64)
    labels[1, 0, :3] = 2
    labels[2, 4, 5] = 1
    (tile,) = tiles("case", [image], labels, "segmentation")
    assert tile.picture.shape == (5, 6, 3)
    assert tile.labels is not None
    assert tile.labels[0].tolist() == [2, 2, 2, -1, -1, -1]
    assert set(np.unique(tile.labels)) == {-1, 2}
    (middle,) = tiles("case", [image], None, "segmentation")
    assert middle.labels is None
    assert middle.picture.shape == (5, 6, 3)


@pytest.mark.parametrize("axes", ["RAS", "LPS", "RSA", "SAR", "PIR", "LAI"])
def test_axial_slices_have_anterior_up_and_the_patients_right_to_the_left(axes: str) -> None:
    """A mark at the patient's right, anterior, in the lower half: wherever the axes point, it is up and left."""
    shape = (6, 8, 10)
    ends = {"R": "R", "L": "R", "A": "A", "P": "A", "S": "I", "I": "I"}  # of the mark, along the axis of a letter
    place = tuple(
        slice(size - 2, size) if ends[letter] == letter else slice(0, 2)
        for letter, size in zip(axes, shape, strict=True)
    )
    labels = torch.zeros(shape, dtype=torch.int64)
    labels[place] = 1
    (tile,) = tiles("case", [torch.rand(1, *shape)], labels, "segmentation", axes=axes)
    assert tile.labels is not None
    assert np.argwhere(tile.labels == 1).tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    sizes = dict(zip(axes, shape, strict=True))
    height = next(size for letter, size in sizes.items() if letter in "AP")
    width = next(size for letter, size in sizes.items() if letter in "RL")
    assert tile.labels.shape == (height, width)


def test_what_is_coloured() -> None:
    image, labels = torch.rand(1, 2, 3), torch.tensor([[0, 1, 255], [2, 0, 1]])
    (plain,) = tiles("a", [image], labels, "segmentation")
    (background,) = tiles("a", [image], labels, "segmentation", ("background", "x", "y"))
    (parts,) = tiles("a", [image], labels, "segmentation", ("table top", "table leg", "mug"))
    for tile in (plain, background):
        assert tile.labels is not None
        assert tile.labels.tolist() == [[-1, 1, -1], [2, -1, 1]]
    assert parts.labels is not None
    assert parts.labels.tolist() == [[0, 1, -1], [2, 0, 1]]
    masks = torch.tensor([[[1.0, 1, 0]], [[0, 1, 255]]])
    (regions,) = tiles("a", [torch.rand(1, 1, 3)], masks, "regions", ("whole", "core"))
    assert regions.labels is not None
    assert regions.labels.tolist() == [[0, 1, -1]]


def test_classes_and_clips() -> None:
    clip = torch.zeros(3, 5, 4, 4)
    clip[:, 2] = torch.rand(3, 4, 4)
    (tile,) = tiles("run/v_1", [clip], torch.tensor(1), "classification", ("walking", "running"))
    assert tile.title == "run/v_1\nrunning"
    assert tile.picture.max() == 1  # the middle frame, which is not black
    (unnamed,) = tiles("x" * 60, [clip], torch.tensor(7), "classification")
    first, second = unnamed.title.split("\n")
    assert (len(first), first[:3], second) == (44, "...", "class 7")


def test_disparities_are_beside_the_left_picture() -> None:
    disparity = torch.tensor([[1.0, INF], [3.0, 5.0]])
    left, right = tiles("pair", [torch.rand(3, 2, 2), torch.rand(3, 2, 2)], disparity, "stereo")
    assert left.title == "pair"
    assert right.title == "disparity 1.0 to 5.0 px"
    assert right.picture[0, 1].tolist() == [0.6, 0.6, 0.6]
    (_, unknown) = tiles("pair", [torch.rand(3, 2, 2)] * 2, torch.full((2, 2), INF), "stereo")
    assert unknown.title == "disparity: all unknown"


def test_pictures_are_scaled_from_black_to_white() -> None:
    dark = torch.linspace(-1000, 3000, 400).reshape(1, 20, 20)
    (tile,) = tiles("a", [dark], None, "segmentation")
    assert (tile.picture.min(), tile.picture.max()) == (0, 1)
    (flat,) = tiles("a", [torch.full((1, 3, 3), 7.0)], None, "segmentation")
    assert np.isfinite(flat.picture).all()
    (broken,) = tiles("a", [torch.tensor([[[NAN, 1.0], [INF, 2.0]]])], None, "segmentation")
    assert np.isfinite(broken.picture).all()
    (channels,) = tiles("a", [torch.cat([dark, dark * 0])], None, "segmentation")
    assert np.array_equal(channels.picture, tile.picture)


def test_every_label_has_a_colour_of_its_own_and_the_picture_shows_through() -> None:
    picture = np.zeros((1, 3, 3))
    picture[0, 1] = 1
    tile = Tile("a", picture, np.array([[4, 4, -1]]))
    other = Tile("b", picture, np.array([[9, 0, -1]]))
    colours = _colours([tile, other])
    assert list(colours) == [0, 4, 9]
    assert len({tuple(colour) for colour in colours.values()}) == 3
    mixed = _coloured(tile, colours)
    assert np.allclose(mixed[0, 1], colours[4])
    assert np.allclose(mixed[0, 0], 0.4 * colours[4])
    assert (mixed[0, 2] == 0).all()
    assert (tile.picture == picture).all()
    assert len({tuple(c) for c in _colours([Tile("c", picture, np.arange(20)[None])]).values()}) == 20


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_sheet_is_a_picture_of_as_many_columns_as_it_needs(tmp_path: Path, count: int) -> None:
    path = tmp_path / "sheet.png"
    shown = [Tile(f"$case_{k}$", np.random.default_rng(k).uniform(size=(8, 8, 3))) for k in range(count)]
    write_sheet(path, shown)
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", data[16:24])
    assert (width, height) == (320 * min(count, 4), 350 * (1 + (count > 4)))
    assert list(tmp_path.iterdir()) == [path]


def test_the_legend_names_labels(tmp_path: Path) -> None:
    path = tmp_path / "sheet.svg"
    many = Tile("many", np.zeros((1, 40, 3)), np.arange(40)[None])
    write_sheet(path, [many], ("background", "liver"))
    text = path.read_text()
    assert "<svg" in text
    assert "liver" in text or "<!-- liver -->" in text
    assert "<!-- 10 more labels are not named -->" in text


def test_a_prediction_is_shown_beside_the_truth_on_its_slice() -> None:
    image = torch.rand(1, 6, 7, 8, generator=torch.Generator().manual_seed(0))
    truth, said = torch.zeros(2, 6, 7, 8, dtype=torch.int64)
    truth[4, 2:5, 2:5], said[1, :, :] = 1, 1  # most of the truth is in one plane, most of the prediction in another
    pair = compared("a", (image,), truth, said.to(torch.uint8), "segmentation", ("background", "tumour"))
    assert [tile.title for tile in pair] == ["a\ntruth", "a\nprediction"]
    assert np.array_equal(pair[0].picture, pair[1].picture)
    assert pair[0].labels is not None
    assert pair[1].labels is not None
    assert (pair[0].labels == 1).sum() == 9
    assert (pair[1].labels == -1).all()


def test_regions_classes_and_disparities_are_compared_too() -> None:
    image = torch.rand(1, 6, 7, generator=torch.Generator().manual_seed(0))
    masks = torch.stack([torch.ones(6, 7), torch.zeros(6, 7)])
    truth, said = compared("a", (image,), masks, masks.flip(0) == 1, "regions", ("WT", "ET"))
    assert truth.labels is not None
    assert said.labels is not None
    assert (int(truth.labels.max()), int(said.labels.max())) == (0, 1)
    (told,) = compared("a", (image,), torch.tensor(1), torch.tensor([0.9, 0.1]), "classification", ("x", "y"))
    assert told.title == "a\nis y, told x"
    pair = compared("a", (image, image), torch.ones(6, 7), torch.zeros(6, 7), "stereo")
    assert [tile.title.partition(" ")[0] for tile in pair] == ["a\ntrue", "predicted"]


def test_input_truth_and_prediction_are_shown_of_what_is_a_picture() -> None:
    left, right = torch.rand(3, 4, 6), torch.rand(3, 4, 6)
    true = torch.tensor([[0.0, 1.0, 2.0, 4.0, INF, INF]] * 4)
    first, truth, prediction = shown("pair", [left, right], true, true.clamp(max=2.0), "stereo")
    assert [tile.title for tile in (first, truth, prediction)] == [
        "pair\ninput", "pair\ntrue disparity 0.0 to 4.0 px", "pair\npredicted disparity 0.0 to 2.0 px",
    ]  # fmt: skip
    assert truth.picture[0, :, 0].tolist() == [0.0, 0.25, 0.5, 1.0, 0.0, 0.0], "greys; black where nobody knows"
    volume, labels = torch.rand(1, 3, 4, 5), torch.zeros(3, 4, 5, dtype=torch.int64)
    labels[2, 1, 1] = 1
    first, truth, prediction = shown("scan", [volume], labels, labels * 0, "segmentation", ("background", "liver"))
    assert first.labels is None
    assert np.array_equal(first.picture, truth.picture), "one slice"
    assert (truth.labels == 1).sum() == 1
    assert (prediction.labels == -1).all()
    assert shown("clip", [volume], torch.tensor(1), torch.tensor([0.2, 0.8]), "classification", ("a", "b"))[0].title
    assert shown("signal", [torch.rand(2, 9)], torch.tensor(1), torch.tensor([0.2, 0.8]), "classification") == []
    assert shown("values", [left], torch.rand(1, 4, 6), torch.rand(1, 4, 6), "regression") == []
