"""Export: every built-in and the common networks of MONAI agree with onnxruntime; a file that does not is not kept."""

import errno
import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ranp import models, runs
from ranp.errors import CheckFailed, UnsupportedError, UsageError
from ranp.export import _onnx_file as onnx_file
from ranp.export import export_run
from ranp.export._run import target_of
from ranp.graph.build import trace
from ranp.models.init import initialise_
from ranp.models.spec import resolve
from ranp.selection import select
from ranp.surgery import slim

pytestmark = pytest.mark.usefixtures("typed")  # messages are those of the command line

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

SMALL: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "unet3d": ({"base_width": 4, "depth": 3}, (8, 8, 8)),
    "unet2d": ({"base_width": 4, "depth": 3}, (16, 16)),
    "segnet": ({"width": 4}, (32, 32)),
    "colourisation": ({"width": 2}, (16, 16)),
    "context": ({"width": 2, "hidden": 8}, (16, 16)),
    "deconvnet": ({"width": 4, "hidden": 8, "bottleneck": 2}, (64, 64)),
    "eigen-fergus": ({"width": 8, "hidden": 8, "coarse": [2, 3]}, (32, 48)),
    "fcn16s": ({"width": 2, "hidden": 8, "learned": False}, (32, 32)),
    "fcn32s": ({"width": 2, "hidden": 8}, (32, 32)),
    "fcn8s": ({"width": 4, "hidden": 8}, (32, 32)),
    "hypercolumns": ({"width": 2, "hidden": 8, "grid": 2}, (32, 32)),
    "ubernet": ({"width": 2, "hidden": 8, "tasks": [3, 2], "scales": [1.0, 0.5]}, (64, 64)),
    "zoomout": ({"width": 2, "hidden": 8, "units": 8, "side": 32, "superpixels": 2, "scenes": True}, (32, 32)),
    "fpn": ({"width": 4}, (64, 64)),
    "deeplab": ({"width": 4}, (64, 64)),
    "i3d": ({"width": 0.1, "pool": [1, 1, 1]}, (8, 32, 32)),
    "mobilenetv2-3d": ({"width": 0.1}, (8, 32, 32)),
    "maskrcnn": ({"width": 2, "keypoints": 2}, (32, 32)),
    "panoptic-fpn": ({"width": 4, "stuff": 3}, (64, 64)),
    "psm": ({"maxdisp": 16, "width": 4, "pools": [8, 4, 2, 1]}, (32, 32)),
}
MONAI: dict[str, dict[str, Any]] = {
    "UNet": {"channels": [4, 8, 16], "strides": [2, 2], "num_res_units": 1},
    "DynUNet": {"kernel_size": [3, 3, 3], "strides": [1, 2, 2], "upsample_kernel_size": [2, 2], "filters": [4, 8, 16]},
    "SegResNet": {"init_filters": 8, "blocks_down": [1, 1], "blocks_up": [1]},
}


def saved(
    path: Path, model: nn.Module, inputs: tuple[Tensor, ...] | dict[str, Tensor], config: dict[str, Any] | None = None
) -> runs.Run:
    initialise_(model, "glorot", torch.Generator().manual_seed(0))
    graph = trace(model, inputs)
    plan = select(graph, None, rule="random", sparsity=0.3)
    runs.save(path, slim(model, plan), plan, {"kept": "as it was"}, config or {})
    return runs.read(path)


def built_in(path: Path, name: str) -> runs.Run:
    settings, spatial = SMALL[name]
    known = models.full_settings(name)
    settings = {"in_channels": 2, **settings} | ({"classes": 3} if "classes" in known else {})
    shapes = models.input_shapes(name, settings, spatial)
    inputs = tuple(torch.zeros(1, *shape) for shape in shapes)
    return saved(path, models.build(name, **settings), inputs, {"model": name, "settings": settings})


def test_every_built_in_is_tried() -> None:
    assert set(SMALL) == set(models.names())


