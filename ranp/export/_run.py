"""Export a run's slim network to ONNX, to torch.export and to TorchScript, and prove the files.

A file is written under a temporary name, checked and compared with the network on random inputs (of several sizes and
batches where its axes are dynamic), and takes its name only when it agrees. What was compared is kept in the run's
report, under "onnx", "torch_export" and "torchscript". Files and report are all written before the first takes its
name, so that a full disk leaves what was there.
"""

import hashlib
import inspect
import io
import json
import re
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ranp import __version__, runs
from ranp.errors import CheckFailed, UnsupportedError, UsageError, named, told
from ranp.export import _onnx_file as onnx_file
from ranp.export import _tensorrt as tensorrt
from ranp.export._axes import BATCH, Axis, Paths, free_axes, resized
from ranp.export._parity import AGREEMENT, TOLERANCE, Case, compare
from ranp.figures import spell_all
from ranp.files import check_file_place, check_replaces, check_writable, sha256, whole_file
from ranp.inputs import as_arguments, draw, flatten, map_tensors, reshaped
from ranp.models.folders import check_output
from ranp.models.spec import resolve
from ranp.modules import tensors_of

NAME = "slim.onnx"
REPEATS = 3  # random inputs a file of one size is compared on


@dataclass(frozen=True)
class Target:
    """What is exported.

    Args:
        model: in evaluation mode, float32, on the CPU.
        inputs: (args, kwargs) of example inputs.
        names: of the input tensors, in that order.
        axes: the dynamic ones.
        cases: (args, kwargs) to compare on.
        note: what of the network stays out of the file, or "".
        weights: where the weights come from, in words; "" where the run does not say.
    """

    model: nn.Module
    inputs: Any
    names: tuple[str, ...]
    axes: tuple[Axis, ...]
    cases: tuple[Any, ...]
    note: str
    weights: str


