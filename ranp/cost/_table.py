"""Time of a forward as a function of the plan: tables of each layer's time over its widths, measured on a device.

Time is no sum of products of widths: it goes in steps, of what a processor takes at once. So each convolution and
linear layer is measured by itself at a few widths of its input and its output; between two of them time is taken to
grow evenly, and never to fall. What is left of the whole network's time (norms, activations, resampling) is taken to
go with the bytes of the activations. The table of the full network is what was measured; how far off it is for a slim
one shows when that is built and measured, and `scaled` puts it right.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ranp.cost._costs import CostFunction
from ranp.cost._latency import measure_latency
from ranp.cost.polynomials import Evaluator, Polynomial
from ranp.graph.flow import Ints
from ranp.graph.graph import Graph
from ranp.graph.resize import resize_
from ranp.graph.tape import Kind, Layer, Record
from ranp.inputs import Inputs
from ranp.modules import copy_with

Floats = NDArray[np.float64]
Timer = Callable[[nn.Module, Inputs], float]
"""From a network, or a layer, and inputs to the microseconds of a forward in evaluation mode."""
SHARES = (1 / 8, 1 / 4, 3 / 8, 1 / 2, 3 / 4, 1)
MEASURED = (
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear,
)  # fmt: skip
RUNS, SECONDS = 5, 2.0


def stopwatch(device: str | torch.device, *, runs: int = RUNS, seconds: float = SECONDS) -> Timer:
    """Return a timer that takes the median of a few runs on a device.

    Args:
        device: where.
        runs: of each network or layer, at most.
        seconds: no further run of a network starts after this time, and none of a layer after a tenth of it.
    """

    def time(model: nn.Module, inputs: Inputs) -> float:
        most = seconds / 10 if type(model) in MEASURED else seconds
        return 1000 * measure_latency(copy_with(model), inputs, device, runs=runs, seconds=most).median_ms

    return time


@dataclass(frozen=True)
class LatencyTable:
    """Microseconds of a forward.

    Args:
        layers: the time of each layer in the full network, by its weight's name.
        numbers: of the widths of each call's input and output, shape (2, calls).
        positions: of each width in the grid of a call, between two of its points a fraction; (2, calls, widths).
        times: of each call over the grids of both widths, shape (calls, points, points).
        names: of the layer of each call.
        memory: the bytes of the activations.
        rate: microseconds for each of them, of what is no layer.
        scale: what the times are multiplied by: measured by predicted.
    """

    layers: Mapping[str, float]
    numbers: Ints
    positions: Floats
    times: Floats
    names: tuple[str, ...]
    memory: Evaluator
    rate: float
    scale: float = 1.0

    @classmethod
    def measured(
        cls, graph: Graph, price: CostFunction, model: nn.Module, inputs: Inputs, time: Timer
    ) -> "LatencyTable":
        """Measure a network and its layers.

        Args:
            graph: of the network.
            price: whose widths are spoken of.
            model: the network; it is untouched.
            inputs: that the graph was traced with.
            time: takes the time.
        """
        known: dict[str, float] = {}
        calls = [_Call.of(price, model, layer, record) for layer, record in _calls(graph, model)]
        tables = [call.table(time, known) for call in calls]
        longest = max((int(grid[-1]) for call in calls for grid in call.grids), default=1)
        positions = np.array([[_positions(call.grids[side], longest) for call in calls] for side in (0, 1)]).reshape(
            2, len(calls), longest + 1
        )
        times = np.array([_filled(table) for table in tables]).reshape(-1, len(SHARES) + 1, len(SHARES) + 1)
        whole, inside = time(model, inputs), float(sum(table[-1, -1] for table in tables))
        times *= min(1.0, whole / max(inside, 1e-9))  # layers may be quicker where others ran before
        layers: dict[str, float] = {}
        for call, table in zip(calls, tables, strict=True):
            layers[call.layer.name] = layers.get(call.layer.name, 0.0) + float(table[-1, -1])
        memory = Evaluator([price.totals["memory_bytes"]])
        stored = int(memory(price.widths(np.ones(graph.count, dtype=bool)))[0])
        numbers = np.array([call.numbers for call in calls], dtype=np.int64).reshape(-1, 2).T
        names = tuple(call.layer.name for call in calls)
        return cls(layers, numbers, positions, times, names, memory, max(whole - inside, 0.0) / max(stored, 1))

    def __call__(self, widths: Ints) -> Ints:
        """Return the microseconds at these widths, shape (numbers,), or at many, (numbers, n); shape () or (n,)."""
        times = self._of_calls(widths).sum(axis=0) + self.rate * self.memory(widths)[0]
        return np.asarray(np.rint(times * self.scale), dtype=np.int64)

    def place(self, widths: Ints) -> str:
        """Say which layer takes most of the time at these widths, (numbers,)."""
        times, whole = self._of_calls(widths) * self.scale, max(int(self(widths)), 1)
        if not len(times):
            return "none of it in a layer that was measured"
        most = int(times.argmax())
        return f"of which {self.names[most].rpartition('.')[0]} takes {100 * times[most] / whole:.1f} %"

    def scaled(self, factor: float) -> "LatencyTable":
        """Return the same with all multiplied by a factor."""
        return replace(self, scale=self.scale * factor)

    def _of_calls(self, widths: Ints) -> Floats:
        """Return the time of each call, (calls,) or (calls, n), by bilinear interpolation."""
        last = self.positions.shape[2] - 1
        calls = np.arange(len(self.names)).reshape(-1, *(1,) * (widths.ndim - 1))
        place = [self.positions[side][calls, np.minimum(widths[self.numbers[side]], last)] for side in (0, 1)]
        low = [each.astype(np.int64) for each in place]
        (a, b), (i, o) = low, (place[0] - low[0], place[1] - low[1])
        corner = self.times
        near = corner[calls, a, b] * (1 - o) + corner[calls, a, b + 1] * o
        far = corner[calls, a + 1, b] * (1 - o) + corner[calls, a + 1, b + 1] * o
        return np.asarray(near * (1 - i) + far * i)


def _calls(graph: Graph, model: nn.Module) -> list[tuple[Layer, Record]]:
    """Return the calls of layers that can be measured by themselves."""
    modules, by_name = dict(model.named_modules()), {layer.name: layer for layer in graph.layers}
    found = []
    for record in graph.runs["eval"].records:
        layer = by_name.get(record.outputs[0].layer or "") if record.outputs else None
        if layer is None or "left" not in record.arguments:
            continue
        module = modules.get(layer.module)
        plain = type(module) in MEASURED and layer.name == f"{layer.module}.weight" and "weight" in module._parameters  # type: ignore[union-attr]
        if plain and record.kind in (Kind.CONVOLUTION, Kind.PRODUCT):
            found.append((layer, record))
    return found


@dataclass(frozen=True)
class _Call:
    """A call of a layer: which widths it has, and at which it is measured."""

    layer: Layer
    module: Any
    shape: tuple[int, ...]
    numbers: tuple[int, int]
    grids: tuple[Ints, Ints]

    @classmethod
    def of(cls, price: CostFunction, model: nn.Module, layer: Layer, record: Record) -> "_Call":
        module: Any = model.get_submodule(layer.module)
        left, made = record.arguments["left"], record.outputs[0]
        axis = -1 if isinstance(module, nn.Linear) else 1
        groups = getattr(module, "groups", 1)
        read, written = (_number(price.sizes.axis(flow, axis)) for flow in (left, made))
        grids = [_grid(flow.shape[axis], number, groups) for flow, number in ((left, read), (made, written))]
        if groups > 1 and groups == left.shape[axis]:  # a depthwise layer has as many inputs as outputs ask for
            grids[0] = grids[0][-1:]
        return cls(layer, module, tuple(left.shape), (read, written), (grids[0], grids[1]))

    def table(self, time: Timer, known: dict[str, float]) -> Floats:
        """Return the times over both grids; `known` holds those of equal layers."""
        table = np.array([[self._time(int(i), int(o), time, known) for o in self.grids[1]] for i in self.grids[0]])
        return np.maximum.accumulate(np.maximum.accumulate(table, axis=0), axis=1)

    def _time(self, inputs: int, outputs: int, time: Timer, known: dict[str, float]) -> float:
        full, small = self.module, copy.copy(self.module)
        small._parameters = dict(full._parameters)
        transposed, groups = isinstance(full, nn.modules.conv._ConvTransposeNd), getattr(full, "groups", 1)
        shape = list(full.weight.shape)
        if groups > 1 and groups == self.shape[1]:
            inputs = max(outputs * groups // full.out_channels, 1)
            shape[0] = inputs if transposed else outputs
        else:
            shape[:2] = (inputs, outputs // groups) if transposed else (outputs, inputs // groups)
        small.weight = nn.Parameter(torch.zeros(shape, dtype=full.weight.dtype), requires_grad=False)
        if full.bias is not None:
            small.bias = nn.Parameter(torch.zeros(outputs, dtype=full.weight.dtype), requires_grad=False)
        resize_(small, full, None)
        sides = list(self.shape)
        sides[-1 if isinstance(full, nn.Linear) else 1] = inputs
        key = f"{small} {sides}"
        if key not in known:
            known[key] = time(small, torch.zeros(sides, dtype=full.weight.dtype))
        return known[key]


def _number(width: Polynomial) -> int:
    """Return the number of a width, 0 for one that never changes."""
    ((factors, _),) = width.terms.items()
    return factors[0] if factors else 0


def _grid(full: int, number: int, groups: int) -> Ints:
    if not number:
        return np.array([full])
    return np.unique([max(round(full * part / groups), 1) * groups for part in SHARES])


def _positions(grid: Ints, longest: int) -> Floats:
    return np.interp(np.arange(longest + 1), grid, np.arange(len(grid)))


def _filled(table: Floats) -> Floats:
    """Return a table of full size, whose further points repeat its last ones."""
    missing = [len(SHARES) + 1 - size for size in table.shape]
    return np.pad(table, [(0, missing[0]), (0, missing[1])], mode="edge")