@pytest.mark.parametrize("name", SMALL)
def test_built_ins_agree_with_onnxruntime(tmp_path: Path, name: str) -> None:
    run = built_in(tmp_path / "run", name)
    found = export_run(run)["onnx"]
    assert found["passed"]
    assert len(found["parity"]) == 3
    assert (found["parity"][0]["agreement"] is None) == (name in ("psm", "maskrcnn"))
    assert found["inputs"] == (["left", "right"] if name == "psm" else found["inputs"])
    stored = onnx.load(str(run.path / "slim.onnx"))
    assert [entry.version for entry in stored.opset_import if entry.domain == ""] == [20]
    report = json.loads((run.path / "report.json").read_text())
    assert report["kept"] == "as it was"
    assert report["onnx"]["sha256"] == found["sha256"]
    assert "path" not in report["onnx"]


@pytest.mark.parametrize("name", MONAI)
def test_networks_of_monai_agree_at_free_sizes(tmp_path: Path, name: str) -> None:
    settings = {"spatial_dims": 2, "in_channels": 1, "out_channels": 3, **MONAI[name]}
    spec = f"monai.networks.nets:{name}"
    run = saved(
        tmp_path / "run", resolve(spec, settings), (torch.zeros(1, 1, 16, 16),), {"model": spec, "settings": settings}
    )
    found = export_run(run, dynamic=True, opset=21)["onnx"]
    assert found["passed"]
    step = "2n" if name == "SegResNet" else "4n"
    assert found["sizes"] == {"batch": "n", "height": step, "width": step}
    assert {tuple(case["shapes"][0]) for case in found["parity"]} >= {(1, 1, 16, 16), (2, 1, 16, 16)}
    stored = onnx.load(str(run.path / "slim.onnx"))
    assert json.loads({entry.key: entry.value for entry in stored.metadata_props}["sizes"]) == found["sizes"]
    assert [dim.dim_param for dim in stored.graph.input[0].type.tensor_type.shape.dim] == [
        "batch",
        "",
        "height",
        "width",
    ]


