"""Clips, stereo pairs and pictures as `--data` opens them: batches, the same ones for any number of workers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ranp.data.sources import Drawing, open_source
from ranp.errors import UsageError

pytestmark = pytest.mark.usefixtures("typed")  # messages are those of the command line

Image = pytest.importorskip("PIL.Image")
av = pytest.importorskip("av")

SIZE = (24, 32)


def noise(seed: int, channels: int = 3) -> np.ndarray:
    shape = (*SIZE, channels) if channels > 1 else SIZE
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def picture(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def clips(root: Path) -> None:
    for seed, name in enumerate(("run", "walk")):
        (root / name).mkdir(parents=True)
        with av.open(str(root / name / "v.mkv"), "w") as container:
            stream = container.add_stream("ffv1", rate=25)
            (stream.height, stream.width), stream.pix_fmt = SIZE, "bgr0"
            for frame in (noise(10 * seed + k) for k in range(9)):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())


def pairs(root: Path) -> None:
    for seed in (0, 1):
        for side in ("left", "right"):
            picture(root / side / f"{seed}.png", noise(seed))
        picture(root / "disparity" / f"{seed}.png", noise(seed, 1).astype(np.uint16) * 256)


def masks(root: Path) -> None:
    for seed in (0, 1):
        picture(root / "images" / f"{seed}.png", noise(seed))
        picture(root / "masks" / f"{seed}.png", noise(seed, 1) // 128 * 255)


def pictures(root: Path) -> None:
    for seed, name in enumerate(("ant", "cat")):
        picture(root / name / "x.png", noise(seed))


CASES: dict[str, tuple[Callable[[Path], None], list[tuple[int, ...]], tuple[int, ...], Any]] = {
    "clips": (clips, [(3, 4, 12, 16)], (2,), (torch.int64, (2,))),
    "stereo": (pairs, [(3, 12, 16)] * 2, (12, 16), (torch.float32, (2, 12, 16))),
    "masks": (masks, [(3, 12, 16)], (2, 12, 16), (torch.int64, (2, 12, 16))),
    "pictures": (pictures, [(3, 12, 16)], (2,), (torch.int64, (2,))),
}


@pytest.mark.filterwarnings("ignore:masks hold 0 and 255 alone")
@pytest.mark.parametrize("word", CASES)
@pytest.mark.parametrize("named", [True, False])
def test_batches_are_the_same_for_any_number_of_workers(tmp_path: Path, word: str, named: bool) -> None:
    make, shapes, output, (dtype, shape) = CASES[word]
    make(tmp_path)

    def drawn(workers: int) -> list[Any]:
        opened = open_source(f"{word}:{tmp_path}" if named else str(tmp_path))
        assert opened.channels() == tuple(channels for channels, *_ in shapes)
        return list(opened.batches(shapes, output, Drawing(4, 2, seed=3, workers=workers)))

    alone, together = drawn(0), drawn(2 if named else 1)
    assert len(alone) == len(together) == 4
    for (inputs, target), (others, same) in zip(alone, together, strict=True):
        assert torch.equal(target, same)
        assert (target.dtype, tuple(target.shape)) == (dtype, shape)
        for one, other in zip(*(x if isinstance(x, tuple) else (x,) for x in (inputs, others)), strict=True):
            assert one.dtype == torch.float32
            assert torch.equal(one, other)
    assert not torch.equal(alone[0][1], alone[-1][1])


@pytest.mark.parametrize("word", ["clips", "pictures"])
def test_a_network_of_another_number_of_classes(tmp_path: Path, word: str) -> None:
    make, shapes, _, _ = CASES[word]
    make(tmp_path)
    with pytest.raises(UsageError, match=f"--classes 3: the {word} cases of .* are of 2"):
        open_source(str(tmp_path)).batches(shapes, (3,), Drawing())


@pytest.mark.parametrize("workers", [0, 1])
def test_a_mistake_is_one_line_wherever_it_is_met(tmp_path: Path, workers: int) -> None:
    pictures(tmp_path)
    (tmp_path / "cat" / "x.png").write_text("no picture")
    batches = open_source(str(tmp_path)).batches([(3, 12, 16)], (2,), Drawing(4, 2, workers=workers))
    with pytest.raises(UsageError, match=r"^--data .*cat/x\.png: a picture that can't be read [^\n]*$"):
        list(batches)
