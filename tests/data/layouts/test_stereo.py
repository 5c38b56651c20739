import pickle
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ranp.data.dataset import TESTING, TRAINING, VALIDATION, Case, Dataset
from ranp.data.layouts import LAYOUTS
from ranp.data.layouts._pfm import read_pfm
from ranp.data.layouts.stereo import Kitti2015, Middlebury, Pair, SceneFlow, StereoFolders
from ranp.errors import MissingExtra, UsageError

pytestmark = pytest.mark.usefixtures("typed")  # messages are those of the command line

Image = pytest.importorskip("PIL.Image")

SIZE = (20, 30)
MEAN, SD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def pfm(path: Path, values: np.ndarray, order: str = "<", scale: str = "1.0") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = values.shape
    header = f"Pf\n{width} {height}\n{'-' if order == '<' else ''}{scale}\n".encode()
    path.write_bytes(header + values[::-1].astype(f"{order}f4").tobytes())
    return path


def picture(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def placed(offset: int = 0, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A picture whose pixels say where they are: red its row, green its column, blue which picture it is."""
    rows, columns = np.indices(size)
    return np.stack([rows, columns, np.full(size, offset)], axis=-1).astype(np.uint8)


def disparities(size: tuple[int, int] = SIZE) -> np.ndarray:
    """Disparities that say where they are, too."""
    rows, columns = np.indices(size)
    return (rows + columns / 64).astype(np.float32)


def pixels(image: torch.Tensor) -> np.ndarray:
    """A normalised picture (3, H, W) as whole numbers."""
    values: np.ndarray = (image.numpy() * SD[:, None, None] + MEAN[:, None, None]) * 255
    return values.round().astype(int)


def scene_flow(root: Path) -> Path:
    for place in ("TRAIN/A/0000", "TRAIN/B/0003", "TEST/A/0000"):
        for name in ("0006", "0007"):
            for k, side in enumerate(("left", "right")):
                picture(root / "frames_cleanpass" / place / side / f"{name}.png", placed(k))
            pfm(root / "disparity" / place / "left" / f"{name}.pfm", disparities())
    return root


def kitti(root: Path) -> Path:
    for split in ("training", "testing"):
        for moment in ("000000_10", "000000_11", "000001_10"):
            for k, side in enumerate(("image_2", "image_3")):
                picture(root / split / side / f"{moment}.png", placed(k))
    for name in ("000000_10", "000001_10"):
        coded = np.rint(disparities() * 256).astype(np.uint16)  # the first row is 0 to 29 / 64
        picture(root / "training" / "disp_occ_0" / f"{name}.png", coded)
    return root


def middlebury(root: Path) -> Path:
    for scene, truth in (("Adirondack", "disp0.pfm"), ("Piano", "disp0GT.pfm")):
        for k in (0, 1):
            picture(root / scene / f"im{k}.png", placed(k))
        values = disparities()
        values[4, 5] = np.inf
        pfm(root / scene / truth, values, scale="0.003922")
        (root / scene / "calib.txt").write_text("cam0=[1 0 0; 0 1 0; 0 0 1]\nwidth=30\nheight=20\nndisp=32\n")
    return root


def plain(root: Path, suffix: str = ".pfm") -> Path:
    for name in ("a", "b"):
        for k, side in enumerate(("left", "right")):
            picture(root / side / f"{name}.png", placed(k))
        if suffix == ".pfm":
            pfm(root / "disparity" / f"{name}.pfm", disparities(), ">")
        else:
            picture(root / "disparity" / f"{name}.png", np.rint(disparities() * 256).astype(np.uint16))
    return root


LAYOUT: dict[str, tuple[Callable[[Path], Path], type[Dataset[Pair]]]] = {
    "sceneflow": (scene_flow, SceneFlow),
    "kitti2015": (kitti, Kitti2015),
    "middlebury": (middlebury, Middlebury),
    "stereo": (plain, StereoFolders),
}


def test_a_pfm_file_by_hand(tmp_path: Path) -> None:
    top, bottom = (1.5, -2.0, float("inf")), (3.0, 0.0, 1e30)
    for order, scale in (("<", b"-1.0"), (">", b"1"), ("<", b"-0.003922"), ("<", b"-1e-2")):
        for end in (b"\n", b"\r\n"):
            path = tmp_path / "map.pfm"
            path.write_bytes(b"Pf\n3 2\n" + scale + end + struct.pack(f"{order}6f", *bottom, *top))
            assert np.array_equal(read_pfm(path), np.array([top, bottom], np.float32))


@given(
    values=arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 5)), elements=st.floats(width=32)),
    order=st.sampled_from("<>"),
)
def test_a_pfm_file_gives_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, values: np.ndarray, order: str
) -> None:
    path = pfm(tmp_path_factory.mktemp("pfm") / "map.pfm", values, order)
    assert np.array_equal(read_pfm(path), values, equal_nan=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"Pf\n3 2\n-1.0\n" + bytes(20), "a PFM file cut short: 20 bytes of pixels; expected 24 for 3x2"),
        (b"Pf\n3 2\n-1.0\n" + bytes(28), "a PFM file too long: 28 bytes of pixels; expected 24 for 3x2"),
        (b"PF\n3 2\n-1.0\n" + bytes(72), "a PFM file, PF of 3x2; expected Pf, one number a pixel"),
        (b"Pf\n0 2\n-1.0\n", "a PFM file, Pf of 0x2; expected Pf"),
        (b"Pf\n3 2\n", r"begins with b'Pf\\n3 2\\n'; expected the header of a PFM file"),
        (b"\x89PNG", r"begins with .*PNG'; expected the header of a PFM file"),
        (b"", "begins with b''; expected the header of a PFM file"),
        (None, r"can't be read \(No such file or directory\)"),
    ],
)
def test_a_pfm_file_that_will_not_do(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "map.pfm"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=f"--data {path}: {message}"):
        read_pfm(path)


@pytest.mark.parametrize("word", LAYOUT)
def test_a_layout_is_known_and_opened(tmp_path: Path, word: str) -> None:
    make, layout = LAYOUT[word]
    root = make(tmp_path)
    assert next(known for known in LAYOUTS if known.recognises(root)) is layout
    dataset = layout.open(root, {})
    assert (layout.word, dataset.task, dataset.channels(), dataset.classes()) == (word, "stereo", (3, 3), None)
    assert dataset.root == root
    assert all(file.is_file() for case in dataset.cases for file in case.files)
    facts = dataset.facts(dataset.cases[0])
    assert (facts.shape, facts.problems) == ((3, *SIZE), ())


@pytest.mark.parametrize("word", LAYOUT)
def test_one_place_is_cropped_from_both_pictures_and_the_disparities(tmp_path: Path, word: str) -> None:
    make, layout = LAYOUT[word]
    dataset = layout.open(make(tmp_path), {})
    held = dataset.read(dataset.of(TRAINING)[0])
    corners = set()
    for seed in range(40):
        (left, right), target = dataset.draw(held, [(3, 8, 12)] * 2, np.random.default_rng(seed))
        assert left.dtype == right.dtype == target.dtype == torch.float32
        assert (left.shape, right.shape, target.shape) == ((3, 8, 12), (3, 8, 12), (8, 12))
        rows, columns, which = pixels(left)
        assert np.array_equal(pixels(right), np.stack([rows, columns, which + 1]))
        truth = disparities()[rows, columns]
        known = np.isfinite(target.numpy())
        assert np.allclose(target.numpy()[known], truth[known])
        corners.add((rows[0, 0], columns[0, 0]))
        assert (rows == rows[0, 0] + np.arange(8)[:, None]).all()
        assert (columns == columns[0, 0] + np.arange(12)).all()
    assert len(corners) > 25
    assert {row for row, _ in corners} <= set(range(13))
    assert {column for _, column in corners} <= set(range(19))


@pytest.mark.parametrize("word", LAYOUT)
def test_the_same_seed_gives_the_same_sample(tmp_path: Path, word: str) -> None:
    make, layout = LAYOUT[word]
    dataset = layout.open(make(tmp_path), {})

    def draw(seed: int, dataset: Any = dataset) -> torch.Tensor:
        return dataset.draw(dataset.read(dataset.cases[1]), [(3, 8, 12)] * 2, np.random.default_rng(seed))[1]

    assert torch.equal(draw(3), draw(3))
    assert torch.equal(draw(3), draw(3, pickle.loads(pickle.dumps(dataset))))  # for workers
    assert not torch.equal(draw(3), draw(4))


def test_scene_flow_has_splits_and_parts(tmp_path: Path) -> None:
    dataset = SceneFlow.open(scene_flow(tmp_path), {})
    assert len(dataset.of(TRAINING)) == 4
    assert len(dataset.of(TESTING)) == 2
    assert all("TEST" in case.name for case in dataset.of(TESTING))
    parts = tmp_path / "parts"
    scene_flow(parts / "FlyingThings3D")
    monkaa = parts / "Monkaa"
    for k, side in enumerate(("left", "right")):
        picture(monkaa / "frames_cleanpass" / "eating_x2" / side / "0000.png", placed(k))
    pfm(monkaa / "disparity" / "eating_x2" / "left" / "0000.pfm", disparities())
    assert SceneFlow.recognises(parts)
    dataset = SceneFlow.open(parts, {})
    assert len(dataset.of(TRAINING)) == 5
    assert dataset.of(TRAINING)[-1].name == "Monkaa/frames_cleanpass/eating_x2/left/0000"


def test_the_other_pass_of_scene_flow(tmp_path: Path) -> None:
    scene_flow(tmp_path)
    with pytest.raises(UsageError, match=r"holds no stereo pair; expected frames_finalpass/\.\.\./left"):
        SceneFlow.open(tmp_path, {"pass": "finalpass"})
    (tmp_path / "frames_cleanpass").rename(tmp_path / "frames_finalpass")
    assert SceneFlow.recognises(tmp_path)
    assert len(SceneFlow.open(tmp_path, {"pass": "finalpass"}).cases) == 6
    with pytest.raises(UsageError, match="--set-data pass=final: expected cleanpass or finalpass; did you mean"):
        SceneFlow.open(tmp_path, {"pass": "final"})


def test_kitti_has_the_first_moment_and_unknown_zeros(tmp_path: Path) -> None:
    dataset = Kitti2015.open(kitti(tmp_path), {})
    names = [f"training/image_2/{name}" for name in ("000000_10", "000001_10")]
    assert [case.name for case in dataset.of(TRAINING)] == names
    testing = [case for case in dataset.cases if case.split == TESTING]
    assert [case.target for case in testing] == [None, None]
    assert dataset.of(TESTING) == ()
    disparity = dataset.read(dataset.cases[0]).disparity
    assert disparity[0, 0] == np.inf  # coded 0
    assert disparity[0, 1] == 1 / 64
    assert disparity[7, 9] == 7 + 9 / 64
    assert np.isinf(dataset.read(testing[0]).disparity).all()
    alone = Kitti2015.open(tmp_path / "training", {})
    assert [(case.name, case.split) for case in alone.cases] == [
        ("image_2/000000_10", TRAINING),
        ("image_2/000001_10", TRAINING),
    ]


def test_middlebury_leaves_unknown_ones_infinite(tmp_path: Path) -> None:
    dataset = Middlebury.open(middlebury(tmp_path), {})
    assert [case.name for case in dataset.cases] == ["Adirondack", "Piano"]
    assert dataset.of(TRAINING) == dataset.cases
    for case in dataset.cases:
        disparity = dataset.read(case).disparity
        assert disparity[4, 5] == np.inf
        assert np.isfinite(disparity).sum() == disparity.size - 1
        assert disparity[3, 2] == 3 + 2 / 64
    assert [case.name for case in Middlebury.open(tmp_path / "Piano", {}).cases] == ["Piano"]


@pytest.mark.parametrize("unknown", [np.nan, np.inf, -np.inf])
def test_unknown_disparities_of_a_pfm_are_infinite(tmp_path: Path, unknown: float) -> None:
    values = disparities()
    values[2, 3] = unknown
    pfm(plain(tmp_path) / "disparity" / "a.pfm", values)
    dataset = StereoFolders.open(tmp_path, {})
    disparity = dataset.read(dataset.cases[0]).disparity
    values[2, 3] = np.inf
    assert np.array_equal(disparity, values)
    assert disparity[0, 0] == 0  # of a PFM a disparity like any other


def test_plain_folders_of_16_and_of_8_bits(tmp_path: Path) -> None:
    dataset = StereoFolders.open(plain(tmp_path, ".png"), {})
    assert dataset.read(dataset.cases[0]).disparity[7, 9] == 7 + 9 / 64
    assert StereoFolders.open(tmp_path, {"scale": 64}).read(dataset.cases[0]).disparity[7, 9] == 4 * (7 + 9 / 64)
    eight = picture(tmp_path / "disparity" / "a.png", placed()[..., 1])
    with pytest.raises(
        UsageError, match=f"{eight}: disparities of 8 bits; expected 16, pixels x 256, or of plain"
    ) as no:
        dataset.read(dataset.cases[0])
    assert "--set-data scale=..." in str(no.value)
    disparity = StereoFolders.open(tmp_path, {"scale": 4}).read(dataset.cases[0]).disparity
    assert disparity[3].tolist() == [np.inf, *(k / 4 for k in range(1, 30))]


def test_plain_folders_of_splits(tmp_path: Path) -> None:
    for split in ("train", "val"):
        plain(tmp_path / split)
    assert StereoFolders.recognises(tmp_path)
    dataset = StereoFolders.open(tmp_path, {})
    assert [case.name for case in dataset.of(VALIDATION)] == ["val/left/a", "val/left/b"]
    (tmp_path / "test").mkdir()
    with pytest.raises(UsageError, match=f"--data {tmp_path / 'test'}: expected left/"):
        StereoFolders.open(tmp_path, {})


def test_pictures_are_normalised_as_psmnet_does(tmp_path: Path) -> None:
    root = plain(tmp_path)
    picture(root / "left" / "a.png", np.full((*SIZE, 3), (255, 0, 51), np.uint8))
    picture(root / "right" / "a.png", np.full(SIZE, 51, np.uint8))  # grey
    dataset = StereoFolders.open(root, {})
    (left, right), target = dataset.whole(dataset.read(dataset.cases[0]))
    assert left.shape == right.shape == (3, *SIZE)
    assert target.shape == SIZE
    assert np.allclose(left[:, 3, 4], (np.array([1, 0, 0.2]) - MEAN) / SD, atol=1e-6)
    assert np.allclose(right[:, 3, 4], (0.2 - MEAN) / SD, atol=1e-6)
    other = StereoFolders.open(root, {"mean": 0, "sd": [1, 1, 2]})
    assert np.allclose(other.whole(other.read(other.cases[0]))[0][0][:, 0, 0], [1, 0, 0.1])


def test_a_pair_without_disparities_has_no_target(tmp_path: Path) -> None:
    for file in (plain(tmp_path) / "disparity").iterdir():
        file.unlink()
    (tmp_path / "disparity").rmdir()
    dataset = StereoFolders.open(tmp_path, {})
    assert [case.target for case in dataset.cases] == [None, None]
    assert dataset.of(TRAINING) == ()
    assert dataset.facts(dataset.cases[0]).problems == ()


def test_disparities_that_are_all_unknown_are_a_problem(tmp_path: Path) -> None:
    file = pfm(plain(tmp_path) / "disparity" / "a.pfm", np.full(SIZE, np.inf))
    dataset = StereoFolders.open(tmp_path, {})
    assert dataset.facts(dataset.cases[0]).problems == (
        f"{file}: every disparity is unknown; expected some that are known",
    )


@pytest.mark.parametrize(
    ("word", "gone", "message"),
    [
        (
            "sceneflow",
            "frames_cleanpass/TRAIN/A/0000/right/0007.png",
            "no such file; expected by .*, as its right picture",
        ),
        (
            "sceneflow",
            "disparity/TEST/A/0000/left/0006.pfm",
            "no such file; expected by .*left/0006.png, as its disparities",
        ),
        ("kitti2015", "testing/image_3/000001_10.png", "no such file; expected by .*, as its right picture"),
        ("kitti2015", "training/disp_occ_0/000001_10.png", "no such file; expected by .*, as its disparities"),
        ("middlebury", "Piano/im1.png", "no such file; expected by .*im0.png, as its right picture"),
    ],
)
def test_a_file_that_is_missing(tmp_path: Path, word: str, gone: str, message: str) -> None:
    make, layout = LAYOUT[word]
    make(tmp_path)
    (tmp_path / gone).unlink()
    with pytest.raises(UsageError, match=f"--data {tmp_path / gone}: {message}") as caught:
        layout.open(tmp_path, {})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("right/b.png", r"right: holds no b\.\*, which .*left/b.png needs"),
        ("disparity/b.pfm", r"disparity: holds no b\.\*, which .*left/b.png needs"),
        ("left/b.png", r"right/b.png: belongs to no picture; expected b\.\* in .*left"),
    ],
)
def test_a_counterpart_that_is_missing(tmp_path: Path, gone: str, message: str) -> None:
    (plain(tmp_path) / gone).unlink()
    with pytest.raises(UsageError, match=message):
        StereoFolders.open(tmp_path, {})


def test_two_pictures_of_one_name(tmp_path: Path) -> None:
    picture(plain(tmp_path) / "left" / "a.bmp", placed())
    with pytest.raises(UsageError, match=r"left/a\.png: a\.bmp has the same name; expected one of them"):
        StereoFolders.open(tmp_path, {})


@pytest.mark.parametrize("word", LAYOUT)
def test_a_folder_without_pairs(tmp_path: Path, word: str) -> None:
    layout = LAYOUT[word][1]
    with pytest.raises(UsageError, match=f"--data {tmp_path}: (holds no stereo pair; )?expected ") as caught:
        layout.open(tmp_path, {})
    assert "\n" not in str(caught.value)
    assert not layout.recognises(tmp_path)
    assert not layout.recognises(tmp_path / "nowhere")


def broken(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


@pytest.mark.parametrize(
    ("file", "spoil", "message"),
    [
        ("right/a.png", lambda path: picture(path, placed(1, (20, 31))), "20x31; expected 20x30, as .*left/a.png"),
        ("disparity/a.pfm", lambda path: pfm(path, disparities((19, 30))), "19x30; expected 20x30, as .*left/a.png"),
        ("disparity/a.pfm", broken, "a PFM file cut short"),
        ("left/a.png", broken, "a picture that can't be read"),
        ("left/a.png", lambda path: path.write_text("hello"), "a picture that can't be read"),
        ("right/a.png", Path.unlink, "no such file"),
    ],
)
def test_a_pair_that_will_not_do(tmp_path: Path, file: str, spoil: Callable[[Path], object], message: str) -> None:
    dataset = StereoFolders.open(plain(tmp_path), {})
    spoil(tmp_path / file)
    with pytest.raises(UsageError, match=f"--data {tmp_path / file}: {message}") as caught:
        dataset.read(dataset.cases[0])
    assert "\n" not in str(caught.value)
    assert dataset.facts(dataset.cases[0]).problems == (str(caught.value),)


def test_disparities_in_colours(tmp_path: Path) -> None:
    picture(kitti(tmp_path) / "training" / "disp_occ_0" / "000000_10.png", placed())
    dataset = Kitti2015.open(tmp_path, {})
    with pytest.raises(UsageError, match="pixels are RGB; expected one number each, of 8 or 16 bits"):
        dataset.read(dataset.cases[0])


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(3, 8, 12)], r"--data: the network takes 1 input\(s\), a stereo pair gives 2"),
        ([(3, 8, 12), (3, 8, 10)], "--patch 8x10: expected the size of a stereo pair, such as 256x512"),
        ([(3, 8, 8, 8)] * 2, "--patch 8x8x8: expected the size of a stereo pair"),
        ([(1, 8, 12)] * 2, r"--in-channels 1: the network takes 1 channel\(s\), a stereo pair has 3"),
        ([(3, 24, 12)] * 2, "--patch 24x12: larger than a stereo pair of 20x30"),
    ],
)
def test_shapes_that_a_pair_has_not(tmp_path: Path, shapes: list[tuple[int, ...]], message: str) -> None:
    dataset = StereoFolders.open(plain(tmp_path), {})
    with pytest.raises(UsageError, match=message):
        dataset.draw(dataset.read(dataset.cases[0]), shapes, np.random.default_rng(0))


@pytest.mark.parametrize("word", LAYOUT)
def test_a_setting_that_the_layout_has_not(tmp_path: Path, word: str) -> None:
    make, layout = LAYOUT[word]
    with pytest.raises(UsageError, match=f"--set-data means: no setting of {word}; .*; did you mean 'mean'"):
        layout.open(make(tmp_path), {"means": 1})


def test_without_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = StereoFolders.open(plain(tmp_path), {})
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(MissingExtra, match=r"pip install 'ranp\[pictures\]'"):
        dataset.facts(dataset.cases[0])


PAIRS = Path(__file__).parents[3] / ".." / "shared" / "data" / "stereo"
real = pytest.mark.skipif(not PAIRS.is_dir(), reason="needs the stereo pairs beside the checkout")


def link(file: str, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to((PAIRS / file).resolve())


def apart(pair: Any, target: np.ndarray) -> float:
    """How much the left picture differs from the right one, read at x - disparity."""
    left, right = (image.numpy() for image in pair)
    rows, columns = np.indices(target.shape)
    known = np.isfinite(target)
    places = np.clip(np.rint(columns[known] - target[known]).astype(int), 0, target.shape[1] - 1)
    return float(np.abs(left[:, rows[known], columns[known]] - right[:, rows[known], places]).mean())


@pytest.mark.data
@real
@pytest.mark.parametrize("word", ["middlebury", "stereo", "sceneflow"])
def test_the_motorcycle(tmp_path: Path, word: str) -> None:
    places = {
        "middlebury": ("Motorcycle/im0.png", "Motorcycle/im1.png", "Motorcycle/disp0.pfm"),
        "stereo": ("left/m.png", "right/m.png", "disparity/m.pfm"),
        "sceneflow": tuple(f"{p}/0006.{e}" for p, e in (
            ("frames_cleanpass/TRAIN/A/0000/left", "png"),
            ("frames_cleanpass/TRAIN/A/0000/right", "png"),
            ("disparity/TRAIN/A/0000/left", "pfm"),
        )),
    }[word]  # fmt: skip
    for file, place in zip(("left.png", "right.png", "disp.pfm"), places, strict=True):
        link(f"motorcycle_{file}", tmp_path / place)
    layout = next(known for known in LAYOUTS if known.recognises(tmp_path))
    assert layout.word == word
    dataset = layout.open(tmp_path, {})
    assert dataset.facts(dataset.cases[0]).shape == (3, 500, 741)
    held = dataset.read(dataset.cases[0])
    pair, target = dataset.whole(held)
    known = target[torch.isfinite(target)]
    assert 0.8 < known.numel() / target.numel() < 1
    assert known.min().item() == pytest.approx(7.2, abs=0.1)
    assert known.max().item() == pytest.approx(59.9, abs=0.1)
    truth = target.numpy()
    assert apart(pair, truth) < 0.5 * apart(pair, truth[::-1])  # rows are the right way up
    pair, target = dataset.draw(held, [(3, 256, 512)] * 2, np.random.default_rng(0))
    assert apart(pair, target.numpy()) < 0.5 * apart(pair, np.full((256, 512), 7.2))


@pytest.mark.data
@real
def test_disparities_of_8_bits_times_16(tmp_path: Path) -> None:
    for file, place in (("left", "left/s.png"), ("right", "right/s.png"), ("disp_x16", "disparity/s.png")):
        link(f"synth_{file}.png", tmp_path / place)
    dataset = StereoFolders.open(tmp_path, {"scale": 16})
    pair, target = dataset.whole(dataset.read(dataset.cases[0]))
    assert target.shape == (96, 128)
    truth = target.numpy()
    assert set(np.unique(truth[np.isfinite(truth)] * 16 % 1)) == {0}
    assert apart(pair, truth) < 0.5 * apart(pair, np.zeros_like(truth))
    assert dataset.cases == (
        Case("left/s", (tmp_path / "left/s.png", tmp_path / "right/s.png"), tmp_path / "disparity/s.png"),
    )
