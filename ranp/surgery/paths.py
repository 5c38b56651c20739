"""The batch and spatial axes of a network's inputs, and the sizes along which it does the same thing.

Which sizes take one path through the network's Python code is found by running the network on meta tensors of several
sizes, without arithmetic: the ops, but for those that only lay values out, the widths of their paddings and whether an
output is as large as the input must stay as they are.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from ranp.graph.rules.op import Mode, base_name, bind
from ranp.inputs import Shape, flatten
from ranp.modules import copy_with, on_meta

NAMES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}
BATCH = "batch"
STEPS = tuple(2**power for power in range(9))
STATISTICS = {
    "var", "std", "var_mean", "std_mean", "native_group_norm", "native_layer_norm", "_fused_rms_norm", "_softmax",
    "_log_softmax", "_safe_softmax",
}  # fmt: skip
LEAST = 4  # elements of a statistic that tell one input from another


@dataclass(frozen=True)
class Axis:
    """Sizes that are free together.

    Args:
        name: batch, depth, height, width, length.
        size: it was traced with.
        places: (input, dimension) of each tensor dimension of this size.
        step: between the sizes that do the same thing as `size`.
    """

    name: str
    size: int
    places: tuple[tuple[str, int], ...]
    step: int = 1

    @property
    def rule(self) -> str:
        """The sizes in words: "n", "16n", "8n+4"."""
        if self.step == 1:
            return "n"
        return f"{self.step}n" + (f"+{self.size % self.step}" if self.size % self.step else "")


def axes_of(shapes: Mapping[str, Shape]) -> list[Axis]:
    """Return the axes of inputs (B, C, *spatial) by name; inputs of one spatial size share theirs.

    >>> [axis.name for axis in axes_of({"left": (2, 3, 32, 64), "right": (2, 3, 32, 64)})]
    ['batch', 'height', 'width']
    """
    batch = next(iter(shapes.values()))[0]
    found = [Axis(BATCH, batch, tuple((name, 0) for name, shape in shapes.items() if shape[:1] == (batch,)))]
    spatial: dict[Shape, list[str]] = {}
    for name, shape in shapes.items():
        if len(shape) - 2 in NAMES:
            spatial.setdefault(shape[2:], []).append(name)
    for index, (sizes, inputs) in enumerate(spatial.items()):
        for dim, (name, size) in enumerate(zip(NAMES[len(sizes)], sizes, strict=True)):
            shown = name if index == 0 else f"{name}_{inputs[0]}"
            found.append(Axis(shown, size, tuple((each, dim + 2) for each in inputs)))
    return found


def resized(shapes: Mapping[str, Shape], sizes: Iterable[tuple[Axis, int]]) -> dict[str, Shape]:
    """Return input shapes with other sizes along some axes."""
    changed = {name: list(shape) for name, shape in shapes.items()}
    for axis, size in sizes:
        for name, dim in axis.places:
            changed[name][dim] = size
    return {name: tuple(shape) for name, shape in changed.items()}


class Paths:
    """What a network does with inputs of a size, on meta tensors; on real ones where it reads values.

    Args:
        model: in evaluation mode; a copy of it runs.
        inputs: (args, kwargs) of example inputs.
        names: of the input tensors, in the order of (args, kwargs).
    """

    def __init__(self, model: nn.Module, inputs: Any, names: tuple[str, ...]) -> None:
        self.inputs, self.names = inputs, names
        self.shapes = dict(zip(names, (tuple(t.shape) for t in flatten(inputs)), strict=True))
        self.device = "meta"
        self.model = on_meta(model).eval()
        try:
            self.path, self.statistics = self._run(self.shapes)
        except (RuntimeError, NotImplementedError):  # no meta kernel, or a value is read
            self.device, self.model = "cpu", copy_with(model, lambda _, tensor: tensor.detach().cpu()).eval()
            self.path, self.statistics = self._run(self.shapes)

    def same(self, shapes: Mapping[str, Shape], *, defined: bool = False) -> bool:
        """Whether inputs of these shapes take the path of the example inputs.

        Args:
            shapes: by name.
            defined: whether every statistic (a variance, a softmax) must also be taken over as many elements as in the
                example, or over enough.
        """
        try:
            path, statistics = self._run(shapes, self.path[0])
        except Exception:  # whatever a network raises on a size it can't take
            return False
        enough = all(new >= min(old, LEAST) for old, new in zip(self.statistics, statistics, strict=False))
        return path == self.path and (enough or not defined)

    def _run(self, shapes: Mapping[str, Shape], expected: list[Any] | None = None) -> tuple[list[Any], list[int]]:
        left = iter(shapes.values())
        args, kwargs = tree_map_only(
            Tensor, lambda t: torch.zeros(next(left), dtype=t.dtype, device=self.device), self.inputs
        )
        with torch.no_grad(), torch.random.fork_rng(devices=[]), _Recorder(expected) as recorder:
            outputs = self.model(*args, **kwargs)
        spatial = {shape[2:] for shape in shapes.values() if len(shape) > 2}
        sized = [(t.ndim, any(t.shape[-len(s) :] == s for s in spatial)) for t in flatten(outputs, spend=True)]
        return [recorder.steps, sized], recorder.statistics


class _OtherPath(Exception):
    """A run that left the path it was to follow."""


_LAYOUT = ("as_strided", "as_strided_", "clone", "view", "_unsafe_view", "reshape", "_reshape_alias", "contiguous")
"""Ops that lay out values anew: which of them run depends on strides, and strides on sizes of 1; values do not."""


class _Recorder(Mode):
    """Notes the ops of a run and over how many elements each statistic is taken.

    Args:
        expected: the ops to follow; the run stops at the first other one.
    """

    def __init__(self, expected: list[Any] | None = None) -> None:
        super().__init__()
        self.steps: list[Any] = []
        self.statistics: list[int] = []
        self._expected = expected

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = str(func)
        if name.split(".")[1] in _LAYOUT:
            return func(*args, **(kwargs or {}))
        self.steps.append((name, tuple(args[1])) if "pad" in name and len(args) > 1 else name)
        if self._expected is not None and self._expected[len(self.steps) - 1 : len(self.steps)] != self.steps[-1:]:
            raise _OtherPath
        out = func(*args, **(kwargs or {}))
        self.statistics += _elements(func, args, kwargs or {}, out)
        return out


def _elements(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> list[int]:
    """Return over how many elements an op takes a statistic that says nothing of a single one."""
    name = base_name(func)
    if name not in STATISTICS and "batch_norm" not in name:
        return []
    given, source = bind(func, args, kwargs), args[0]
    if "batch_norm" in name:
        return [source.numel() // max(source.shape[1], 1)] if given.get("training") else []
    if name == "native_group_norm":
        return [source.numel() // max(given["N"] * given["group"], 1)]
    if "softmax" in name:
        return [source.shape[given["dim"]] if source.ndim else 1]
    result = out[-1] if isinstance(out, tuple) else out  # of a layer norm the reciprocal deviations
    return [source.numel() // max(result.numel(), 1)]
