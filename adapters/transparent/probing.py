"""What a module inside a network puts out: by a run on the user's inputs, or by one on shapes alone."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from ranp.errors import UsageError, saying
from ranp.modules import on_meta

_SIDES = (128, 160)  # of the inputs a network is tried on without data; five halvings leave more than one position


def output_of(model: nn.Module, module: nn.Module, inputs: Tensor | Sequence[Any], name: str) -> Tensor:
    """Run `model` once in eval mode without gradients and return what a module of it puts out.

    Args:
        model: what runs.
        module: whose output is wanted; the model itself or a part of it.
        inputs: a tensor, or a sequence of positional inputs.
        name: how a message calls the module.

    Raises:
        UsageError: it puts out something else than one tensor, was not run, or the network does not run at all.
    """
    outputs: list[Any] = []
    handle = module.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    training = {part: part.training for part in model.modules()}
    try:
        with torch.no_grad(), saying(UsageError, f"{name}: the network does not run on the example"):
            model.eval()(*((inputs,) if isinstance(inputs, Tensor) else inputs))
    finally:
        handle.remove()
        for part, mode in training.items():
            part.training = mode
    if not outputs or not isinstance(outputs[0], Tensor):
        what = type(outputs[0]).__name__ if outputs else "nothing: it was not run"
        raise UsageError(f"{name}: expected a module that returns one tensor, received {what}")
    return outputs[0]


def probed_channels(model: nn.Module, path: str = "", channel_dim: int = 1) -> int | None:
    """Return how many channels the module at `path` puts out, read off runs of `model` on shapes alone.

    Args:
        model: as in `probed_output`.
        path: likewise.
        channel_dim: the dimension that holds them.

    Returns:
        None where the network does not run this way, or that dimension grows with the image.
    """
    counts = set()
    for side in _SIDES:
        output = probed_output(model, path, side)
        if output is None or not -output.ndim <= channel_dim < output.ndim:
            return None
        counts.add(output.shape[channel_dim])
    return counts.pop() if len(counts) == 1 else None


def probed_output(model: nn.Module, path: str = "", side: int = _SIDES[0]) -> Tensor | None:
    """Run `model` on shapes alone and return what its module at `path` puts out, a tensor without data.

    The input is guessed from the first convolution or linear layer, the same for every argument that must be given; the
    output is not, it is what the modules make of that input.

    Args:
        model: a network of images; it is left alone.
        path: dotted, as in `model.named_modules()`; "" is the whole network.
        side: length of the image in every spatial dimension.

    Returns:
        a meta tensor; None where the network does not run this way, or returns something else than one tensor.
    """
    first = next((module for module in model.modules() if isinstance(module, (_ConvNd, nn.Linear))), None)
    if first is None:
        return None
    try:
        copied = on_meta(model)
        channels = first.in_features if isinstance(first, nn.Linear) else first.in_channels
        sizes = (side,) * (first.weight.ndim - 2)
        image = torch.empty(1, channels, *sizes, dtype=first.weight.dtype, device="meta")
        return output_of(copied, copied.get_submodule(path), (image,) * _needed(copied), path)
    except Exception:  # whatever a network raises on an input it was not made for
        return None


def _needed(model: nn.Module) -> int:
    """Count the positional arguments that `model` can't do without."""
    arguments = inspect.signature(model.forward).parameters.values()
    return sum(
        argument.default is argument.empty and argument.kind <= argument.POSITIONAL_OR_KEYWORD for argument in arguments
    )