class Free(nn.Module):
    """Small, with sizes that must be even and inputs by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(1, 4, 3, 2, 1), nn.ConvTranspose2d(4, 4, 2, 2)
        self.join, self.head = nn.Conv2d(5, 4, 3, padding=1), nn.Conv2d(4, 2, 1)

    def forward(self, image: Tensor, other: Tensor) -> dict[str, Tensor]:
        x = self.join(torch.cat([self.up(self.down(image).relu()), other], 1)).relu()
        return {"logits": self.head(x), "features": x}


@pytest.fixture(scope="module")
def free(tmp_path_factory: pytest.TempPathFactory) -> runs.Run:
    inputs = {"image": torch.zeros(1, 1, 8, 12), "other": torch.zeros(1, 1, 8, 12)}
    return saved(tmp_path_factory.mktemp("free") / "run", Free(), inputs)


def test_free_sizes_of_keyword_inputs_and_several_outputs(free: runs.Run, tmp_path: Path) -> None:
    files = {"onnx": tmp_path / "net.onnx", "torch_export": tmp_path / "net.pt2"}
    found = export_run(free, model=Free(), dynamic=True, **files)
    for entry in found.values():
        assert entry["passed"]
        assert entry["sizes"] == {"batch": "n", "height": "2n", "width": "2n"}
        assert [case["shapes"][0] for case in entry["parity"]] == [
            [1, 1, 8, 12],
            [2, 1, 8, 12],
            [1, 1, 10, 14],
            [1, 1, 4, 6],
        ]
    stored = onnx.load(str(files["onnx"]))
    assert [each.name for each in stored.graph.output] == ["output_0", "output_1"]
    program = torch.export.load(files["torch_export"])
    assert not any("stack_trace" in node.meta for node in program.graph.nodes)


def test_files_hold_no_local_path_and_are_equal_byte_for_byte(free: runs.Run, tmp_path: Path) -> None:
    for name in ("a.onnx", "b.onnx"):
        export_run(free, onnx=tmp_path / name, model=Free())
    content = (tmp_path / "a.onnx").read_bytes()
    assert content == (tmp_path / "b.onnx").read_bytes()
    assert (
        b"/" not in content.replace(b"http://", b"").replace(b"ai.onnx", b"") or str(Path.cwd()).encode() not in content
    )
    assert b".py" not in content
    assert str(tmp_path).encode() not in content


def test_weights_beyond_the_limit_lie_beside_the_file(
    free: runs.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_file, "LIMIT", 100)
    found = export_run(free, onnx=tmp_path / "net.onnx", model=Free())["onnx"]
    data = [each.name for each in tmp_path.glob("*.data")]
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted(["net.onnx", *data])
    assert len(data) == 1
    (tmp_path / "opset").mkdir()
    export_run(free, onnx=tmp_path / "opset" / "net.onnx", model=Free(), opset=21)
    # Laid out otherwise, so named otherwise: a kill between two renames leaves the old file with its own weights.
    assert [each.name for each in (tmp_path / "opset").glob("*.data")] != data
    shutil.rmtree(tmp_path / "opset")
    monkeypatch.setattr(onnx_file, "LIMIT", 10**9)
    (tmp_path / "again").mkdir()
    for each in (tmp_path / "net.onnx", tmp_path / data[0]):
        shutil.copy(each, tmp_path / "again")
    export_run(free, onnx=tmp_path / "again" / "net.onnx", model=Free(), force=True)
    assert [each.name for each in (tmp_path / "again").iterdir()] == ["net.onnx"]
    moved = tmp_path / "moved"
    tmp_path.joinpath("net.onnx").rename(moved.with_suffix(".onnx"))
    run = onnx_file.opened(moved.with_suffix(".onnx"), found["inputs"])
    assert run([torch.zeros(1, 1, 8, 12)] * 2)[0].shape == (1, 2, 8, 12)


def test_every_opset_that_is_offered_runs_and_the_next_is_refused(free: runs.Run, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--opset 999: expected 18 to") as error:
        export_run(free, onnx=tmp_path / "net.onnx", model=Free(), opset=999)
    newest = int(str(error.value).split()[-1])
    for opset in (18, newest):
        found = export_run(free, onnx=tmp_path / "net.onnx", model=Free(), opset=opset, force=True)["onnx"]
        assert (found["passed"], found["opset"]) == (True, opset)
    with pytest.raises(UsageError, match=f"--opset {newest + 1}: expected"):
        export_run(free, onnx=tmp_path / "net.onnx", model=Free(), opset=newest + 1, force=True)


def test_an_existing_file_needs_force_and_the_opset_is_checked(free: runs.Run, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_text("mine")
    with pytest.raises(UsageError, match=r"--onnx .* exists"):
        export_run(free, onnx=path, model=Free())
    with pytest.raises(UsageError, match="--opset 11: expected 18 to"):
        export_run(free, onnx=path, model=Free(), opset=11, force=True)
    with pytest.raises(UsageError, match="no folder"):
        export_run(free, onnx=tmp_path / "none" / "net.onnx", model=Free())
    assert path.read_text() == "mine"
    export_run(free, onnx=path, model=Free(), force=True, dry_run=True)
    assert path.read_text() == "mine"


class Baked(nn.Module):
    """Turns a value of its input into a constant, which an export cannot see."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last, self.seen = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 2, 1), 0

    def forward(self, x: Tensor) -> Tensor:
        self.seen += 1
        return self.last(self.first(x)) * self.seen


