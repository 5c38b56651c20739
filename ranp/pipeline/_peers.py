"""Other people's pruners on the same network, to stand beside ours.

Torch-Pruning (https://github.com/VainF/Torch-Pruning) removes groups of channels by the magnitude of their weights. Its
channel ratio is set to our sparsity; layers that hold a channel which must stay are left to it whole.
"""

import contextlib
import copy
import io
import warnings
from typing import Any

import torch
from torch import nn

from ranp.errors import UnsupportedError, need, words_of
from ranp.graph.graph import Graph
from ranp.inputs import Inputs, as_arguments, draw, generator_of
from ranp.pipeline._gauges import Gauges
from ranp.selection import Limits

PEERS: dict[str, dict[str, Any]] = {
    "Torch-Pruning, by layer": {"global_pruning": False},
    "Torch-Pruning, global": {"global_pruning": True},
}
"""Rows of the comparison and what sets them apart."""
_HALVINGS = 7  # of the range of Torch-Pruning's ratio under limits: to 1/128 of the channels


def torch_pruned(
    model: nn.Module, inputs: Inputs, graph: Graph, ratio: float, seed: int = 0, **options: Any
) -> nn.Module:
    """Return a copy of a network pruned by Torch-Pruning, which was seen to run.

    Args:
        model: on the CPU; it is untouched.
        inputs: for shapes and dtypes.
        graph: of the model: layers with frozen units are left alone.
        ratio: share of the channels to remove.
        seed: of the inputs it is traced and tried with.
        options: of its pruner.

    Raises:
        MissingExtra: Torch-Pruning is not installed.
        UnsupportedError: it raised, or what it left does not run.
    """
    library = need("torch_pruning", "peers")
    small = copy.deepcopy(model).cpu().eval()
    stays = [layer.module for layer in graph.layers if (layer.units < 0).any() or graph.frozen[layer.units].any()]
    args, kwargs = as_arguments(draw(inputs, generator_of(seed)))
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            library.pruner.MetaPruner(
                small, kwargs or args, importance=library.importance.MagnitudeImportance(p=1), pruning_ratio=ratio,
                ignored_layers=[small.get_submodule(name) for name in stays], **options,
            ).step()  # fmt: skip
            with torch.no_grad():
                small(*args, **kwargs)
    except Exception as error:  # it raises whatever its walk over the autograd graph meets
        text = words_of(error, 160)
        raise UnsupportedError(f"{type(error).__name__}: {text}" if text else type(error).__name__) from error
    return small


def torch_pruned_within(
    model: nn.Module,
    inputs: Inputs,
    graph: Graph,
    name: str,
    limits: Limits,
    seed: int = 0,
    gauges: Gauges | None = None,
) -> nn.Module | None:
    """Return the network of the smallest ratio, to 1/128, that holds limits; None where no ratio does.

    Args:
        model: see `torch_pruned`, as all others.
        inputs: as above.
        graph: as above.
        name: of `PEERS`.
        limits: that the network holds.
        seed: as above.
        gauges: find what it costs where that is not counted.

    Raises:
        MissingExtra: Torch-Pruning is not installed.
        UnsupportedError: it raised, or what it left does not run.
    """
    gauges = gauges or Gauges(inputs)
    small, low, high = None, 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        tried = torch_pruned(model, inputs, graph, middle, seed, **PEERS[name])
        if limits.within(gauges.built(tried, limits.bounds)):
            small, high = tried, middle
        else:
            low = middle
    return small
