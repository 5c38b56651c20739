"""What ran, for whoever reads a run afterwards: its ops, its layers, its calls of modules."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import torch

from ranp.graph.flow import Flow, Ints

Places = dict[int, tuple[int, ...]]
"""Where an op acts (starts, steps, shifts, paddings), by dimension."""


class Kind(StrEnum):
    """What an op does, as far as anyone asks: how it is counted, and what a masked network must mind of it."""

    ATTENTION = "attention"
    BATCH_NORM = "batch norm"
    CONVOLUTION = "convolution"
    CREATION = "creation"
    ELEMENTWISE = "elementwise"
    FOURIER = "Fourier transform"
    MOVE = "move"  # copies elements to other places
    NORM = "norm of statistics over channels"
    OTHER = "other"  # by count of results, named in the notes
    POOL = "pool"
    PRODUCT = "matrix product"
    REDUCTION = "reduction"
    RESAMPLING = "resampling"
    SOFTMAX = "softmax"
    SUM = "sum"  # a reduction that tells how many were summed
    VARIANCE = "variance"
    VIEW = "view"  # of the same storage
    WRITE = "write"  # of a part of a tensor


Site = tuple[str, int, str]
"""What is equal for the same line of code in repeated blocks: (class and path in it, op number, op)."""


@dataclass(slots=True)
class Layer:
    """A convolution or linear layer, in the order of the model's parameters.

    Args:
        name: name of its weight parameter.
        module: path of the module that called it first.
        kind: "conv", "depthwise", "transposed" or "linear".
        out_dim: the weight's dimension of output channels (with `groups`, that of one group if transposed).
        groups: of the convolution.
        units: of each output channel, shape (O,): its label while the network runs, and in a graph its unit, negative
            where a channel can't be removed and is no unit.
        bias: name of its bias parameter.
        norm: names of weight and bias of the affine norm that reads its output and nothing else before.
    """

    name: str
    module: str
    kind: str
    out_dim: int
    groups: int
    units: Ints
    bias: str | None = None
    norm: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Mixing:
    """How an op mixes channels in a statistic (norm, softmax): over these dimensions, in groups apart."""

    dims: tuple[int, ...]
    groups: int


@dataclass(slots=True)
class Record:
    """One op of the run.

    Args:
        op: its ATen name without overload.
        kind: what it does.
        module: path of the module it ran in.
        site: of the op.
        inputs: flows of its tensor arguments in order, parameters left out.
        outputs: flows of its tensor results in order.
        groups: of a convolution or of group norm; 1 otherwise.
        transposed: whether it is a transposed convolution.
        view: whether its result shares the storage of an argument.
        arguments: other arguments by name, where a later reader needs them.
        weights: names of the parameters among its arguments.
        scalars: the numbers it computes with.
        places: where it acts, by dimension, in those that can't shrink.
        summed: how many entries of a constant each of its results is a sum of, else 0.
        made: how many of its results are feature maps; None for all.
        mixing: the channels it mixes in a statistic, if any.
        chosen: of a run on real tensors, the conditions and numbers that the op's results are, for a slim run to take
            the same path; None for any other result.
    """

    op: str
    module: str
    site: Site
    inputs: tuple[Flow, ...]
    outputs: tuple[Flow, ...]
    groups: int = 1
    transposed: bool = False
    view: bool = False
    arguments: dict[str, Any] = field(default_factory=dict)
    weights: tuple[str, ...] = ()
    scalars: tuple[float | str, ...] = ()
    places: Places = field(default_factory=dict)
    summed: int = 0
    kind: Kind = Kind.OTHER
    made: int | None = None
    mixing: Mixing | None = None
    chosen: tuple[torch.Tensor | None, ...] = ()

    @property
    def outline(self) -> tuple[object, ...]:
        """What the op is to a network, whatever its channels: its name, its numbers, the shapes it makes."""
        return self.op, self.scalars, [flow.shape for flow in self.outputs]


@dataclass(slots=True)
class Call:
    """One call of a module without children, for the paper's counting by module.

    Args:
        module: its path.
        kind: its class.
        inputs: flow of its first tensor argument.
        outputs: flow of its first tensor result.
    """

    module: str
    kind: type[torch.nn.Module]
    inputs: Flow
    outputs: Flow


@dataclass(slots=True)
class Run:
    """What one run of the network left: its ops, its calls of childless modules, its outputs.

    `answers` holds the conditions and numbers the network read, for a slim run to take the same path.
    """

    records: list[Record] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    answers: list[Any] = field(default_factory=list)
    outputs: list[Flow] = field(default_factory=list)