def test_a_file_that_differs_is_an_error_and_is_not_kept(tmp_path: Path) -> None:
    run = saved(tmp_path / "run", Baked(), (torch.zeros(1, 1, 8, 8),))
    before = sorted(path.name for path in run.path.iterdir()), (run.path / "report.json").read_bytes()
    with pytest.raises(CheckFailed, match=r"slim.onnx: on inputs .* the file was not kept"):
        export_run(run, model=Baked())
    with pytest.raises(CheckFailed, match=r"slim.pt2: on inputs"):
        export_run(run, model=Baked(), torch_export=run.path / "slim.pt2")
    assert (sorted(path.name for path in run.path.iterdir()), (run.path / "report.json").read_bytes()) == before


class Deciding(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.sum() > 0 else x


@pytest.mark.parametrize(
    ("last", "shape", "message"),
    [
        (nn.AdaptiveAvgPool3d(2), (1, 1, 9, 9, 9), r"_adaptive_avg_pool3d at 1 \(AdaptiveAvgPool3d\)"),
        (Deciding(), (1, 1, 8, 8), r"at 1 \(Deciding\): .*Could not guard on data-dependent"),
    ],
)
def test_what_can_not_be_exported_is_named(
    tmp_path: Path, last: nn.Module, shape: tuple[int, ...], message: str
) -> None:
    first = nn.Conv3d(1, 4, 3) if len(shape) == 5 else nn.Conv2d(1, 4, 3)
    head = nn.Conv3d(4, 2, 1) if len(shape) == 5 else nn.Conv2d(4, 2, 1)
    model = nn.Sequential(first, last, head)
    run = saved(tmp_path / "run", model, (torch.zeros(shape),))
    with pytest.raises(UnsupportedError, match=message):
        export_run(run, model=model)
    assert not (run.path / "slim.onnx").exists()


@pytest.mark.parametrize(
    ("pool", "message"),
    [
        (nn.AdaptiveAvgPool2d(2), r"--dynamic: .*adaptive_avg_pool2d to 2x2 at 1: pool to size 1"),
        (nn.AdaptiveMaxPool2d((1, 3)), r"--dynamic: .*adaptive_max_pool2d to 1x3 at 1: pool to size 1"),
        (nn.AdaptiveAvgPool2d((5, None)), r"--dynamic: .*adaptive_avg_pool2d to 5x12 at 1: pool to size 1"),
    ],
)
def test_a_pool_to_a_fixed_size_has_one_size_alone(tmp_path: Path, pool: nn.Module, message: str) -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), pool, nn.Conv2d(4, 2, 1))
    run = saved(tmp_path / "run", model, (torch.zeros(1, 1, 12, 12),))
    with pytest.raises(UnsupportedError, match=message):
        export_run(run, model=model, dynamic=True)
    assert not (run.path / "slim.onnx").exists()
    assert export_run(run, model=model, dynamic=True, torch_export=tmp_path / "a.pt2")["torch_export"]["passed"]


