import pickle
import struct
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ranp.data.dataset import TESTING, TRAINING, VALIDATION, Case
from ranp.data.layouts import LAYOUTS
from ranp.data.layouts._video import Video
from ranp.data.layouts.clips import UCF101, ClipFolders
from ranp.errors import MissingExtra, UsageError

pytestmark = pytest.mark.usefixtures("typed")  # messages are those of the command line

av = pytest.importorskip("av")

KINDS = {  # container, codec, and whether frames are reordered
    "plain.avi": ("mpeg4", 0),
    "reordered.avi": ("mpeg4", 2),
    "mpeg4.mp4": ("mpeg4", 2),
    "x264.mp4": ("libx264", 3),
    "x264.mkv": ("libx264", 3),
    "vp8.webm": ("libvpx", 0),
    "ffv1.avi": ("ffv1", 0),
}


def write(path: Path, frames: Sequence[np.ndarray], codec: str = "ffv1", reordered: int = 0, gop: int = 10) -> Path:
    """Write frames (H, W, 3); ffv1 keeps every pixel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "bgr0" if codec == "ffv1" else "yuv420p"
        stream.codec_context.gop_size, stream.codec_context.max_b_frames = gop, reordered
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def numbered(count: int, size: tuple[int, int] = (24, 32)) -> list[np.ndarray]:
    """Frames whose pixels say which one it is, in red; and where they are, in green (row) and blue (column)."""
    rows, columns = np.indices(size)
    return [np.stack([np.full(size, k), rows, columns], axis=-1).astype(np.uint8) for k in range(count)]


def moving(count: int, size: tuple[int, int] = (48, 64)) -> list[np.ndarray]:
    """A smooth texture that moves, so that an encoder has something to predict."""
    rows, columns = np.indices(size)
    waves = [np.sin((rows + 2 * k) / 7) + np.cos((columns - 3 * k) / 9) for k in range(count)]
    return [np.repeat((60 * wave + 125)[..., None], 3, axis=-1).astype(np.uint8) for wave in waves]


def folder(root: Path, count: int = 40, size: tuple[int, int] = (24, 32)) -> Path:
    for name in ("walk", "run"):
        write(root / name / f"{name}1.avi", numbered(count, size))
    return root


def pixels(clip: torch.Tensor) -> np.ndarray:
    """A clip (3, T, H, W) from -1 to 1 as whole numbers."""
    values: np.ndarray = ((clip + 1) * 127.5).round().to(torch.int64).numpy()
    return values


def open_clips(root: Path, **settings: Any) -> ClipFolders:
    return ClipFolders.open(root, settings)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Video, np.ndarray]]:
    """Each kind of video as it was looked through, and all its frames as they are decoded in one go."""
    root = tmp_path_factory.mktemp("videos")
    read = {}
    for name, (codec, reordered) in KINDS.items():
        path = write(root / name, moving(37), codec, reordered)
        with av.open(str(path)) as container:
            resized = {"width": 32, "height": 24, "interpolation": "BILINEAR"}
            frames = np.stack([frame.to_ndarray(format="rgb24", **resized) for frame in container.decode(video=0)])
        read[name] = Video.look_through(path), frames
    return read


@pytest.mark.parametrize("name", KINDS)
def test_frames_are_counted_and_found_wherever_decoding_begins(
    videos: dict[str, tuple[Video, np.ndarray]], name: str
) -> None:
    video, frames = videos[name]
    assert video.frames == len(frames) == 37
    assert video.size == (48, 64)
    assert (video.times is None) == name.endswith(".avi")
    for start in range(37):
        assert np.array_equal(video.decode([start], (24, 32))[0], frames[start])


@given(name=st.sampled_from(sorted(KINDS)), wanted=st.lists(st.integers(0, 36), min_size=1, max_size=20))
def test_any_frames_are_decoded_in_the_order_asked_for(
    videos: dict[str, tuple[Video, np.ndarray]], name: str, wanted: list[int]
) -> None:
    video, frames = videos[name]
    assert np.array_equal(video.decode(wanted, (24, 32)), frames[wanted])


def test_of_a_long_video_only_what_is_near_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a" / "long.mp4", moving(600), "libx264", 2, gop=12)
    seen = 0
    original = Video._numbered

    def counting(self: Video, frames: Any) -> Any:
        nonlocal seen
        for pair in original(self, frames):
            seen += 1
            yield pair

    monkeypatch.setattr(Video, "_numbered", counting)
    dataset = open_clips(tmp_path)
    held = dataset.read(dataset.cases[0])
    assert seen == 0
    for seed in range(5):
        dataset.draw(held, [(3, 8, 40, 40)], np.random.default_rng(seed))
    assert held[0].frames == 600
    assert 5 * 8 <= seen <= 5 * (8 + 12)
    assert path.is_file()


def test_frames_lie_the_stride_apart_and_begin_anywhere(tmp_path: Path) -> None:
    dataset = open_clips(folder(tmp_path), stride=3, resize=24)
    held = dataset.read(dataset.cases[0])
    starts = set()
    for seed in range(60):
        (clip,), _ = dataset.draw(held, [(3, 8, 24, 32)], np.random.default_rng(seed))
        numbers = pixels(clip)[0]  # (T, H, W)
        assert (numbers == numbers[:, :1, :1]).all()
        first = int(numbers[0, 0, 0])
        assert numbers[:, 0, 0].tolist() == [first + 3 * k for k in range(8)]
        starts.add(first)
    assert min(starts) == 0
    assert max(starts) == 40 - 22
    assert len(starts) > 12


def test_one_place_is_cropped_from_all_frames(tmp_path: Path) -> None:
    dataset = open_clips(folder(tmp_path), resize=24)  # their own size: nothing is interpolated
    held = dataset.read(dataset.cases[0])
    corners = set()
    for seed in range(40):
        (clip,), _ = dataset.draw(held, [(3, 4, 10, 12)], np.random.default_rng(seed))
        _, rows, columns = pixels(clip)
        assert clip.shape == (3, 4, 10, 12)
        assert (rows == rows[0, 0, 0] + np.arange(10)[:, None]).all()
        assert (columns == columns[0, 0, 0] + np.arange(12)).all()
        corners.add((int(rows[0, 0, 0]), int(columns[0, 0, 0])))
    assert {row for row, _ in corners} <= set(range(15))
    assert {column for _, column in corners} <= set(range(21))
    assert len(corners) > 25


@pytest.mark.parametrize(
    ("count", "stride", "expected"), [(5, 1, [0, 1, 2, 3, 4, 0, 1, 2]), (5, 2, [0, 2, 4, 1, 3] * 2)]
)
def test_a_short_clip_begins_again(tmp_path: Path, count: int, stride: int, expected: list[int]) -> None:
    dataset = open_clips(folder(tmp_path, count), stride=stride, resize=24)
    held = dataset.read(dataset.cases[0])
    (clip,), _ = dataset.draw(held, [(3, 8, 24, 32)], np.random.default_rng(0))
    assert pixels(clip)[0, :, 0, 0].tolist() == expected[:8]


@pytest.mark.parametrize(("patch", "shorter"), [((112, 112), 128), ((224, 224), 256)])
def test_the_shorter_side_is_that_of_the_published_set_ups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patch: tuple[int, int], shorter: int
) -> None:
    dataset = open_clips(folder(tmp_path, 4, (60, 80)))
    sizes = []
    original = Video.decode

    def noting(self: Video, wanted: Sequence[int], size: tuple[int, int]) -> np.ndarray:
        sizes.append(size)
        return original(self, wanted, size)

    monkeypatch.setattr(Video, "decode", noting)
    (clip,), _ = dataset.draw(dataset.read(dataset.cases[0]), [(3, 16, *patch)], np.random.default_rng(0))
    assert clip.shape == (3, 16, *patch)
    assert sizes == [(shorter, round(shorter * 80 / 60))]


def test_pixels_are_scaled_as_asked(tmp_path: Path) -> None:
    white = np.full((24, 32, 3), 255, np.uint8)
    for name in "ab":
        write(tmp_path / name / "v.avi", [white] * 3)

    def value(**settings: Any) -> list[float]:
        dataset = open_clips(tmp_path, **settings)
        (clip,), _ = dataset.draw(dataset.read(dataset.cases[0]), [(3, 2, 8, 8)], np.random.default_rng(0))
        return [round(v, 4) for v in clip[:, 0, 0, 0].tolist()]

    assert value() == [1, 1, 1]
    assert value(mean=0, sd=1) == [1, 1, 1]
    assert value(mean=[0.2, 0.4, 0.6], sd=[1, 2, 4]) == [0.8, 0.3, 0.1]


def test_the_same_seed_gives_the_same_sample(tmp_path: Path) -> None:
    dataset = open_clips(folder(tmp_path))

    def draw(seed: int, dataset: ClipFolders = dataset) -> torch.Tensor:
        (clip,), _ = dataset.draw(dataset.read(dataset.cases[1]), [(3, 4, 16, 16)], np.random.default_rng(seed))
        return clip

    assert torch.equal(draw(3), draw(3))
    assert torch.equal(draw(3), draw(3, pickle.loads(pickle.dumps(dataset))))  # for workers
    assert not torch.equal(draw(3), draw(4))


def test_classes_are_the_folders_in_the_order_of_their_names(tmp_path: Path) -> None:
    folder(tmp_path)
    (tmp_path / "run" / "._run1.avi").write_bytes(b"")  # what other programs leave
    (tmp_path / ".cache").mkdir()
    dataset = open_clips(tmp_path)
    assert dataset.class_names == ("run", "walk")
    assert dataset.classes() == 2
    assert dataset.channels() == (3,)
    assert [(case.name, case.target) for case in dataset.cases] == [("run/run1", 0), ("walk/walk1", 1)]
    assert dataset.of(TRAINING) == dataset.cases
    _, label = dataset.draw(dataset.read(dataset.cases[1]), [(3, 2, 8, 8)], np.random.default_rng(0))
    assert label.dtype == torch.int64
    assert (label.shape, label.item()) == ((), 1)


def test_folders_of_splits(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        folder(tmp_path / split, 2)
    dataset = open_clips(tmp_path)
    assert dataset.class_names == ("run", "walk")
    for split, word in ((TRAINING, "train"), (VALIDATION, "val"), (TESTING, "test")):
        assert [case.name for case in dataset.of(split)] == [f"{word}/run/run1", f"{word}/walk/walk1"]


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    for name in ("car", "train"):
        write(tmp_path / name / "a.avi", numbered(2))
    assert open_clips(tmp_path).class_names == ("car", "train")


def test_what_a_video_is(tmp_path: Path) -> None:
    dataset = open_clips(folder(tmp_path))
    facts = dataset.facts(dataset.cases[1])
    assert (facts.shape, dict(facts.labels), facts.problems) == ((3, 40, 24, 32), {1: 1}, ())
    (clip,), label = dataset.whole(dataset.read(dataset.cases[1]))
    assert clip.shape == (3, 16, 24, 32)
    assert pixels(clip)[0, [0, -1], 0, 0].tolist() == [0, 39]
    assert label.item() == 1


def ucf(root: Path, videos: str = ".") -> Path:
    lists = root / "ucfTrainTestlist"
    lists.mkdir(parents=True)
    (lists / "classInd.txt").write_text("1 Archery\n2 Biking\n")
    for number in (1, 2, 3):
        train = [f"{name}/v_{name}_g0{number}_c01.avi {k}" for k, name in enumerate(("Archery", "Biking"), start=1)]
        (lists / f"trainlist0{number}.txt").write_text("\r\n".join(train) + "\r\n")
        (lists / f"testlist0{number}.txt").write_text(f"Biking/v_Biking_g0{number % 3 + 1}_c01.avi\n")
        for name in ("Archery", "Biking"):
            write(root / videos / name / f"v_{name}_g0{number}_c01.avi", numbered(3))
    return root


@pytest.mark.parametrize("videos", [".", "UCF-101"])
def test_ucf101(tmp_path: Path, videos: str) -> None:
    root = ucf(tmp_path, videos)
    assert next(layout for layout in LAYOUTS if layout.recognises(root)) is UCF101
    for number in (1, 2, 3):
        dataset = UCF101.open(root, {"list": number})
        train = [(f"{name}/v_{name}_g0{number}_c01", k) for k, name in enumerate(("Archery", "Biking"))]
        assert [(case.name, case.target) for case in dataset.of(TRAINING)] == train
        test = [(f"Biking/v_Biking_g0{number % 3 + 1}_c01", 1)]
        assert [(case.name, case.target) for case in dataset.of(TESTING)] == test
        assert dataset.class_names == ("Archery", "Biking")
    assert UCF101.open(root, {}).cases == UCF101.open(root, {"list": 1}).cases
    (clip,), _ = dataset.draw(dataset.read(dataset.cases[0]), [(3, 16, 112, 112)], np.random.default_rng(0))
    assert clip.shape == (3, 16, 112, 112)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("classInd.txt", "1 Archery\n3 Biking\n", r"classInd.txt: line 2 is '3 Biking'; expected '2 CLASS'"),
        ("classInd.txt", "\n", r"classInd.txt: names no class; expected lines such as"),
        (
            "trainlist01.txt",
            "Archery/v_no.avi 1\n",
            r"Archery/v_no.avi: no such file; expected by line 1 of trainlist01",
        ),
        (
            "trainlist01.txt",
            "\nBikeing/v.avi 1\n",
            r"line 2 is 'Bikeing/v.avi 1'; expected CLASS/VIDEO .*mean 'Biking'",
        ),
        ("trainlist01.txt", "Biking/v_Biking_g01_c01.avi 1\n", r"line 1 is .*; Biking is 2 in classInd.txt"),
        ("testlist01.txt", None, r"testlist01.txt: a list that can't be read \(No such file"),
        ("testlist01.txt", b"\xff\xfe\x00", r"testlist01.txt: a list that can't be read \(it is no text"),
    ],
)
def test_lists_that_will_not_do(tmp_path: Path, file: str, text: str | bytes | None, message: str) -> None:
    place = ucf(tmp_path) / "ucfTrainTestlist" / file
    place.unlink()
    if text is not None:
        place.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError, match=message) as caught:
        UCF101.open(tmp_path, {})
    assert "\n" not in str(caught.value)


def audio(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def cut(path: Path, share: float, codec: str) -> None:
    write(path, moving(60), codec)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def short(path: Path) -> None:
    """Let the header of an AVI promise more frames than follow."""
    write(path, numbered(40))
    content = bytearray(path.read_bytes())
    length = content.index(b"strh") + 8 + 32  # dwLength of the stream's header
    assert struct.unpack_from("<I", content, length) == (40,)
    struct.pack_into("<I", content, length, 60)
    path.write_bytes(content)


BROKEN: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "text": ("v.avi", lambda path: path.write_text("hello " * 100), "a video that can't be decoded"),
    "empty": ("v.avi", lambda path: path.write_bytes(b""), "a video that can't be decoded"),
    "no index": ("v.mp4", lambda path: cut(path, 0.5, "libx264"), "a video that can't be decoded"),
    "short": ("v.avi", short, "a video cut short, 40 frames; its header says 60"),
    "half": (
        "v.avi",
        lambda path: cut(path, 0.5, "ffv1"),
        r"(cut short, \d+ frames; its header says 60|can't be decoded)",
    ),
    "audio": ("v.mp4", audio, "holds no video; expected a stream of pictures"),
    "gone": ("v.avi", lambda path: None, "no such file"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_video_that_can_not_be_decoded(tmp_path: Path, kind: str) -> None:
    folder(tmp_path, 2)
    name, make, message = BROKEN[kind]
    path = tmp_path / "run" / name
    make(path)
    dataset = open_clips(tmp_path)
    case = Case("run/v", (path,), 0)
    with pytest.raises(UsageError, match=f"--data {path}: .*{message}") as caught:
        dataset.read(case)
    assert "\n" not in str(caught.value)
    assert dataset.facts(case).problems == (str(caught.value),)


def test_a_frame_that_can_not_be_decoded(tmp_path: Path) -> None:
    path = write(tmp_path / "v.mkv", moving(30), "libx264")
    video = Video.look_through(path)
    assert video.times is not None
    longer = Video(path, 31, video.size, np.append(video.times, video.times[-1] + 40))
    with pytest.raises(UsageError, match=f"--data {path}: frame 30 of 31 can't be decoded"):
        longer.decode([29, 30], (24, 32))


def test_folders_that_will_not_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no folders; expected one for each class, with files ending in \.avi"):
        open_clips(tmp_path)
    folder(tmp_path, 2)
    (tmp_path / "sit").mkdir()
    (tmp_path / "sit" / "notes.txt").write_text("")
    with pytest.raises(
        UsageError, match=rf"--data {tmp_path / 'sit'}: a class without videos; expected files ending in"
    ):
        open_clips(tmp_path)
    with pytest.raises(UsageError, match=r"nowhere: can't be listed \(No such file or directory\)"):
        open_clips(tmp_path / "nowhere")
    assert ClipFolders.recognises(tmp_path)
    assert not any(layout.recognises(tmp_path / "nowhere") for layout in LAYOUTS)
    assert not any(layout.recognises(tmp_path / "sit") for layout in LAYOUTS)
    assert not any(layout.recognises(tmp_path / "sit" / "notes.txt") for layout in LAYOUTS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"strid": 2},
            "--set-data strid: no setting of clips; expected stride, resize, mean or sd; did you mean",
        ),
        ({"stride": 0}, "--set-data stride=0: expected a whole number of at least 1"),
        ({"stride": 1.5}, "--set-data stride=1.5: expected a whole number of at least 1"),
        ({"stride": True}, "--set-data stride=True: expected a whole number of at least 1"),
        ({"mean": [1, 2]}, r"--set-data mean=\[1, 2\]: expected one number or 3, such as mean=\[0.5, 0.5, 0.5\]"),
        ({"mean": "grey"}, "--set-data mean=grey: expected one number or 3"),
        ({"sd": 0}, "--set-data sd=0: expected one number or 3, .*; numbers above 0"),
    ],
)
def test_settings_that_will_not_do(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        open_clips(folder(tmp_path, 2), **settings)


def test_the_number_of_the_list(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--set-data list=4: expected a whole number from 1 to 3"):
        UCF101.open(ucf(tmp_path), {"list": 4})


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(3, 16, 16)], "--patch 16x16: expected the size of a clip, such as 16x112x112"),
        ([(1, 4, 16, 16)], r"--in-channels 1: the network takes 1 channel\(s\), a clip has 3"),
        ([(3, 4, 16, 16)] * 2, r"--data: the network takes 2 input\(s\), a clip gives 1"),
        ([(3, 4, 30, 16)], "--set-data resize=24: makes 24x32 into 24x32, smaller than --patch 30x16"),
    ],
)
def test_shapes_that_a_clip_has_not(tmp_path: Path, shapes: list[tuple[int, ...]], message: str) -> None:
    dataset = open_clips(folder(tmp_path, 4), resize=24)
    with pytest.raises(UsageError, match=message):
        dataset.draw(dataset.read(dataset.cases[0]), shapes, np.random.default_rng(0))


def test_without_pyav(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = open_clips(folder(tmp_path, 2))
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtra, match=r"pip install 'ranp\[video\]'"):
        dataset.facts(dataset.cases[0])


CLIPS = Path(__file__).parents[3] / ".." / "shared" / "data" / "video"


@pytest.mark.data
@pytest.mark.skipif(not CLIPS.is_dir(), reason="needs the clips beside the checkout")
@pytest.mark.parametrize("patch", [(16, 112, 112), (16, 224, 224)])
def test_the_clips(tmp_path: Path, patch: tuple[int, ...]) -> None:
    for name, frames, size in (("clip.avi", 164, (240, 320)), ("clip.mp4", 280, (256, 340))):
        (tmp_path / name[-3:]).mkdir()
        (tmp_path / name[-3:] / name).symlink_to((CLIPS / name).resolve())
        video = Video.look_through(CLIPS / name)
        assert (video.frames, video.size) == (frames, size)
    dataset = open_clips(tmp_path)
    assert next(layout for layout in LAYOUTS if layout.recognises(tmp_path)) is ClipFolders
    for case in dataset.cases:
        (clip,), label = dataset.draw(dataset.read(case), [(3, *patch)], np.random.default_rng(0))
        assert clip.shape == (3, *patch)
        assert label.item() == case.target
        assert clip.std() > 0.2
        assert (clip[:, 1:] - clip[:, :-1]).abs().mean() < 0.3 * clip.std()  # frames follow each other
