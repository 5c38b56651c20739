"""compile(): from a graph to a function that says what any plan costs, without building the network.

>>> import numpy as np, torch
>>> from ranp.graph.build import trace
>>> graph = trace(torch.nn.Sequential(torch.nn.Conv2d(1, 8, 3), torch.nn.Conv2d(8, 2, 1)), torch.zeros(1, 1, 10, 10))
>>> cost = compile(graph)
>>> cost(np.ones(graph.count, dtype=bool))
Costs(params=98, flops=11904, memory_bytes=2560)
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Protocol

import numpy as np
import torch

from ranp.cost import _standard as standard
from ranp.cost import paper
from ranp.cost._entry import Entry
from ranp.cost.polynomials import Evaluator, Polynomial, as_polynomial
from ranp.cost.sizes import Sizes
from ranp.errors import UsageError, nearest
from ranp.graph.flow import Ints
from ranp.graph.graph import Graph, Mask
from ranp.inputs import specs

CONVENTIONS = ("standard", "paper")
LAYER_KINDS = ("conv", "depthwise", "transposed", "linear")


class Meter(Protocol):
    """A cost that is no sum over modules: memory at its peak, a time."""

    @property
    def scale(self) -> float:
        """What it is multiplied by: measured by predicted."""

    def __call__(self, widths: Ints) -> Ints:
        """Return the cost at widths, shape (numbers,), or at many, (numbers, n); shape () or (n,)."""

    def place(self, widths: Ints) -> str:
        """Say where the cost at widths, (numbers,), comes from."""

    def scaled(self, factor: float) -> "Meter":
        """Return the same with all multiplied by a factor: what was measured by what was predicted."""


@dataclass(frozen=True)
class Costs:
    """What a network costs: parameters, operations of one forward, bytes of the activations it stores.

    Units are those of the convention it was counted in; all for the whole batch.
    """

    params: int
    flops: int
    memory_bytes: int

    def to_dict(self) -> dict[str, int]:
        """Return the figures by name."""
        return asdict(self)


@dataclass(frozen=True)
class ModuleCosts:
    """One row of the table by module; the rows of all modules add up to the whole.

    Args:
        name: the module's path.
        kind: of a layer "conv", "depthwise", "transposed" or "linear", else the module's class, or "functional" for ops
            that a module with children does itself.
        inputs: channels of its first input.
        outputs: channels of its last output.
        flops: of all its calls.
        memory_bytes: of all its calls.
        params: of its own.
    """

    name: str
    kind: str
    inputs: int
    outputs: int
    flops: int
    memory_bytes: int
    params: int

    def to_dict(self) -> dict[str, str | int]:
        """Return the row by column name."""
        return asdict(self)


@dataclass
class _Row:
    kind: str
    inputs: Polynomial = field(default_factory=Polynomial)
    outputs: Polynomial = field(default_factory=Polynomial)
    flops: Polynomial = field(default_factory=Polynomial)
    memory: Polynomial = field(default_factory=Polynomial)
    params: Polynomial = field(default_factory=Polynomial)

    def polynomials(self) -> tuple[Polynomial, ...]:
        return self.inputs, self.outputs, self.flops, self.memory, self.params


class CostFunction:
    """The costs of a network as a function of its plan; made by `compile`.

    Args:
        graph: of the network.
        rows: of each module, by path.
        sizes: whose widths the rows speak of.

    `totals` are the polynomials behind the figures, `widths` what they speak of, and `summed` says whether all of these
    are sums over units, so that the widths of disjoint choices add up. `meters` are further costs of the same
    widths, by name, where somebody put them.
    """

    def __init__(self, graph: Graph, rows: dict[str, _Row], sizes: Sizes) -> None:
        self._count, self.sizes = graph.count, sizes
        self._names = [(name, row.kind) for name, row in rows.items()]
        self._widths = sizes.widths.compiled()
        self._table = Evaluator(polynomial for row in rows.values() for polynomial in row.polynomials())
        totals = [Polynomial(), Polynomial(), Polynomial()]
        for row in rows.values():
            totals = [total + more for total, more in zip(totals, (row.params, row.flops, row.memory), strict=True)]
        self._totals = Evaluator(totals)
        self.totals = dict(zip(("params", "flops", "memory_bytes"), totals, strict=True))
        self.widths, self.summed = self._widths, sizes.widths.summed
        self.meters: dict[str, Meter] = {}

    def __call__(self, kept: Mask) -> Costs:
        """Return what the network costs under a plan.

        Args:
            kept: mask of the units that stay, shape (count,).
        """
        return self.at(self._widths(self._checked(kept)))

    def at(self, widths: Ints) -> Costs:
        """Return what the network costs at widths that `widths` made of a plan."""
        return Costs(*self._totals(widths).tolist())

    def layers(self, kept: Mask) -> list[ModuleCosts]:
        """Return what each convolution and linear layer costs under a plan, in the order they first run."""
        return [row for row in self.modules(kept) if row.kind in LAYER_KINDS]

    def modules(self, kept: Mask) -> list[ModuleCosts]:
        """Return what each module costs under a plan, in the order they first run."""
        values = self._table(self._widths(self._checked(kept))).reshape(-1, 5).tolist()
        return [ModuleCosts(name, kind, *row) for (name, kind), row in zip(self._names, values, strict=True)]

    def _checked(self, kept: Mask) -> Mask:
        if kept.shape != (self._count,) or kept.dtype != np.bool_:
            raise UsageError(
                f"kept is {kept.dtype} of shape {kept.shape}; expected a bool mask of shape ({self._count},)"
            )
        return kept


def compile(graph: Graph, convention: str = "standard", *, published_transposed: bool = False) -> CostFunction:
    """Turn the ops a graph recorded into polynomials in its widths.

    Args:
        graph: of the network; costs are for the inputs it was traced with, batch included, in evaluation mode.
        convention: "standard" (`ranp.cost._standard`) or "paper" (`ranp.cost.paper`), where the tables are.
        published_transposed: see `ranp.cost.paper.entries`; of the paper's convention alone.

    Raises:
        UsageError: no such convention.
    """
    if convention not in CONVENTIONS:
        raise UsageError(
            f"convention {convention!r}: expected {' or '.join(CONVENTIONS)}{nearest(convention, CONVENTIONS)}"
        )
    if published_transposed and convention != "paper":
        raise UsageError("published_transposed is a switch of convention 'paper'")
    sizes = Sizes(graph)
    if convention == "paper":
        entries, width = paper.entries(sizes, published_transposed=published_transposed), 4
    else:
        dtypes: list[torch.dtype] = [getattr(torch, spec.dtype) for spec in specs(graph.inputs)]
        floating = [dtype.itemsize for dtype in dtypes if dtype.is_floating_point]
        entries, width = standard.entries(sizes), next(iter(floating), torch.float32.itemsize)
    return CostFunction(graph, _rows(graph, sizes, entries, width), sizes)


def counted_by_default(graph: Graph) -> list[str]:
    """Return a note of the ops that the standard convention's table does not know, or nothing.

    Such an op counts as one FLOP for each element of its first result, which an FFT, a solver or a custom op is not.
    """
    unknown: dict[str, list[str]] = {}
    for record in graph.runs["eval"].records:
        if not standard.is_known(record):
            unknown.setdefault(record.op, []).append(record.module or "the top")
    if not unknown:
        return []
    ops = (f"{op} at {where[0]}" + (f" and {len(where) - 1} more" * (len(where) > 1)) for op, where in unknown.items())
    return [f"counted by default, one FLOP per element of the result: {', '.join(ops)}"]


def _rows(graph: Graph, sizes: Sizes, entries: Iterator[Entry], width: int) -> dict[str, _Row]:
    kinds = {call.module: call.kind.__name__ for call in graph.runs["eval"].calls}
    kinds |= {layer.module: layer.kind for layer in graph.layers}
    rows: dict[str, _Row] = {}
    for entry in entries:
        fresh = entry.module not in rows
        row = rows.setdefault(entry.module, _Row(kinds.get(entry.module, "functional")))
        row.inputs = entry.inputs if fresh else row.inputs
        row.outputs = entry.outputs
        row.flops = row.flops + entry.flops
        row.memory = row.memory + entry.elements * width
    for name in graph.shapes:
        path = name.rpartition(".")[0]
        row = rows.setdefault(path, _Row(kinds.get(path, "parameters"), as_polynomial(0), as_polynomial(0)))
        row.params = row.params + sizes.parameter(name)
    return rows