def export_run(
    run: runs.Run,
    *,
    onnx: Path | None = None,
    torch_export: Path | None = None,
    torchscript: Path | None = None,
    opset: int = onnx_file.OPSET,
    dynamic: bool = False,
    model: nn.Module | str | None = None,
    weights: Path | None = None,
    seed: int = 0,
    force: bool = False,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Export a run's slim network, compare the files with it, and enter the comparison in the run's report.

    The network is exported in evaluation mode and float32. Where it ends in something a file can't hold, its method
    `export_module() -> (module, note)` says what is exported instead.

    Args:
        run: read from its folder.
        onnx: the ONNX file; `slim.onnx` in the run's folder where neither file is named.
        torch_export: the file of `torch.export`, usually `.pt2`.
        torchscript: the file of `torch.jit.trace`, which torch deprecates; for programs that read nothing else.
        opset: of the ONNX file.
        dynamic: whether batch and spatial sizes are free; the steps they are free in are written into the file.
        model: the full network or MODEL, for a run whose factory is neither a built-in nor a network of MONAI.
        weights: a checkpoint of the slim network, by default the run's own weights.
        seed: of the random inputs.
        force: whether existing files are replaced.
        dry_run: check everything that can be checked without exporting.

    Returns:
        Per file: name, bytes, hash, sizes, tolerances and comparisons, as the report keeps them, and the path.

    Raises:
        UsageError: a file exists or its folder does not, or the run is damaged.
        UnsupportedError: an op can't be exported; it and its module are named.
        CheckFailed: a file does not compute what the network does; it is not kept.
        MissingExtra: onnx, onnxscript or onnxruntime is not installed.
    """
    wanted = {"onnx": onnx, "torch_export": torch_export, "torchscript": torchscript}
    if not any(wanted.values()):
        wanted["onnx"] = run.path / NAME
    kinds = {"onnx": "onnx", "torch_export": "program", "torchscript": "torchscript"}
    for key, path in wanted.items():
        if path is not None:
            check_output(path, key, [run.path, *filter(None, [weights])])
            check_file_place(path, force=force, option=key)
            check_replaces(path, kinds[key], key)
    taken: dict[Path, str] = {}
    for key, path in wanted.items():
        if path is not None and (other := taken.setdefault(path.resolve(), key)) != key:
            raise UsageError(f"{named(key, path)}: {named(other)} writes there")
    check_writable(run.path, "the comparison is kept in the run's report")
    if wanted["onnx"] is not None:
        onnx_file.check_opset(opset)
    target = target_of(run, model, weights=weights, dynamic=dynamic, seed=seed)
    if dry_run:
        return {key: {"path": str(path), "weights": target.weights} for key, path in wanted.items() if path is not None}
    found = {}
    with whole_file(run.path / runs.REPORT) as report, ExitStack() as files:
        if (path := wanted["onnx"]) is not None:
            found["onnx"] = _write_onnx(files, path, target, opset, run) | {"opset": opset}
        if (path := wanted["torch_export"]) is not None:
            found["torch_export"] = _write_program(files, path, target)
        if (path := wanted["torchscript"]) is not None:
            found["torchscript"] = _write_script(files, path, target)
        report.write_text(run.report_with(found))
    if (path := wanted["onnx"]) is not None:
        _sweep_data(path)
    return {key: {**entry, "path": str(wanted[key])} for key, entry in found.items()}


def tensorrt_notes(
    run: runs.Run,
    *,
    opset: int = onnx_file.OPSET,
    dynamic: bool = False,
    model: nn.Module | str | None = None,
    weights: Path | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Return the known limits of TensorRT that the ONNX graph of a run's slim network meets; no file is written.

    TensorRT is not needed and not asked: the limits are those that NVIDIA publishes.

    Args:
        run, opset, dynamic, model, weights, seed: as of `export_run`.

    Returns:
        `source`, `version`, `opset`, `nodes` (how many were looked at), `refused` (how many limits say that the graph
        is not taken), `notes` (op, node, refused, limit), and `weights` in words.

    Raises:
        UnsupportedError: an op can't be exported; it and its module are named.
        UsageError: as `export_run`.
        MissingExtra: onnx, onnxscript or onnxruntime is not installed.
    """
    onnx_file.check_opset(opset)
    target = target_of(run, model, weights=weights, dynamic=dynamic, seed=seed)
    program = onnx_file.convert(target.model, target.inputs, target.names, target.axes, opset, {})
    return {**tensorrt.summary(program), "weights": target.weights}


def target_of(
    run: runs.Run,
    model: nn.Module | str | None = None,
    *,
    weights: Path | None = None,
    dynamic: bool = False,
    seed: int = 0,
) -> Target:
    """Return what is exported of a run, with the inputs to compare on; see `export_run`."""
    full = resolve(model, runs.settings_of(run.config)) if isinstance(model, str) else model
    slim, loaded = run.slim_with(weights, full)
    hook = getattr(slim, "export_module", None)
    module, note = hook() if callable(hook) else (slim, "")
    module = module.float().cpu().eval()
    generator = torch.Generator().manual_seed(seed)
    example = run.plan.example_inputs()
    names = input_names(module, example)
    shapes = {name: tuple(t.shape) for name, t in zip(names, flatten(example), strict=True)}
    drawn = [shapes] * REPEATS
    axes: tuple[Axis, ...] = ()
    if dynamic:
        paths = Paths(module, as_arguments(map_tensors(example, _single)), names)
        axes = tuple(free_axes(paths))
        drawn = cases_of(paths, axes)
        # Example sizes of 1 would be taken for broadcasting.
        shapes = resized(shapes, [(axis, axis.size + axis.step) for axis in axes if axis.size == 1])

    def inputs_of(sizes: dict[str, tuple[int, ...]]) -> Any:
        left = iter(sizes.values())
        return as_arguments(draw(reshaped(example, lambda _: next(left)), generator, torch.float32))

    inputs = [inputs_of(sizes) for sizes in [shapes, *drawn]]
    return Target(module, inputs[0], names, axes, tuple(inputs[1:]), note, loaded)


def _single(tensor: Tensor) -> Tensor:
    """Return a tensor in the precision that is exported."""
    return tensor.float() if tensor.is_floating_point() else tensor


def input_names(model: nn.Module, example: Any) -> tuple[str, ...]:
    """Return the names of the inputs: the keywords, or the forward's own names for positional ones."""
    args, kwargs = as_arguments(example)
    if kwargs:
        return tuple(kwargs)
    known = [p.name for p in inspect.signature(model.forward).parameters.values() if p.kind == p.POSITIONAL_OR_KEYWORD]
    return tuple(known[i] if i < len(known) else f"input_{i}" for i in range(len(args)))


def cases_of(paths: Paths, axes: tuple[Axis, ...]) -> list[dict[str, tuple[int, ...]]]:
    """Return shapes to compare on: the example's, a batch more, one step more everywhere, and half where it can be."""
    spatial = [axis for axis in axes if axis.name != BATCH]
    batch = [(axis, axis.size + 1) for axis in axes if axis.name == BATCH]
    larger = [(axis, axis.size + axis.step) for axis in spatial]
    smaller = [(axis, axis.size - axis.size // 2 // axis.step * axis.step) for axis in spatial]
    found = [paths.shapes, resized(paths.shapes, batch), resized(paths.shapes, larger)]
    half = resized(paths.shapes, smaller)
    return [*found, half] if half not in found and paths.same(half) else found


def _write_onnx(files: ExitStack, path: Path, target: Target, opset: int, run: runs.Run) -> dict[str, Any]:
    """Write and compare a file that takes its name when `files` closes; return its entry in the report.

    Weights too large for one file lie beside it, named for what they were made from, so that an older file keeps those
    it names.
    """
    note = {"ranp": __version__, "network": run.plan.model, "sizes": json.dumps(_sizes(target.axes))}
    if target.note:
        note["note"] = target.note
    program = onnx_file.convert(target.model, target.inputs, target.names, target.axes, opset, note)
    temporary, weights = files.enter_context(whole_file(path)), None
    if onnx_file.weight_bytes(target.model) > onnx_file.LIMIT:
        made_from = json.dumps([_digest_of(target.model), opset, note], sort_keys=True)
        data = path.with_name(f"{path.name}.{hashlib.sha256(made_from.encode()).hexdigest()[:8]}.data")
        weights = files.enter_context(whole_file(data))
        weights.unlink()
    onnx_file.write(program, temporary, weights.name if weights else None)
    cases = _judged(path, target, onnx_file.opened(temporary, target.names))
    if weights:
        onnx_file.point_at(temporary, data.name)
    return _describe(path, target, cases, [temporary, *filter(None, [weights])])


def _digest_of(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in tensors_of(model).items():
        digest.update(name.encode() + tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _sweep_data(path: Path) -> None:
    """Remove weights beside an ONNX file that it does not name: those of the file it replaced."""
    for old in path.parent.glob(f"{path.name}.*.data"):
        if old.name not in onnx_file.data_named_by(path):
            old.unlink()


def _write_program(files: ExitStack, path: Path, target: Target) -> dict[str, Any]:
    """Write and compare a file that takes its name when `files` closes; return its entry in the report."""
    temporary = files.enter_context(whole_file(path))
    content = io.BytesIO()  # torch ends the process where its own writer meets a full disk
    torch.export.save(_captured(target), content)
    temporary.write_bytes(content.getvalue())
    with temporary.open("rb") as file:
        loaded = torch.export.load(file).module()
    args, _ = target.inputs

    def run(given: list[Tensor]) -> list[Tensor]:
        try:
            return flatten(loaded(*given) if args else loaded(**dict(zip(target.names, given, strict=True))))
        except (AssertionError, RuntimeError) as error:  # a size that its guards refuse
            shapes = spell_all(tensor.shape for tensor in given)
            raise UnsupportedError(
                f"{named('torch_export')}: the captured program refuses inputs of {shapes} ({_words(error)}): leave "
                f"out {named('dynamic')}, or give the run an {named('input')} at which no size inside the network is 1 "
                "(`ranp transfer`)"
            ) from error

    return _describe(path, target, _judged(path, target, run), [temporary])


def _write_script(files: ExitStack, path: Path, target: Target) -> dict[str, Any]:
    """Write and compare a TorchScript file that takes its name when `files` closes; return its entry in the report.

    It holds the path through the network's code that the example inputs take, as every trace does.
    """
    temporary = files.enter_context(whole_file(path))
    args, kwargs = target.inputs
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that TorchScript is deprecated; what a trace fixes is compared below
        try:
            given = {"example_kwarg_inputs": kwargs} if kwargs else {"example_inputs": args}
            traced = torch.jit.trace(target.model, **given, check_trace=False, strict=False)
        except Exception as error:  # whatever the network's own code raises in a trace
            raise UnsupportedError(f"{named('torchscript')}: the network can't be traced: {told(error)}") from error
        content = io.BytesIO()
        torch.jit.save(traced, content)
        temporary.write_bytes(content.getvalue())
        loaded = torch.jit.load(io.BytesIO(temporary.read_bytes()), map_location="cpu")

    def run(tensors: list[Tensor]) -> list[Tensor]:
        return flatten(loaded(**dict(zip(target.names, tensors, strict=True))) if kwargs else loaded(*tensors))

    return _describe(path, target, _judged(path, target, run), [temporary])


def _captured(target: Target) -> torch.export.ExportedProgram:
    args, kwargs = target.inputs
    shapes = onnx_file.dynamic_shapes(target.model, target.inputs, target.names, target.axes, by_name=False)
    try:
        program = torch.export.export(target.model, args, kwargs, dynamic_shapes=shapes)
    except Exception as error:  # whatever the network's own code raises on symbolic sizes
        raise UnsupportedError(f"{named('torch_export')}: the network can't be captured: {told(error)}") from error
    for node in program.graph.nodes:
        for key in ("stack_trace", "source_fn_stack", "from_node"):  # they hold local paths
            node.meta.pop(key, None)
    return program


def _words(error: Exception) -> str:
    return re.sub(r"\s+", " ", str(error))[:300]


def _judged(path: Path, target: Target, exported: Callable[[list[Tensor]], list[Tensor]]) -> list[Case]:
    cases = compare(target.model, exported, target.cases)
    failed = next((case for case in cases if not case.passed), None)
    if failed is not None:
        agreement = "" if failed.agreement is None else f", {failed.agreement:.2%} of the labels agree"
        raise CheckFailed(
            f"{path}: on inputs {failed.shapes} the file differs from the network by {failed.max_rel_diff:.1e} of the "
            f"largest output (tolerance {TOLERANCE:.0e}){agreement}; the file was not kept"
        )
    return cases


def _describe(path: Path, target: Target, cases: list[Case], written: list[Path]) -> dict[str, Any]:
    return {
        "file": path.name,
        "bytes": sum(each.stat().st_size for each in written),
        "sha256": sha256(written[0]),
        "inputs": list(target.names),
        "sizes": _sizes(target.axes),
        "tolerance": {"max_rel_diff": TOLERANCE, "agreement": AGREEMENT},
        "parity": [case.to_dict() for case in cases],
        "passed": all(case.passed for case in cases),
        "note": target.note,
        "weights": target.weights,
    }


def _sizes(axes: tuple[Axis, ...]) -> dict[str, str]:
    """Return which sizes each dynamic axis takes: "n", "16n", "8n+4"."""
    return {axis.name: axis.rule for axis in axes}
