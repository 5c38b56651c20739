"""The commands of docs/data.md on volumes, clips, stereo pairs and pictures take data in the layout above them.

They are dry runs: the layout is opened, a first batch drawn and the network traced.
"""

import json
import re
import shlex
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from ranp.commands.main import app
from ranp.data.layouts import LAYOUTS

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text().replace("\\\n", "")
COMMANDS = re.findall(r"^    (ranp prune .*--data \w+:.*)$", PAGE, flags=re.MULTILINE)

Image = pytest.importorskip("PIL.Image")
av = pytest.importorskip("av")
nibabel = pytest.importorskip("nibabel")

STEREO = (256, 512)


def picture(path: Path, size: tuple[int, int], kind: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    values = {
        "RGB": rng.integers(0, 256, (*size, 3)).astype(np.uint8),
        "mask": rng.integers(0, 2, size).astype(np.uint8),
        "16 bits": rng.integers(0, 64 * 256, size).astype(np.uint16),
    }[kind]
    Image.fromarray(values).save(path)


def pfm(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(0).uniform(1, 64, STEREO).astype("<f4")
    path.write_bytes(f"Pf\n{STEREO[1]} {STEREO[0]}\n-1.0\n".encode() + values.tobytes())


def video(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width = 60, 80
        for k in range(20):
            frame = np.full((60, 80, 3), 10 * k, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def ucf101(root: Path) -> None:
    names = ("ApplyEyeMakeup", "Archery")
    for name in names:
        video(root / name / f"v_{name}_g08_c01.avi")
    lists = root / "ucfTrainTestlist"
    lists.mkdir()
    (lists / "classInd.txt").write_text("".join(f"{k} {name}\n" for k, name in enumerate(names, start=1)))
    train = (f"{name}/v_{name}_g08_c01.avi {k}\n" for k, name in enumerate(names, start=1))
    (lists / "trainlist01.txt").write_text("".join(train))
    (lists / "testlist01.txt").write_text("Archery/v_Archery_g08_c01.avi\n")


def class_folders(root: Path) -> None:
    for name in ("a", "b"):
        video(root / name / "one.mp4")


def sceneflow(root: Path) -> None:
    for side in ("left", "right"):
        picture(root / "frames_cleanpass" / "TRAIN" / "A" / "0000" / side / "0006.png", STEREO)
    pfm(root / "disparity" / "TRAIN" / "A" / "0000" / "left" / "0006.pfm")


def kitti(root: Path) -> None:
    for side in ("image_2", "image_3"):
        picture(root / "training" / side / "000000_10.png", STEREO)
    picture(root / "training" / "disp_occ_0" / "000000_10.png", STEREO, "16 bits")


def middlebury(root: Path) -> None:
    for k in (0, 1):
        picture(root / "SCENE" / f"im{k}.png", STEREO)
    pfm(root / "SCENE" / "disp0.pfm")


def plain(root: Path) -> None:
    for side in ("left", "right"):
        picture(root / side / "a.png", STEREO)
    pfm(root / "disparity" / "a.pfm")


def voc(root: Path) -> None:
    picture(root / "JPEGImages" / "a.jpg", (300, 300))
    picture(root / "SegmentationClass" / "a.png", (300, 300), "mask")
    for name in ("train", "val"):
        (root / "ImageSets" / "Segmentation").mkdir(parents=True, exist_ok=True)
        (root / "ImageSets" / "Segmentation" / f"{name}.txt").write_text("a\n")


def masks(root: Path) -> None:
    picture(root / "images" / "a.png", (300, 300))
    picture(root / "labels" / "a.png", (300, 300), "mask")


def photographs(root: Path) -> None:
    for name in ("cat", "dog"):
        picture(root / name / "a.jpg", (100, 120))


def volume(path: Path, labels: tuple[int, ...] = ()) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    values = rng.choice(labels, (32, 32, 32)).astype(np.uint8) if labels else rng.normal(size=(32, 32, 32))
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)


def decathlon(root: Path) -> None:
    volume(root / "imagesTr" / "spleen_2.nii.gz")
    volume(root / "labelsTr" / "spleen_2.nii.gz", (0, 1))
    entry = {"image": "./imagesTr/spleen_2.nii.gz", "label": "./labelsTr/spleen_2.nii.gz"}
    content = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "spleen"}, "training": [entry]}
    (root / "dataset.json").write_text(json.dumps(content))


def nnunet(root: Path) -> None:
    volume(root / "imagesTr" / "hippocampus_001_0000.nii.gz")
    volume(root / "labelsTr" / "hippocampus_001.nii.gz", (0, 1, 2))
    labels = {"background": 0, "anterior": 1, "posterior": 2}
    content = {"channel_names": {"0": "MRI"}, "labels": labels, "file_ending": ".nii.gz"}
    (root / "dataset.json").write_text(json.dumps(content))
    (root / "splits_final.json").write_text(json.dumps([{"train": ["hippocampus_001"], "val": []}]))


def preprocessed(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder.parent / "dataset.json").write_text(json.dumps({"channel_names": {"0": "MRI"}, "labels": {"a": 0, "b": 1}}))
    for name, high in (("c0", 9), ("c0_seg", 2)):
        np.save(folder / f"{name}.npy", np.random.default_rng(0).integers(0, high, (1, 36, 36, 36)).astype(np.int16))


def brats(root: Path) -> None:
    for modality in ("t1", "t1ce", "t2", "flair"):
        volume(root / "HGG" / "CASE" / f"CASE_{modality}.nii.gz")
    volume(root / "HGG" / "CASE" / "CASE_seg.nii.gz", (0, 1, 2, 4))


def scans(root: Path) -> None:
    volume(root / "images" / "a.nii.gz")
    volume(root / "labels" / "a.nii.gz", (0, 255))


MAKE: dict[str, Callable[[Path], None]] = {
    "decathlon": decathlon,
    "nnunet": nnunet,
    "preprocessed": preprocessed,
    "brats": brats,
    "volumes": scans,
    "ucf101": ucf101,
    "clips": class_folders,
    "sceneflow": sceneflow,
    "kitti2015": kitti,
    "middlebury": middlebury,
    "stereo": plain,
    "voc": voc,
    "masks": masks,
    "pictures": photographs,
}


def data_of(command: str) -> tuple[str, str]:
    words = shlex.split(command)
    word, _, path = words[words.index("--data") + 1].partition(":")
    return word, path


OWN = [command for command in COMMANDS if data_of(command)[0] in MAKE]


def test_every_layout_has_a_command() -> None:
    own = [layout.word for layout in LAYOUTS if layout.word != "shapenet"]  # which has points, and a test of its own
    assert sorted(data_of(command)[0] for command in OWN) == sorted(own) == sorted(MAKE)


@pytest.mark.parametrize("command", OWN, ids=lambda command: data_of(command)[0])
def test_a_command_takes_its_layout(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    word, path = data_of(command)
    MAKE[word](tmp_path / path)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "volumes smaller than the patch")  # which these small ones are
        done = CliRunner().invoke(app, [*shlex.split(command)[1:], "--dry-run"])
    assert done.exit_code == 0, done.output[-2000:]
    assert "dry run: would write runs/" in done.stdout


def test_a_few_files_are_named_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (command,) = re.findall(r"^    (ranp prune .*--images case1.*)$", PAGE, flags=re.MULTILINE)
    for number in (1, 2):
        volume(tmp_path / f"case{number}.nii.gz")
        volume(tmp_path / f"labels{number}.nii.gz", (0, 1, 2))
    done = CliRunner().invoke(app, [*shlex.split(command)[1:], "--patch", "32", "--dry-run"])
    assert done.exit_code == 0, done.output[-2000:]
    assert "scored on 2 images" in done.stdout
