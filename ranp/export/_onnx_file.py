"""From a module to one ONNX file: exported by torch's dynamo exporter, stripped, checked, opened.

Every node of a fresh export carries stack traces with the paths of the machine it was made on. They are taken out,
which makes the files of equal networks equal byte for byte, and the graph a sixth as large.
"""

import inspect
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from ranp.errors import CheckFailed, UnsupportedError, UsageError, named, need, told
from ranp.export._axes import BATCH, Axis
from ranp.figures import spell
from ranp.graph.build import trace
from ranp.inputs import flatten
from ranp.modules import tensors_of

OPSET = 20
OLDEST_OPSET = 18
LIMIT = 1_900_000_000  # bytes of weights inside one file; protobuf ends at 2 GiB
_LOUD = {
    "torch.onnx._internal.exporter._registration": "a line for each op of torchvision, which need not be installed",
    "onnx_ir._convenience": "a line for each empty list that the exporter's own rewriting makes",
}


def check_opset(opset: int) -> None:
    """Refuse an opset that can't be written, or that the installed onnxruntime can't run.

    Raises:
        UsageError: it can't.
        MissingExtra: onnx or onnxruntime is not installed.
    """
    newest = _newest_opset()
    if not OLDEST_OPSET <= opset <= newest:
        raise UsageError(f"{named('opset', opset)}: expected {OLDEST_OPSET} to {newest}")


def _newest_opset() -> int:
    """Return the newest opset that onnx knows and onnxruntime opens; onnx is often some releases ahead."""
    onnx = need("onnx", "onnx")
    known: int = onnx.defs.onnx_opset_version()
    return next((opset for opset in range(known, OPSET, -1) if _opens(onnx, opset)), OPSET)


def _opens(onnx: Any, opset: int) -> bool:
    helper, runtime = onnx.helper, need("onnxruntime", "onnx")
    value = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "identity", value[:1], value[1:])
    ids = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=ids, ir_version=helper.find_min_ir_version_for(ids))
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    try:
        runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception:  # its errors share no public base
        return False
    return True


def convert(
    model: nn.Module, inputs: Any, names: Sequence[str], axes: Sequence[Axis], opset: int, note: dict[str, str]
) -> Any:
    """Return the network as an ONNX model in memory (of onnx_ir), stripped of where it was made.

    Args:
        model: in evaluation mode, on the CPU.
        inputs: (args, kwargs) of example inputs.
        names: of the input tensors, in that order.
        axes: the dynamic ones; none for a file of one size.
        opset: of the default domain.
        note: what the file says about itself (`metadata_props`).

    Raises:
        UnsupportedError: an op can't be exported; it and its module are named.
        MissingExtra: onnx or onnxscript is not installed.
    """
    for module in ("onnx", "onnxscript"):
        need(module, "onnx")
    if any(axis.name != BATCH for axis in axes):
        _check_pools(model, inputs)
    args, kwargs = inputs
    with torch.no_grad():
        count = len(flatten(model(*args, **kwargs), spend=True))
    outputs = ["output"] if count == 1 else [f"output_{i}" for i in range(count)]
    where: list[str] = []
    with _quiet(), _entered(model, where):
        try:
            program = torch.onnx.export(
                model, args, None, kwargs=kwargs, dynamo=True, verbose=False, opset_version=opset,
                input_names=list(names), output_names=outputs,
                dynamic_shapes=dynamic_shapes(model, inputs, names, axes),
            )  # fmt: skip
        except torch.onnx.OnnxExporterError as error:
            raise _unsupported(error, model, inputs, where) from error
    assert program is not None
    _strip(program.model)
    program.model.metadata_props.update(note)
    return program.model


