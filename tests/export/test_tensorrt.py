"""The published limits of TensorRT: graphs written by hand meet the ones they should, and networks the ones they do."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ranp.commands.main import app
from ranp.export import _tensorrt as tensorrt

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
ir = pytest.importorskip("onnx_ir")
FLOAT, INT64, BOOL, DOUBLE = (getattr(onnx.TensorProto, name) for name in ("FLOAT", "INT64", "BOOL", "DOUBLE"))
NO, CARE = True, False


def graph(
    op: str,
    shape: tuple[Any, ...] = (1, 2, 8, 8),
    kind: int = FLOAT,
    more: tuple[str, ...] = (),
    outputs: int = 1,
    opset: int = 20,
    domain: str = "",
    constants: tuple[Any, ...] = (),
    **attributes: Any,
) -> Any:
    """Return a model of one node: of `x`, further inputs that are computed, and constants."""
    helper = onnx.helper
    held = [onnx.numpy_helper.from_array(value, f"c{number}") for number, value in enumerate(constants)]
    names = [f"y{number}" for number in range(outputs)]
    inputs = ["x", *more, *(tensor.name for tensor in held)]
    node = helper.make_node(op, inputs, names, name="the_node", domain=domain, **attributes)
    given = [helper.make_tensor_value_info("x", kind, shape)]
    given += [helper.make_tensor_value_info(name, INT64, (1,)) for name in more if name]
    made = [helper.make_tensor_value_info(name, FLOAT, None) for name in names]
    ids = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return ir.from_proto(helper.make_model(helper.make_graph([node], "g", given, made, held), opset_imports=ids))


def met(model: Any) -> list[tuple[str, str, bool, str]]:
    return [(note.op, note.node, note.refused, note.limit) for note in tensorrt.notes(model)]


VOLUME = (1, 2, 8, 8, 8)


@pytest.mark.parametrize(
    ("made", "refused", "limit"),
    [
        (graph("MaxUnpool", kernel_shape=[2, 2]), NO, "not supported"),
        (graph("GridSample", VOLUME), NO, "an input of 5 axes; taken are images"),
        (graph("Resize", VOLUME, mode="cubic"), NO, "mode cubic; taken: nearest, linear"),
        (graph("Resize", mode="linear", antialias=1), NO, "antialias 1; taken: 0"),
        (graph("Resize", mode="linear", coordinate_transformation_mode="tf_crop_and_resize"), NO, "tf_crop_and_resize"),
        (graph("AveragePool", (1, 2, 8), kernel_shape=[2]), NO, "an input of 3 axes"),
        (graph("MaxPool", kernel_shape=[2, 2], dilations=[1, 2]), NO, "dilations [1, 2]; they have to be 1"),
        (graph("MaxPool", kernel_shape=[2, 2], outputs=2), NO, "Indices is not given"),
        (graph("ScatterND", reduction="add"), NO, "reduction add; taken: none"),
        (graph("ReduceMean", more=("axes",)), NO, "axes is computed; it has to be a constant"),
        (graph("TopK", sorted=0), NO, "sorted 0"),
        (graph("Conv", kind=INT64), NO, "INT64; taken are FLOAT, FLOAT16, BFLOAT16"),
        (graph("Mine", domain="my.ops"), NO, "my.ops is none of ONNX's own operators"),
        (graph("Relu", opset=8), NO, "opset 8; taken are 9 to 24"),
        (graph("ConvTranspose", (1, 2, 2048, 2048, 1024)), NO, "8,589,934,592 elements; the most are 2^31 - 1"),
        (graph("NonZero"), CARE, "depends on the data"),
        (graph("Relu", kind=DOUBLE), CARE, "DOUBLE is cast to FLOAT"),
        (graph("Swish", opset=24), CARE, "the table does not have the operator"),
        (graph("Relu", ("batch", 2, 8, "width")), CARE, "batch, width free: an optimization profile"),
        (graph("Add", kind=INT64), CARE, "64-bit whole numbers"),
    ],
)
def test_a_graph_meets_the_limit_it_should_and_no_other(made: Any, refused: bool, limit: str) -> None:
    found = met(made)
    assert [limit in text for *_, text in found if "64-bit" not in text or "64-bit" in limit] == [True]
    assert [verdict for *_, verdict, text in found if limit in text] == [refused]


def test_what_is_taken_meets_none() -> None:
    import numpy as np

    taken = [
        graph("Resize", VOLUME, more=("", ""), constants=(np.array([1, 2, 16, 16, 16]),), mode="linear"),
        graph("ConvTranspose", VOLUME, constants=(np.zeros((2, 3, 2, 2, 2), np.float32),), strides=[2, 2, 2]),
        graph(
            "InstanceNormalization", VOLUME, constants=(np.ones(2, np.float32), np.zeros(2, np.float32)), epsilon=1e-5
        ),
        graph("ReduceMean", constants=(np.array([1]),)),
        graph("GridSample"),
        graph("MaxPool", kernel_shape=[2, 2]),
        graph("TopK", constants=(np.array([5]),)),
    ]
    assert [met(model) for model in taken] == [[]] * len(taken)
    assert met(graph("TopK", constants=(np.array([4000]),)))[0][2:] == (NO, "K of 4000; the most is 3839")


def test_the_table_has_every_operator_of_its_opsets() -> None:
    """Those of newer opsets, and the one that it leaves out, are said not to be there."""
    schemas = [each for each in onnx.defs.get_all_schemas_with_history() if each.domain == ""]
    known = {each.name for each in schemas if each.since_version <= tensorrt.OPSETS[-1] and not each.deprecated}
    assert known - {*tensorrt._TAKEN} - tensorrt._REFUSED == {"Swish"}
    assert not tensorrt._REFUSED & {*tensorrt._TAKEN}


def test_the_notes_of_a_run_are_a_table_and_json_and_write_nothing(tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ["unet2d", "--set", "base_width=4", "--set", "depth=2", "--classes", "2", "--input", "8", "--method", "l1"]
    done = CliRunner().invoke(app, ["prune", *words, "--sparsity", "0.5", "--out", str(run), "--quiet"])
    assert done.exit_code == 0, done.output
    before = sorted((file, file.stat().st_mtime_ns) for file in run.iterdir())
    free = CliRunner().invoke(app, ["export", str(run), "--tensorrt-notes", "--dynamic"])
    assert free.exit_code == 0, free.output
    (line,) = [line for line in free.stdout.splitlines() if "optimization profile" in line]
    assert line.split()[:3] == ["input", "with", "care"]
    said = json.loads(CliRunner().invoke(app, ["export", str(run), "--tensorrt-notes", "--json"]).stdout)["tensorrt"]
    assert (said["version"], said["refused"], said["notes"], said["nodes"] > 5) == ("10.15", 0, [], True)
    assert sorted((file, file.stat().st_mtime_ns) for file in run.iterdir()) == before