class Refined(nn.Module):
    """Ends in something a file can't hold, and says what to export instead."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x).softmax(1)

    def export_module(self) -> tuple[nn.Module, str]:
        return self.body, "ends at the logits"


def test_a_module_may_say_what_is_exported_in_its_place(tmp_path: Path) -> None:
    run = saved(tmp_path / "run", Refined(), (torch.zeros(1, 1, 8, 8),))
    found = export_run(run, model=Refined())["onnx"]
    assert found["note"] == "ends at the logits"
    assert found["inputs"] == ["input"]
    run = runs.read(run.path)
    assert run.values["onnx"]["note"] == found["note"]
    nodes = [node.op_type for node in onnx.load(str(run.path / "slim.onnx")).graph.node]
    assert nodes[-1] == "Conv"


def test_a_kill_leaves_the_old_file_or_the_new_one(
    free: runs.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network is converted once; what is repeated and killed is all that writes."""
    pytest.importorskip("resource", reason="needs fork and the signals of Unix")
    from killing import content, every_step, killed_beyond

    targets = [target_of(free, Free(), seed=seed) for seed in (0, 1)]
    programs = [
        onnx_file.convert(each.model, each.inputs, each.names, (), opset, {})
        for each, opset in zip(targets, (20, 21), strict=True)
    ]
    source, folder = Path(shutil.copytree(free.path, tmp_path / "source")), tmp_path / "run"

    def write(path: Path, turn: int) -> None:
        monkeypatch.setattr(onnx_file, "convert", lambda *_: programs[turn])
        monkeypatch.setattr("ranp.export._run.target_of", lambda *_, **__: targets[turn])
        export_run(runs.read(path), force=True)

    def left() -> dict[str, bytes]:
        """Return what a child left, but for what it never finished, and put the old files back."""
        assert runs.read(folder).values["onnx"]["passed"]
        files = {name: data for name, data in content(folder).items() if not name.startswith(".")}
        shutil.rmtree(folder)
        shutil.copytree(source, folder)
        return files

    write(source, 0)
    shutil.copytree(source, folder)
    old = content(folder)
    *killed, new = [left() for _ in every_step(lambda: write(folder, 1))]  # the last child lived
    assert old["slim.onnx"] != new["slim.onnx"]
    states = [old, {**old, "slim.onnx": new["slim.onnx"]}, new]  # the file takes its name before the report
    seen = [states.index(each) for each in killed]
    assert seen == sorted(seen)
    assert {0, 2} <= set(seen)
    for size in (len(new[name]) for name in ("slim.onnx", "report.json")):
        for cut in (0, size // 2, size - 1):
            assert killed_beyond(cut, lambda: write(folder, 1))
            assert left() == old


def test_a_target_is_in_evaluation_mode_and_float32(free: runs.Run) -> None:
    target = target_of(free, Free())
    assert not target.model.training
    assert {p.dtype for p in target.model.parameters()} == {torch.float32}
    assert not target.axes
    assert len(target.cases) == 3


def test_a_disk_that_fills_at_the_report_leaves_the_old_file(
    free: runs.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(free.path, tmp_path / "run"))
    (folder / "slim.onnx").write_text("mine")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(*_: Any) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(runs.Run, "report_with", full)
    with pytest.raises(UsageError, match="the disk is full; nothing was written"):
        export_run(runs.read(folder), model=Free(), force=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_two_files_need_two_places(free: runs.Run, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--onnx writes there"):
        export_run(free, onnx=tmp_path / "a", torch_export=tmp_path / "." / "a", model=Free())
    with pytest.raises(UsageError, match=r"--onnx .*: a folder"):
        export_run(free, onnx=tmp_path, model=Free(), force=True)


class Shrinking(nn.Module):
    """Has a size of 1 inside, which torch.export takes for fixed."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 4, 3, 8, 1), nn.Conv2d(4, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        return self.last(self.first(image)).mean((2, 3))


def test_a_program_that_refuses_a_size_is_one_that_can_not_be_captured(tmp_path: Path) -> None:
    run = saved(tmp_path / "run", Shrinking(), (torch.zeros(2, 1, 8, 8),))
    assert export_run(run, model=Shrinking(), dynamic=True)["onnx"]["passed"]
    with pytest.raises(UnsupportedError, match=r"--torch-export: the captured program refuses inputs of 2x1x"):
        export_run(run, model=Shrinking(), dynamic=True, torch_export=tmp_path / "slim.pt2")
    assert not (tmp_path / "slim.pt2").exists()


def test_a_torchscript_file_says_the_same(tmp_path: Path) -> None:
    path, run = tmp_path / "slim.ts", built_in(tmp_path / "run", "unet2d")
    (entry,) = export_run(run, torchscript=path).values()
    assert entry["passed"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = torch.jit.load(path)
    assert sum(p.numel() for p in loaded.parameters()) == sum(p.numel() for p in run.slim().parameters())
    with pytest.raises(UsageError, match="replace it with"):
        export_run(run, torchscript=path)
    with pytest.raises(UsageError, match="writes there"):
        export_run(run, torchscript=tmp_path / "a", torch_export=tmp_path / "a")