def _check_pools(model: nn.Module, inputs: Any) -> None:
    """Refuse a pool to a fixed size other than 1, which the exporter writes as a window of the example's size.

    Raises:
        UnsupportedError: with the op and its module.
    """
    args, kwargs = inputs
    for record in trace(model, kwargs or args).runs["eval"].records:
        sizes = record.outputs[0].shape[2:]
        if "adaptive" in record.op and any(size != 1 for size in sizes):
            raise UnsupportedError(
                f"{named('dynamic', True)}: can't be exported to ONNX at free sizes: {record.op.strip('_')} to "
                f"{spell(sizes)} at {record.module or 'the top'}: pool to size 1 or with a fixed window, export it for "
                f"one size, without {named('dynamic')}, or use {named('torch_export')}"
            )


def dynamic_shapes(
    model: nn.Module, inputs: Any, names: Sequence[str], axes: Sequence[Axis], by_name: bool = True
) -> Any:
    """Return the free dimensions in the form torch's exporters take, or None where there are none.

    The form is that of the forward's own arguments: what `*args` takes is a tuple in one place.

    Args:
        model: whose forward it is.
        inputs: (args, kwargs).
        names: of the input tensors.
        axes: the free ones.
        by_name: by their names, as the ONNX exporter takes them, or as `Dim.DYNAMIC`.

    Raises:
        UnsupportedError: the forward takes its inputs as `**kwargs`.
    """
    if not axes:
        return None
    free: dict[str, dict[int, Any]] = {name: {} for name in names}
    for axis in axes:
        for name, dim in axis.places:
            free[name][dim] = axis.name if by_name else torch.export.Dim.DYNAMIC
    args, kwargs = inputs
    name_of = {id(tensor): name for tensor, name in zip(flatten(inputs), names, strict=True)}
    signature = inspect.signature(model.forward)
    if kwargs and any(p.kind is p.VAR_KEYWORD and not kwargs.keys() <= signature.parameters.keys()
                      for p in signature.parameters.values()):  # fmt: skip
        raise UnsupportedError(
            f"{named('dynamic', True)}: torch's exporters can't leave the sizes of **kwargs free: name the inputs in "
            f"the forward, or export it for one size, without {named('dynamic')}"
        )
    bound = signature.bind(*args, **kwargs).arguments
    shapes = tree_map(lambda leaf: free[name_of[id(leaf)]] if isinstance(leaf, Tensor) else None, dict(bound))
    return shapes if kwargs else tuple(shapes.values())


def write(model: Any, path: Path, data: str | None) -> None:
    """Write an ONNX model of onnx_ir to a file, and its weights beside it where `data` names a file.

    Raises:
        CheckFailed: onnx's checker refuses what was written.
    """
    need("onnx_ir", "onnx").save(model, path, external_data=data)
    checker = need("onnx", "onnx").checker
    try:
        checker.check_model(str(path), full_check=True)
    except (checker.ValidationError, need("onnx", "onnx").shape_inference.InferenceError) as error:
        raise CheckFailed(f"{path.name}: onnx.checker: {' '.join(str(error).split())[:300]}") from error


