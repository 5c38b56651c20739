"""What a network gives: the shape of its output, found by running it."""

from collections.abc import Sequence

import torch
from torch import nn

from ranp.errors import UsageError, named, told
from ranp.figures import spell_all
from ranp.inputs import Inputs, Shape, as_arguments, check_outputs, flatten, map_tensors, places_of
from ranp.modules import copy_with, on_meta


def output_shape(network: nn.Module, inputs: Inputs, places: Sequence[int] = ()) -> Shape:
    """Return the shape of a network's first output that is no scalar, in evaluation mode and without the batch.

    Args:
        network: untouched; it runs on meta tensors where it can.
        inputs: example inputs with the batch, for shapes and dtypes.
        places: --outputs, the outputs that count; all where there are none.

    Raises:
        UsageError: no output has such a place, or the network does not run on such inputs or gives no tensor.
    """
    try:
        outputs = _run(on_meta(network), inputs, "meta")
    except Exception:  # a network may read values while it runs; its real complaint comes from the real run
        outputs = _run_for_real(network, inputs)
    leaves = flatten(outputs, spend=True)
    check_outputs(places, len(leaves))
    counted = places_of(places, len(leaves))
    for place, leaf in enumerate(leaves):
        if place in counted and leaf.dim():
            return tuple(leaf.shape[1:])
    raise UsageError(f"{type(network).__name__} gives no tensor")


def _run_for_real(network: nn.Module, inputs: Inputs) -> object:
    try:
        with torch.random.fork_rng(devices=[]):
            return _run(copy_with(network), inputs, "cpu")
    except Exception as error:  # the user's forward may raise anything
        sizes = spell_all(tensor.shape for tensor in flatten(inputs))
        reason = told(error, 200)
        raise UsageError(
            f"{type(network).__name__} does not run on an input of {sizes} ({named('patch')}, {named('input')}): "
            f"{reason}"
        ) from error


def _run(network: nn.Module, inputs: Inputs, device: str) -> object:
    args, kwargs = as_arguments(map_tensors(inputs, lambda tensor: torch.zeros_like(tensor, device=device)))
    with torch.no_grad():
        return network.eval()(*args, **kwargs)
