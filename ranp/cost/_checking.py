"""Our multiply-accumulates beside those of fvcore, for the same network and inputs.

fvcore (https://github.com/facebookresearch/fvcore) counts one multiply-accumulate as one; only what both count alike is
compared: convolutions, transposed convolutions by their input, matrix products.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import nn
from torch.jit._trace import TracerWarning

from ranp.cost import _standard as standard
from ranp.cost.polynomials import Evaluator, Polynomial
from ranp.cost.sizes import Sizes
from ranp.errors import UnsupportedError, named, need, told
from ranp.graph.build import trace
from ranp.graph.graph import Graph
from ranp.graph.tape import Kind
from ranp.inputs import Inputs, as_arguments

PRODUCTS = ("conv", "linear", "addmm", "matmul", "bmm", "mm", "einsum", "baddbmm", "mv")


@dataclass(frozen=True)
class CrossCheck:
    """Multiply-accumulates of convolutions and matrix products, by two counters.

    Args:
        ranp: by this package.
        fvcore: by the other.
        unsupported: ops of the network fvcore has no count for, and how often they ran; products are never among them.
    """

    ranp: int
    fvcore: int
    unsupported: dict[str, int]

    @property
    def agree(self) -> bool:
        """Whether both counted the same."""
        return self.ranp == self.fvcore

    def to_dict(self) -> dict[str, object]:
        """Return the figures by name."""
        return {**asdict(self), "agree": self.agree}


def multiply_accumulates(graph: Graph) -> int:
    """Return the multiply-accumulates of the convolutions and matrix products of a full network."""
    sizes = Sizes(graph)
    total = Polynomial()
    for record in graph.runs["eval"].records:
        if record.kind == Kind.CONVOLUTION:
            total = total + standard.macs(sizes, record)
        elif record.kind == Kind.PRODUCT:
            total = total + sizes.elements(record.outputs[0]) * sizes.axis(record.arguments["left"], -1)
    return int(Evaluator([total])(sizes.widths.compiled()(np.ones(graph.count, dtype=bool)))[0])


def cross_check(model: nn.Module, inputs: Inputs, graph: Graph | None = None) -> CrossCheck:
    """Count a network twice: from its graph, and by fvcore, which runs it on the CPU.

    Args:
        model: in any mode; it is untouched.
        inputs: a tensor or a tuple of positional inputs.
        graph: of the model with these inputs, if it is at hand.

    Raises:
        MissingExtra: fvcore is not installed.
        UnsupportedError: inputs by keyword, which fvcore can't take, or a network it can't run.
    """
    with _quiet():
        count = need("fvcore.nn", "peers").FlopCountAnalysis
    args, kwargs = as_arguments(inputs)
    if kwargs:
        raise UnsupportedError(f"{named('cross_check', True)}: fvcore takes positional inputs only")
    training = model.training
    try:
        with torch.no_grad(), _quiet():
            counted = count(model.eval(), args)
            by_operator = counted.by_operator()
            unsupported = dict(counted.unsupported_ops())
    except Exception as error:  # whatever fvcore's tracer raises
        raise UnsupportedError(f"{named('cross_check', True)}: fvcore: {told(error)}") from error
    finally:
        model.train(training)
    theirs = int(sum(count for name, count in by_operator.items() if name in PRODUCTS))
    return CrossCheck(multiply_accumulates(graph or trace(model, inputs)), theirs, unsupported)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence fvcore's logger and the warnings of its tracer."""
    logger = logging.getLogger("fvcore.nn.jit_analysis")
    disabled, logger.disabled = logger.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TracerWarning)
            warnings.simplefilter("ignore", DeprecationWarning)  # torch.jit, which fvcore stands on
            yield
    finally:
        logger.disabled = disabled
