import pickle
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ranp.data.dataset import TESTING, TRAINING, VALIDATION, Case
from ranp.data.layouts import LAYOUTS
from ranp.data.layouts.pictures import Masks, PictureFolders, Voc
from ranp.errors import MissingExtra, UsageError

pytestmark = pytest.mark.usefixtures("typed")  # messages are those of the command line

Image = pytest.importorskip("PIL.Image")

SIZE = (20, 30)
MEAN, SD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def save(path: Path, values: np.ndarray, mode: str | None = None) -> Path:
    """Write pixels; mode "P" makes them indices of a palette."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values)
    if mode == "P":
        image = Image.fromarray(values).copy()
        image.putpalette([(37 * k) % 256 for k in range(768)])
    image.save(path)
    return path


def placed(size: tuple[int, int] = SIZE) -> np.ndarray:
    """A picture whose pixels say where they are, in red and green."""
    rows, columns = np.indices(size)
    return np.stack([rows, columns, 7 * np.ones(size)], axis=-1).astype(np.uint8)


def labels(values: Sequence[int] = (0, 1, 2), size: tuple[int, int] = SIZE) -> np.ndarray:
    """Labels in a pattern that tells places from each other: those of (row + 2 * column) modulo their number."""
    rows, columns = np.indices(size)
    return np.array(values, np.uint8)[(rows + 2 * columns) % len(values)]


def pixels(image: torch.Tensor) -> np.ndarray:
    values: np.ndarray = (image.numpy() * SD[:, None, None] + MEAN[:, None, None]) * 255
    return values.round().astype(int)


def voc(root: Path, year: str = "") -> Path:
    place = root / year if year else root
    lists = place / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for name in ("2007_000032", "2007_000039", "2007_000063"):
        save(place / "JPEGImages" / f"{name}.jpg", placed())
        save(place / "SegmentationClass" / f"{name}.png", labels((0, 15, 255)), "P")
    (lists / "train.txt").write_text("2007_000032\n2007_000063\n")
    (lists / "val.txt").write_text("2007_000039\n\n")
    (lists / "trainval.txt").write_text("2007_000032\n2007_000039\n2007_000063\n")
    return root


def masked(root: Path, values: Sequence[int] = (0, 1, 2), word: str = "labels", size: tuple[int, int] = SIZE) -> Path:
    for name in ("a", "b"):
        save(root / "images" / f"{name}.png", placed(size))
        save(root / word / f"{name}.png", labels(values, size))
    return root


def classes(root: Path, size: tuple[int, int] = SIZE) -> Path:
    for name in ("cat", "ant"):
        save(root / name / "x.png", placed(size))
    return root


def opened(root: Path, **settings: Any) -> Masks:
    return Masks.open(root, settings)


def draw(dataset: Any, case: Case, patch: tuple[int, ...], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    channels = dataset.channels()[0]
    (image,), target = dataset.draw(dataset.read(case), [(channels, *patch)], np.random.default_rng(seed))
    return image, target


MAKE: dict[type, Callable[[Path], Path]] = {Voc: voc, Masks: masked, PictureFolders: classes}


@pytest.mark.parametrize("layout", MAKE)
def test_a_layout_is_known(tmp_path: Path, layout: Any) -> None:
    assert not any(known.recognises(tmp_path) for known in LAYOUTS)
    root = MAKE[layout](tmp_path)
    assert next(known for known in LAYOUTS if known.recognises(root)) is layout
    assert not layout.recognises(tmp_path / "nowhere")
    dataset = layout.open(root, {})
    assert dataset.channels() == (3,)
    assert dataset.task == ("classification" if layout is PictureFolders else "segmentation")


@pytest.mark.parametrize("layout", MAKE)
def test_the_same_seed_gives_the_same_sample(tmp_path: Path, layout: Any) -> None:
    dataset = layout.open(MAKE[layout](tmp_path), {})
    one, same, other = (draw(dataset, dataset.cases[0], (8, 12), seed)[0] for seed in (3, 3, 4))
    assert torch.equal(one, same)
    assert torch.equal(one, draw(pickle.loads(pickle.dumps(dataset)), dataset.cases[0], (8, 12), 3)[0])  # for workers
    assert not torch.equal(one, other)


def test_one_place_is_cropped_from_a_picture_and_its_mask(tmp_path: Path) -> None:
    dataset = opened(masked(tmp_path))
    corners = set()
    for seed in range(40):
        image, target = draw(dataset, dataset.cases[0], (8, 12), seed)
        assert (image.dtype, target.dtype) == (torch.float32, torch.int64)
        assert (image.shape, target.shape) == ((3, 8, 12), (8, 12))
        rows, columns, _ = pixels(image)
        assert np.array_equal(target.numpy(), (rows + 2 * columns) % 3)
        assert (rows == rows[0, 0] + np.arange(8)[:, None]).all()
        assert (columns == columns[0, 0] + np.arange(12)).all()
        corners.add((rows[0, 0], columns[0, 0]))
    assert len(corners) > 25
    assert {row for row, _ in corners} <= set(range(13))
    assert {column for _, column in corners} <= set(range(19))


@pytest.mark.parametrize("patch", [(24, 40), (24, 12), (8, 40)])
def test_a_picture_that_is_smaller_than_the_patch_is_padded_and_that_is_said_once(
    tmp_path: Path, patch: tuple[int, int]
) -> None:
    dataset = opened(masked(tmp_path))
    size = f"--patch {patch[0]}x{patch[1]}: larger than a picture of 20x30, and others"
    said = f"{size}: padded with the mean, and label 255"
    with pytest.warns(UserWarning, match=said):
        image, target = draw(dataset, dataset.cases[0], patch)
    image, target = draw(dataset, dataset.cases[0], patch, 1)  # a second warning would be an error
    assert (image.shape, target.shape) == ((3, *patch), patch)
    height, width = min(patch[0], 20), min(patch[1], 30)
    outside = torch.ones(patch, dtype=torch.bool)
    outside[:height, :width] = False
    assert (image[:, outside] == 0).all()
    assert (target[outside] == 255).all()
    rows, columns, _ = pixels(image)
    assert np.array_equal(target[:height, :width].numpy(), ((rows + 2 * columns) % 3)[:height, :width])


def test_voc_has_lists_and_ignored_pixels(tmp_path: Path) -> None:
    dataset = Voc.open(voc(tmp_path), {})
    assert [case.name for case in dataset.of(TRAINING)] == ["2007_000032", "2007_000063"]
    assert [case.name for case in dataset.of(VALIDATION)] == ["2007_000039"]
    assert dataset.classes() == len(dataset.class_names) == 21
    assert (dataset.class_names[0], dataset.class_names[15]) == ("background", "person")
    (image,), target = dataset.whole(dataset.read(dataset.cases[0]))
    assert image.shape == (3, *SIZE)
    assert np.array_equal(target.numpy(), labels((0, 15, 255)))
    facts = dataset.facts(dataset.cases[0])
    assert (facts.shape, dict(facts.labels)) == ((3, *SIZE), {0: 200, 15: 200, 255: 200})


@pytest.mark.parametrize("year", ["VOC2012", "VOCdevkit/VOC2012"])
def test_voc_as_it_is_unpacked(tmp_path: Path, year: str) -> None:
    voc(tmp_path, year)
    assert Voc.recognises(tmp_path)
    assert Voc.open(tmp_path, {}).root == tmp_path / year
    voc(tmp_path, year.replace("2012", "2007"))
    with pytest.raises(UsageError, match="holds several years, VOC2007 and VOC2012; expected one, with ImageSets"):
        Voc.open(tmp_path, {})


def test_voc_by_other_lists_and_masks(tmp_path: Path) -> None:
    voc(tmp_path)
    (tmp_path / "ImageSets" / "Segmentation" / "test.txt").write_text("2008_000001\n")
    save(tmp_path / "JPEGImages" / "2008_000001.jpg", placed())
    (tmp_path / "SegmentationClass").rename(tmp_path / "SegmentationClassAug")
    dataset = Voc.open(tmp_path, {"train": "trainval", "masks": "SegmentationClassAug"})
    assert len(dataset.of(TRAINING)) == 3
    (test,) = (case for case in dataset.cases if case.split == TESTING)
    assert test.target is None
    assert dataset.of(TESTING) == ()
    assert (dataset.whole(dataset.read(test))[1] == 255).all()
    assert dict(dataset.facts(test).labels) == {}
    with pytest.raises(UsageError, match=r"trainaug\.txt: no such file; expected by --set-data train=trainaug"):
        Voc.open(tmp_path, {"train": "trainaug"})
    with pytest.raises(UsageError, match="--set-data train=3: expected a name"):
        Voc.open(tmp_path, {"train": 3})


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("JPEGImages/2007_000063.jpg", "no such file; expected by line 2 of .*train.txt"),
        ("SegmentationClass/2007_000039.png", "no such file; expected by line 1 of .*val.txt"),
    ],
)
def test_a_list_that_names_a_missing_file(tmp_path: Path, gone: str, message: str) -> None:
    (voc(tmp_path) / gone).unlink()
    with pytest.raises(UsageError, match=f"--data {tmp_path / gone}: {message}") as caught:
        Voc.open(tmp_path, {})
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_no_voc(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no year of VOC; expected one, with ImageSets/Segmentation/train\.txt"):
        Voc.open(tmp_path, {})
    for file in (voc(tmp_path) / "ImageSets" / "Segmentation").iterdir():
        file.write_text("\n")
    with pytest.raises(UsageError, match=r"lists no picture; expected names in train\.txt or val\.txt"):
        Voc.open(tmp_path, {})


def test_a_label_that_voc_has_not(tmp_path: Path) -> None:
    file = save(voc(tmp_path) / "SegmentationClass" / "2007_000032.png", labels((0, 37, 255, 40)), "P")
    dataset = Voc.open(tmp_path, {})
    with pytest.raises(UsageError, match=f"{file}: a mask with label 37, 40; expected 0 to 20, and 255 where") as no:
        dataset.read(dataset.cases[0])
    assert dataset.facts(dataset.cases[0]).problems == (str(no.value),)


@pytest.mark.parametrize("word", ["labels", "masks"])
@pytest.mark.parametrize("ending", ["", "_mask", "_label"])
def test_pictures_and_masks_of_one_name(tmp_path: Path, word: str, ending: str) -> None:
    masked(tmp_path, word=word)
    for name in ("a", "b"):
        (tmp_path / word / f"{name}.png").rename(tmp_path / word / f"{name}{ending}.png")
    dataset = opened(tmp_path)
    assert [(case.name, case.target) for case in dataset.of(TRAINING)] == [
        (f"images/{name}", tmp_path / word / f"{name}{ending}.png") for name in ("a", "b")
    ]
    assert dataset.class_names == ()
    assert dataset.classes() == 3


def test_two_folders_in_splits(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        masked(tmp_path / split)
    save(tmp_path / "test" / "images" / "c.png", placed())
    assert next(known for known in LAYOUTS if known.recognises(tmp_path)) is Masks
    dataset = opened(tmp_path)
    assert [case.name for case in dataset.of(VALIDATION)] == ["valid/images/a", "valid/images/b"]
    assert [case.target for case in dataset.cases if case.split == TESTING] == [None]


def test_masks_of_0_and_255_are_two_classes_and_that_is_said_once(tmp_path: Path) -> None:
    dataset = opened(masked(tmp_path, (0, 255), "masks"))
    with pytest.warns(UserWarning, match="masks hold 0 and 255 alone: taken as classes 0 and 1"):
        assert dataset.classes() == 2
    (_,), target = dataset.whole(dataset.read(dataset.cases[0]))  # a second warning would be an error
    assert np.array_equal(target.numpy(), labels((0, 1)))
    assert dict(dataset.facts(dataset.cases[0]).labels) == {0: 300, 255: 300}


def test_255_beside_other_labels_is_ignored(tmp_path: Path) -> None:
    dataset = opened(masked(tmp_path, (0, 1, 255)))
    assert dataset.classes() == 2
    assert np.array_equal(dataset.whole(dataset.read(dataset.cases[0]))[1].numpy(), labels((0, 1, 255)))


def test_classes_are_the_labels_that_occur_in_any_mask(tmp_path: Path) -> None:
    save(masked(tmp_path, (0, 3, 255)) / "labels" / "b.png", labels((9, 3)))
    dataset = opened(tmp_path)
    with pytest.warns(UserWarning, match="labels 0, 3, 9 are taken as classes 0 to 2"):
        assert dataset.classes() == 3
    one, other = (dataset.whole(dataset.read(case))[1].numpy() for case in dataset.cases)
    assert np.array_equal(one, labels((0, 1, 255)))
    assert np.array_equal(other, labels((2, 1)))


def test_declared_classes_are_not_looked_for(tmp_path: Path) -> None:
    dataset = opened(masked(tmp_path, (0, 3, 255)), classes=5)
    (tmp_path / "labels" / "b.png").write_bytes(b"")  # would be read otherwise
    assert dataset.classes() == 5
    assert np.array_equal(dataset.whole(dataset.read(dataset.cases[0]))[1].numpy(), labels((0, 3, 255)))
    few = opened(tmp_path, classes=2)
    with pytest.raises(UsageError, match=r"a.png: a mask with label 3; expected 0 to 1, and 255 where it is ignored"):
        few.read(few.cases[0])
    with pytest.raises(UsageError, match="--set-data classes=1: expected a whole number from 2 to 255"):
        opened(tmp_path, classes=1)


MODES: dict[str, Callable[[np.ndarray], tuple[np.ndarray, str | None]]] = {
    "grey": lambda values: (values, None),
    "palette": lambda values: (values, "P"),
    "one bit": lambda values: (values > 0, None),
    "colours that are grey": lambda values: (np.repeat(values[..., None], 3, axis=-1), None),
    "with alpha": lambda values: (np.dstack([values] * 3 + [np.full_like(values, 255)]), None),
    "grey with alpha": lambda values: (np.dstack([values, np.full_like(values, 255)]), None),
    "16 bits": lambda values: (values.astype(np.uint16), None),
}


@pytest.mark.parametrize("kind", MODES)
def test_masks_of_every_kind(tmp_path: Path, kind: str) -> None:
    truth = labels((0, 1))
    save(masked(tmp_path, (0, 1)) / "labels" / "a.png", *MODES[kind](truth))
    dataset = opened(tmp_path)
    assert np.array_equal(dataset.whole(dataset.read(dataset.cases[0]))[1].numpy(), truth)


def broken(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


@pytest.mark.parametrize(
    ("file", "spoil", "message"),
    [
        ("labels/a.png", lambda path: save(path, placed()), r"a mask in colours \(RGB\); expected one number a pixel"),
        (
            "labels/a.png",
            lambda path: save(path, labels(size=(20, 31))),
            "a mask of 20x31; expected 20x30, as .*images/a",
        ),
        ("labels/a.png", broken, "a picture that can't be read"),
        ("images/a.png", broken, "a picture that can't be read"),
        ("images/a.png", lambda path: path.write_text("hello"), "a picture that can't be read"),
        ("images/a.png", Path.unlink, "no such file"),
    ],
)
def test_a_case_that_will_not_do(tmp_path: Path, file: str, spoil: Callable[[Path], object], message: str) -> None:
    dataset = opened(masked(tmp_path), channels=3)
    spoil(tmp_path / file)
    with pytest.raises(UsageError, match=f"--data {tmp_path / file}: {message}") as caught:
        dataset.read(dataset.cases[0])
    assert "\n" not in str(caught.value)
    assert dataset.facts(dataset.cases[0]).problems == (str(caught.value),)
    assert dataset.facts(dataset.cases[1]).problems == ()


def test_pixels_of_32_bits(tmp_path: Path) -> None:
    file = save(masked(tmp_path) / "images" / "a.tif", np.zeros(SIZE, np.float32))
    (tmp_path / "images" / "a.png").unlink()
    dataset = opened(tmp_path)
    with pytest.raises(UsageError, match=rf"{file}: pixels of 32 bits \(F\); expected 8 or 16"):
        dataset.read(dataset.cases[0])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda r: (r / "labels/b.png").unlink(),
            r"images/b.png: a picture without a mask; expected b\.\* in .*labels",
        ),
        (lambda r: (r / "images/b.png").unlink(), r"labels/b.png: a mask without a picture; expected b\.\* in images"),
        (lambda r: save(r / "labels/b_mask.png", labels()), "labels/b_mask.png: b.png is a mask of the same picture"),
        (lambda r: save(r / "images/b.bmp", placed()), "images/b.png: b.bmp has the same name; expected one of them"),
        (lambda r: (r / "labels/b.png").rename(r / "labels/b.jpg"), "labels/b.jpg: a mask whose format changes labels"),
        (lambda r: (r / "masks").mkdir(), "has images, labels and masks; expected images and either labels or masks"),
        (lambda r: (r / "images").rename(r / "x"), "has labels and x; expected images and either labels or masks"),
    ],
)
def test_folders_that_do_not_fit(tmp_path: Path, spoil: Callable[[Path], object], message: str) -> None:
    spoil(masked(tmp_path))
    with pytest.raises(UsageError, match=message) as caught:
        opened(tmp_path)
    assert "\n" not in str(caught.value)


def test_folders_without_anything(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no folder; expected images and either labels or masks"):
        opened(tmp_path)
    for word in ("images", "masks"):
        (tmp_path / word).mkdir()
    with pytest.raises(UsageError, match="holds no picture; expected images"):
        opened(tmp_path)
    assert not Masks.recognises(tmp_path)


def test_pictures_of_known_class(tmp_path: Path) -> None:
    dataset = PictureFolders.open(classes(tmp_path), {})
    assert (dataset.class_names, dataset.classes()) == (("ant", "cat"), 2)
    assert [(case.name, case.target) for case in dataset.cases] == [("ant/x", 0), ("cat/x", 1)]
    image, label = draw(dataset, dataset.cases[1], (224, 224))
    assert image.shape == (3, 224, 224)
    assert (label.dtype, label.shape, label.item()) == (torch.int64, (), 1)
    facts = dataset.facts(dataset.cases[1])
    assert (facts.shape, dict(facts.labels), facts.problems) == ((3, *SIZE), {1: 1}, ())
    (image,), label = dataset.whole(dataset.read(dataset.cases[1]))
    assert np.array_equal(pixels(image), np.moveaxis(placed(), -1, 0))
    assert label.item() == 1


def test_a_picture_is_resized_to_be_cropped(tmp_path: Path) -> None:
    classes(tmp_path, (200, 250))
    dataset = PictureFolders.open(tmp_path, {})
    lengths = set()
    for seed in range(20):
        image, _ = draw(dataset, dataset.cases[0], (70, 70), seed)  # 200 becomes 80
        rows, columns, _ = pixels(image)
        assert rows[-1, 0] - rows[0, 0] == pytest.approx(69 * 200 / 80, abs=2)
        assert columns[0, -1] - columns[0, 0] == pytest.approx(69 * 250 / 100, abs=2)
        lengths.add((rows[0, 0], columns[0, 0]))
    assert len(lengths) > 12
    whole = PictureFolders.open(tmp_path, {"resize": 200})
    rows, _, _ = pixels(draw(whole, whole.cases[0], (70, 70))[0])
    assert rows[-1, 0] - rows[0, 0] == 69
    few = PictureFolders.open(tmp_path, {"resize": 60})
    with pytest.raises(UsageError, match="--set-data resize=60: makes 200x250 into 60x75, smaller than --patch 70x70"):
        draw(few, few.cases[0], (70, 70))


def test_class_folders_in_splits(tmp_path: Path) -> None:
    for split in ("train", "val"):
        classes(tmp_path / split)
    dataset = PictureFolders.open(tmp_path, {})
    assert dataset.class_names == ("ant", "cat")
    assert [case.name for case in dataset.of(VALIDATION)] == ["val/ant/x", "val/cat/x"]


def test_class_folders_without_pictures(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no folders; expected one for each class"):
        PictureFolders.open(tmp_path, {})
    (classes(tmp_path) / "dog").mkdir()
    with pytest.raises(
        UsageError, match=rf"--data {tmp_path / 'dog'}: a class without pictures; expected files ending"
    ):
        PictureFolders.open(tmp_path, {})


def test_a_picture_of_known_class_that_is_damaged(tmp_path: Path) -> None:
    dataset = PictureFolders.open(classes(tmp_path), {"channels": 3})
    broken(tmp_path / "ant" / "x.png")
    with pytest.raises(UsageError, match=r"ant/x\.png: a picture that can't be read") as caught:
        dataset.read(dataset.cases[0])
    assert dataset.facts(dataset.cases[0]).problems == (str(caught.value),)


def test_grey_pictures_have_one_channel(tmp_path: Path) -> None:
    grey = np.full(SIZE, 51, np.uint8)
    save(tmp_path / "ant" / "x.png", grey)
    save(tmp_path / "cat" / "x.png", np.repeat(grey[..., None], 3, axis=-1))
    dataset = PictureFolders.open(tmp_path, {})
    assert dataset.channels() == (1,)
    for case in dataset.cases:  # the second is in colours, and becomes grey
        (image,), _ = dataset.whole(dataset.read(case))
        assert image.shape == (1, *SIZE)
        assert torch.allclose(image, torch.tensor((0.2 - MEAN.mean()) / SD.mean(), dtype=torch.float32))
    colours = PictureFolders.open(tmp_path, {"channels": 3})
    assert colours.channels() == (3,)
    (image,), _ = colours.whole(colours.read(colours.cases[0]))
    assert np.array_equal(pixels(image), np.full((3, *SIZE), 51))
    with pytest.raises(UsageError, match="--set-data channels=2: expected 1 or 3"):
        PictureFolders.open(tmp_path, {"channels": 2})


def test_grey_pictures_of_16_bits_keep_them(tmp_path: Path) -> None:
    rows, columns = np.indices(SIZE)
    values = (rows * 3000 + columns).astype(np.uint16)
    for name in ("ant", "cat"):
        save(tmp_path / name / "x.png", values)
    dataset = PictureFolders.open(tmp_path, {"mean": 0, "sd": 1})
    assert dataset.channels() == (1,)
    (image,), _ = dataset.whole(dataset.read(dataset.cases[0]))
    assert np.array_equal((image[0].double() * 65535).round().numpy(), values)
    image, _ = draw(dataset, dataset.cases[0], (70, 70))  # 20 becomes 80
    assert image.shape == (1, 70, 70)
    steps = (image[0, 1:] - image[0, :-1]) * 65535
    assert steps.max().item() == pytest.approx(3000 / 4, rel=0.02)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(3, 8, 8, 8)], "--patch 8x8x8: expected the size of a picture, such as 224x224"),
        ([(1, 8, 8)], r"--in-channels 1: the network takes 1 channel\(s\), a picture has 3"),
        ([(3, 8, 8)] * 2, r"--data: the network takes 2 input\(s\), a picture gives 1"),
    ],
)
@pytest.mark.parametrize("layout", [Masks, PictureFolders])
def test_shapes_that_a_picture_has_not(
    tmp_path: Path, layout: Any, shapes: list[tuple[int, ...]], message: str
) -> None:
    dataset = layout.open(MAKE[layout](tmp_path), {})
    with pytest.raises(UsageError, match=message):
        dataset.draw(dataset.read(dataset.cases[0]), shapes, np.random.default_rng(0))


@pytest.mark.parametrize("layout", MAKE)
def test_a_setting_that_the_layout_has_not(tmp_path: Path, layout: Any) -> None:
    with pytest.raises(UsageError, match=f"--set-data chanels: no setting of {layout.word}; .*mean 'channels'"):
        layout.open(MAKE[layout](tmp_path), {"chanels": 1})


def test_without_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = opened(masked(tmp_path))
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(MissingExtra, match=r"pip install 'ranp\[pictures\]'"):
        dataset.facts(dataset.cases[0])


PAIRS = Path(__file__).parents[3] / ".." / "shared" / "data" / "stereo"


@pytest.mark.data
@pytest.mark.skipif(not PAIRS.is_dir(), reason="needs the stereo pairs beside the checkout")
def test_real_pictures(tmp_path: Path) -> None:
    for name, file in (("map", "map_left.png"), ("cones", "cones_left.png")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).symlink_to((PAIRS / file).resolve())
    dataset = PictureFolders.open(tmp_path, {})
    assert dataset.channels() == (3,)
    for case in dataset.cases:  # the map is grey
        image, label = draw(dataset, case, (224, 224))
        assert image.shape == (3, 224, 224)
        assert label.item() == case.target
        assert 0.2 < image.std() < 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert PictureFolders.recognises(tmp_path)
