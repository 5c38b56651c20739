"""What `ranp data` finds: of cases on the disk, of loaders, of generators."""

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ranp.data.parts import CATEGORIES
from ranp.errors import UsageError
from ranp.jobs.data import look
from ranp.jobs.options import Data

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
pytestmark = pytest.mark.usefixtures("typed")  # messages are those of the command line


def asked(source: object, **given: Any) -> dict[str, Any]:
    return look(Data.read({"data": str(source), **given}))


@pytest.fixture
def shapenet(tmp_path: Path) -> Path:
    """Two mugs and a damaged one."""
    folder = tmp_path / "parts" / CATEGORIES["Mug"][0]
    folder.mkdir(parents=True)
    for name, points in (("a", 30), ("b", 20), ("c", 0)):
        rows = np.random.default_rng(points).normal(size=(points, 7))
        rows[:, 6] = 36 + (np.arange(points) < 10)
        np.savetxt(folder / f"{name}.txt", rows, fmt="%.4f")
    return tmp_path / "parts"


@pytest.fixture
def loader(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(
        textwrap.dedent("""
        from itertools import count
        import torch

        def endless(size: int = 6):
            for k in count():
                yield {"t1": torch.rand(2, 1, size, size), "seg": torch.full((2, 1, size, size), float(k % 3))}

        def classes(): return [(torch.rand(4, 3, 5, 5), torch.tensor([0, 2, 1, 2]))] * 3
        def stereo(): return [((torch.rand(2, 3, 4, 8),) * 2, torch.rand(2, 4, 8))]
        def values(): return [(torch.rand(2, 1, 4), torch.rand(2, 1, 4))]
        def keyword(): return [({"x": torch.rand(2, 1, 4, 4)}, {"y": torch.full((2, 4, 4), 255)})]
        def ignoring():
            labels = torch.zeros(1, 4, 4, dtype=torch.int64)
            labels[0, :2], labels[0, 2] = 255, 1
            return [(torch.rand(1, 1, 4, 4), labels)]
        """)
    )
    return path


def test_cases_on_the_disk(shapenet: Path) -> None:
    found = asked(shapenet)
    assert {key: found[key] for key in ("kind", "layout", "path", "source", "task", "cases", "looked_at")} == {
        "kind": "files",
        "layout": "shapenet",
        "path": str(shapenet),
        "source": str(shapenet),
        "task": "segmentation",
        "cases": 3,
        "looked_at": 3,
    }
    assert (found["channels"], found["classes"], found["splits"], found["without_target"]) == ([1], 50, {}, 0)
    assert found["shapes"] == [{"value": [30, 3], "cases": 1}, {"value": [20, 3], "cases": 1}]
    assert found["spacings"] == found["axes"] == []
    handle, cup = found["labels"]
    assert handle == {"value": 36, "name": "mug handle", "count": 30, "share": 0.6, "cases": 2}
    assert cup == {"value": 37, "name": "mug cup", "count": 20, "share": 0.4, "cases": 2}
    (problem,) = found["problems"]
    assert problem["case"] == "Mug/c"
    assert "c.txt: 0x7 numbers; expected x y z nx ny nz part" in problem["problem"]


def test_some_cases_and_settings(shapenet: Path) -> None:
    found = asked(shapenet, cases=1, data_settings=["categories=[Mug]", "background=true"])
    assert (found["cases"], found["looked_at"], found["classes"]) == (3, 1, 3)
    assert [(each["value"], each["count"]) for each in found["labels"]] == [(1, 20), (2, 10)]
    assert found["class_names"] == ["background", "mug handle", "mug cup"]
    with pytest.raises(UsageError, match=r"--set-data categries: .*did you mean 'categories'"):
        asked(shapenet, data_settings=["categries=[Mug]"])


def test_cases_are_counted_as_they_are_looked_at(shapenet: Path) -> None:
    seen = []

    def track(items: Any) -> Any:
        for item in items:
            seen.append(item.name)
            yield item

    look(Data.read({"data": str(shapenet)}), track)
    assert seen == ["Mug/a", "Mug/b", "Mug/c"]


def test_a_loader_without_an_end_and_its_dicts(loader: Path) -> None:
    found = asked(f"{loader}:endless", keys="t1,seg", data_settings=["size=5"])
    assert (found["kind"], found["task"], found["cases"], found["looked_at"]) == ("loader", "segmentation", 8, 8)
    assert (found["batch_size"], found["channels"], found["classes"]) == (2, [1], 3)
    assert found["shapes"] == [{"value": [1, 5, 5], "cases": 8}]
    assert [(each["value"], each["cases"]) for each in found["labels"]] == [(0, 3), (1, 3), (2, 2)]
    assert sum(each["share"] for each in found["labels"]) == pytest.approx(1)
    with pytest.raises(UsageError, match=r"has no 'image': name those of the inputs and the target with --keys"):
        asked(f"{loader}:endless")
    with pytest.raises(
        UsageError, match=r"--keys image: expected those of the inputs and the target: image,label or t1\+t2,seg"
    ):
        asked(f"{loader}:endless", keys="image")


@pytest.mark.parametrize(
    ("name", "task", "channels", "labels"),
    [
        ("classes", "classification", [3], [(0, 3), (1, 3), (2, 6)]),
        ("stereo", "stereo", [3, 3], []),
        ("values", "", [1], []),
        ("keyword", "segmentation", [1], [(255, 32)]),
        ("ignoring", "segmentation", [1], [(0, 4), (1, 4), (255, 8)]),
    ],
)
def test_what_batches_are_for_is_told_by_their_shapes(
    loader: Path, name: str, task: str, channels: list[int], labels: list[tuple[int, int]]
) -> None:
    found = asked(f"{loader}:{name}")
    assert (found["task"], found["channels"]) == (task, channels)
    assert [(each["value"], each["count"]) for each in found["labels"]] == labels
    shares = {each["value"]: each["share"] for each in found["labels"]}
    assert shares.pop(255, None) is None
    assert sum(shares.values()) == pytest.approx(1 if shares else 0)


def test_generators() -> None:
    found = asked("shapes", patch="12x16", cases=3, data_settings=["classes=4"])
    assert (found["kind"], found["task"], found["looked_at"], found["classes"]) == ("generator", "segmentation", 3, 4)
    assert found["shapes"] == [{"value": [1, 12, 16], "cases": 3}]
    assert found["class_names"] == ["bag handle", "bag body", "cap panels", "cap peak"]
    assert {each["name"] for each in found["labels"]} <= {*found["class_names"], "ignored"}
    assert found["labels"] == asked("shapes", patch="12x16", cases=3, data_settings=["classes=4"])["labels"]
    assert found["labels"] != asked("shapes", patch="12x16", cases=3, data_settings=["classes=4"], seed=1)["labels"]
    assert asked("phantom", patch="12", cases=2)["classes"] == 4
    with pytest.raises(UsageError, match=r"--set-data clases: shapes takes patch, .*did you mean 'classes'"):
        asked("shapes", data_settings=["clases=4"])


def test_a_sheet_of_every_kind(shapenet: Path, loader: Path, tmp_path: Path) -> None:
    sources: dict[str, dict[str, Any]] = {
        str(shapenet): {},
        f"{loader}:endless": {"keys": "t1,seg"},
        f"{loader}:classes": {},
        f"{loader}:stereo": {},
        "shapes": {"patch": "12", "cases": 2},
    }
    for number, (source, more) in enumerate(sources.items()):
        sheet = tmp_path / f"{number}.png"
        assert asked(source, sheet=sheet, **more)["sheet"] == str(sheet)
        assert sheet.read_bytes().startswith(b"\x89PNG")


def test_a_sheet_that_cannot_be_drawn(shapenet: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--sheet .*a.jpg: expected a picture: .png, .pdf or .svg"):
        asked(shapenet, sheet=tmp_path / "a.jpg")
    with pytest.raises(UsageError, match=r"--sheet .*: no folder"):
        asked(shapenet, sheet=tmp_path / "no" / "a.png")
    (tmp_path / "a.png").write_text("mine")
    with pytest.raises(UsageError, match=r"--sheet .*a.png exists"):
        asked(shapenet, sheet=tmp_path / "a.png")
    for name in ("a", "b"):
        (shapenet / CATEGORIES["Mug"][0] / f"{name}.txt").write_text("")
    with pytest.raises(UsageError, match=r"--sheet .*b.png: nothing can be drawn; .*a.txt: 0x7 numbers"):
        asked(shapenet, sheet=tmp_path / "b.png")
    assert not (tmp_path / "b.png").exists()


def test_what_only_reading_shows_is_a_problem_too(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    voxels = np.random.default_rng(0).normal(size=(6, 5, 4)).astype(np.float32)
    for name, image in (("a", voxels), ("b", np.full_like(voxels, np.nan))):
        for folder, values in (("images", image), ("labels", (voxels > 0).astype(np.uint8))):
            (tmp_path / folder).mkdir(exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(values, np.diag([2.0, 1, 3, 1])), tmp_path / folder / f"{name}.nii.gz")
    assert asked(tmp_path)["problems"] == []
    found = asked(tmp_path, sheet=tmp_path / "sheet.png")
    (problem,) = found["problems"]
    assert problem["case"] == "b"
    assert "NaN" in problem["problem"]
    assert (tmp_path / "sheet.png").exists()
    assert found["spacings"] == [{"value": [2.0, 1.0, 3.0], "cases": 2}]
    assert found["axes"] == [{"value": "RAS", "cases": 2}]
    assert found["classes"] == 2


@pytest.mark.data
def test_real_volumes_pairs_and_clips(tmp_path: Path) -> None:
    """What the files are known to hold."""
    if not SHARED.is_dir():
        pytest.skip(f"no {SHARED}")
    places = {
        "volumes/images/ct.nii.gz": "ct/ct.nii.gz",
        "volumes/labels/ct.nii.gz": "ct/organs.nii.gz",
        "volumes/images/mr.nii.gz": "ct/mr_slab.nii.gz",
        "volumes/labels/mr.nii.gz": "ct/mr_slab_organs.nii.gz",
        "pairs/left/motorcycle.png": "stereo/motorcycle_left.png",
        "pairs/right/motorcycle.png": "stereo/motorcycle_right.png",
        "pairs/disparity/motorcycle.pfm": "stereo/motorcycle_disp.pfm",
        "clips/wrestling/clip.avi": "video/clip.avi",
    }
    for place, source in places.items():
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).symlink_to(SHARED / source)
    volumes = asked(tmp_path / "volumes", sheet=tmp_path / "volumes.png")
    assert {each["value"] for each in volumes["axes"]} == {"RAS", "LPS"}
    assert volumes["spacings"] == [{"value": [3.0, 3.0, 3.0], "cases": 2}]
    assert [1, 122, 101, 112] in [each["value"] for each in volumes["shapes"]]
    assert len(asked(tmp_path / "volumes", cases=1)["labels"]) == 62  # 61 organs and the background
    pairs = asked(tmp_path / "pairs", sheet=tmp_path / "pairs.png")
    assert (pairs["task"], pairs["shapes"][0]["value"]) == ("stereo", [3, 500, 741])
    clips = asked(tmp_path / "clips", sheet=tmp_path / "clips.png")
    assert (clips["task"], clips["class_names"]) == ("classification", ["wrestling"])
    assert volumes["problems"] == pairs["problems"] == clips["problems"] == []


def test_unknown_sources(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"SOURCE shape: no file or folder, nor one of phantom, .*did you mean 'shapes'"
    ):
        asked("shape")
    with pytest.raises(UsageError, match=r"no layout is called 'shapnet'; .*did you mean 'shapenet'"):
        asked(f"shapnet:{tmp_path}")
    with pytest.raises(UsageError, match=r"of no layout that is known; looked for .*shapenet"):
        asked(tmp_path)


def test_loose_volumes_and_files_that_are_named_are_looked_at(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    rng = np.random.default_rng(0)
    for name, values in (("t1", rng.normal(size=(6, 5, 4))), ("masks", rng.integers(0, 2, (6, 5, 4)) * 255)):
        nibabel.save(
            nibabel.Nifti1Image(values.astype(np.int16), np.diag([-1.0, -1, 3, 1])), tmp_path / f"{name}.nii.gz"
        )
    loose = look(Data.read({"data": str(tmp_path)}))
    assert (loose["layout"], loose["cases"], loose["without_target"]) == ("volumes", 2, 2)
    assert loose["spacings"] == [{"value": [1.0, 1.0, 3.0], "cases": 2}]
    assert loose["axes"] == [{"value": "LPS", "cases": 2}]
    files = {"images": (tmp_path / "t1.nii.gz",), "labels": (tmp_path / "masks.nii.gz",)}
    found = look(Data.read({"data": "nifti", **files}))
    assert found["classes"] == 2
    assert [label["value"] for label in found["labels"]] == [0, 255]
    assert sum(label["share"] for label in found["labels"]) == pytest.approx(1)
    with pytest.raises(UsageError, match="are looked at as the SOURCE nifti, not phantom"):
        look(Data.read({"data": "phantom", **files}))