def point_at(path: Path, data: str) -> None:
    """Rename the file of weights that an ONNX file names; the weights themselves are not read."""
    onnx = need("onnx", "onnx")
    model = onnx.load(str(path), load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = data
    path.write_bytes(model.SerializeToString(deterministic=True))


def data_named_by(path: Path) -> set[str]:
    """Return the names of the files that hold an ONNX file's weights, if not the file itself."""
    model = need("onnx", "onnx").load(str(path), load_external_data=False)
    entries = (entry for tensor in model.graph.initializer for entry in tensor.external_data)
    return {entry.value for entry in entries if entry.key == "location"}


def inputs_of(path: Path) -> list[tuple[str, tuple[int | None, ...]]]:
    """Return name and shape of each input of an ONNX file, with the batch; None is a size that is free.

    Raises:
        UsageError: no such file, or no ONNX file.
        MissingExtra: onnx is not installed.
    """
    onnx = need("onnx", "onnx")
    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    except Exception as error:  # protobuf's own, which share no public base
        reason = "no such file" if not path.is_file() else "not an ONNX file"
        raise UsageError(f"{named('onnx', path)}: {reason}") from error
    held = {tensor.name for tensor in graph.initializer}
    return [
        (each.name, tuple(d.dim_value if d.HasField("dim_value") else None for d in each.type.tensor_type.shape.dim))
        for each in graph.input
        if each.name not in held
    ]


def opened(path: Path, names: Sequence[str]) -> Callable[[list[Tensor]], list[Tensor]]:
    """Open a file with onnxruntime on the CPU, as a function from input tensors to output tensors.

    Raises:
        CheckFailed: onnxruntime can't load it.
        MissingExtra: onnxruntime is not installed.
    """
    runtime = need("onnxruntime", "onnx")
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # its warnings are about its own optimiser
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors share no public base
        raise CheckFailed(f"onnxruntime can't load the file: {' '.join(str(error).split())[:300]}") from error
    wanted = {each.name for each in session.get_inputs()}

    def run(inputs: list[Tensor]) -> list[Tensor]:
        given = {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True) if name in wanted}
        try:
            return [torch.from_numpy(value) for value in session.run(None, given)]
        except Exception as error:  # likewise
            raise CheckFailed(f"onnxruntime can't run the file: {' '.join(str(error).split())[:300]}") from error

    return run


def weight_bytes(model: nn.Module) -> int:
    """Return the bytes of a module's parameters and buffers."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors_of(model).values())


def _strip(model: Any) -> None:
    """Remove stack traces and module stacks: local paths, and five sixths of the graph."""
    for graph in (model.graph, *(function.graph for function in model.functions.values())):
        graph.metadata_props.clear()
        graph.doc_string = None
        values = [*graph.inputs, *graph.outputs, *getattr(graph, "initializers", {}).values()]
        for node in graph.all_nodes():
            node.metadata_props.clear()
            node.doc_string = None
            values += node.outputs
        for value in values:
            value.metadata_props.clear()
            value.doc_string = None
    model.metadata_props.clear()
    model.doc_string = None


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what is known to say nothing about the network."""
    loggers = {logging.getLogger(name): logging.getLogger(name).level for name in _LOUD}
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # torch's own exporter calls what torch's own pytree deprecates
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
        # two inputs of one size share an axis: what we asked for
        warnings.filterwarnings("ignore", r"# The axis name: \w+ will not be used, since it shares", UserWarning)
        try:
            yield
        finally:
            for logger, level in loggers.items():
                logger.setLevel(level)


@contextmanager
def _entered(model: nn.Module, where: list[str]) -> Iterator[None]:
    """Keep in `where` the paths of the modules that are running; after an error the innermost is last."""

    def leave(*_: Any) -> None:
        where.pop()

    handles = []
    for path, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(lambda *_, path=path: where.append(path)))
        handles.append(module.register_forward_hook(leave))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _unsupported(error: Exception, model: nn.Module, inputs: Any, where: list[str]) -> UnsupportedError:
    """Return the error that names the op and the module."""
    causes: list[BaseException] = [error]
    while (inner := causes[-1].__cause__ or causes[-1].__context__) is not None:
        causes.append(inner)
    texts = [str(cause) for cause in causes]
    found = next(
        (m for text in reversed(texts) if (m := re.search(r"(?:op='aten\.|torch\.ops\.aten\.)(\w+)", text))), None
    )
    if found:
        return UnsupportedError(f"can't be exported to ONNX: {found[1]} {_module_of(found[1], model, inputs)}")
    place = f"at {where[-1]} ({type(model.get_submodule(where[-1])).__name__})" if where else "in the network"
    return UnsupportedError(f"can't be exported to ONNX: {place}: {told(causes[-1])}")


def _module_of(op: str, model: nn.Module, inputs: Any) -> str:
    args, kwargs = inputs
    for record in trace(model, kwargs or args).runs["eval"].records:
        if record.op.strip("_") == op.strip("_"):
            return f"at {record.module or 'the top'} ({type(model.get_submodule(record.module)).__name__})"
    return "(its module could not be told)"
