"""Gradients of the loss, batch by batch, on a copy of the network; nothing of the caller's is touched."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from ranp.errors import UsageError, WrongType, saying
from ranp.inputs import as_arguments, seed_of
from ranp.modules import copy_with, tensors_of, unregistered
from ranp.processes import OTHERS

Loss = Callable[[Any, Any], Tensor]
Batches = Iterable[Any]


def scoring_copy(
    model: nn.Module, scored: Iterable[str], filled: Mapping[str, float], device: torch.device
) -> tuple[nn.Module, dict[str, Tensor]]:
    """Copy a network to a device, in training mode, where only what is scored has gradients.

    Args:
        model: the caller's.
        scored: names of parameters, or of buffers that are weights.
        filled: the value of parameters that are constant in the copy, by name.
        device: of the copy.

    Returns:
        The copy and its scored tensors by name.
    """

    def moved(name: str, tensor: Tensor) -> Tensor:
        copied = tensor.detach().to(device, copy=True)
        return copied.fill_(filled[name]) if name in filled else copied

    copied = copy_with(model, moved).train()
    for parameter in copied.parameters():
        parameter.requires_grad_(False)
    for hidden in unregistered(copied):
        hidden.to(device).requires_grad_(False)
    found = tensors_of(copied)
    return copied, {name: found[name].requires_grad_() for name in scored}


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators of the CPU and of one device, and put their states back at the end."""
    others = [] if device.type == "cpu" else [device]
    kind = device.type if others else "cuda"
    with torch.random.fork_rng(others, device_type=kind):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed every device
        for each in others:
            module = torch.get_device_module(each)
            with module.device(each):
                module.manual_seed(seed)
        yield


def gradients(
    network: nn.Module, scored: Mapping[str, Tensor], batches: Batches, loss: Loss, device: torch.device, seed: int = 0
) -> Iterator[dict[str, Tensor]]:
    """Yield the gradients of each batch; zeros for what the loss does not depend on, OTHERS for another process' batch.

    Those of a batch do not depend on the ones before it: its forward draws by its number, from buffers as they were.

    Raises:
        UsageError: a batch, or its loss, that can't be used, by its number from 1; a gradient of the first batch that
            is zero everywhere.
    """
    buffers = [buffer for module in (network, *unregistered(network)) for buffer in module.buffers()]
    began = [buffer.clone() for buffer in buffers]
    for number, batch in enumerate(batches, start=1):
        if batch is OTHERS:
            yield OTHERS
            continue
        where = f"batch {number}"
        inputs, target = _on_device(batch, device, where)
        args, kwargs = as_arguments(inputs)
        with torch.no_grad():
            for buffer, first in zip(buffers, began, strict=True):
                buffer.copy_(first)
        with seeded(seed_of(seed, number), device):
            with saying(UsageError, f"{where}: the network does not run in training mode on {_shapes(inputs)}"):
                outputs = network(*args, **kwargs)
            with saying(UsageError, f"{where}: the loss does not run"):
                value = loss(outputs, target)
        _check_loss(value, where)
        with saying(UsageError, f"{where}: the loss has no gradient"):
            found = torch.autograd.grad(
                value.reshape(()), list(scored.values()), allow_unused=True, materialize_grads=True
            )
        if number == 1 and not any(gradient.any() for gradient in found):
            said = f"its gradient is zero for all {len(scored)} weights and biases; expected one that changes with them"
            raise UsageError(f"{where}: the loss does not depend on the network: {said}")
        yield dict(zip(scored, found, strict=True))


def _on_device(batch: Any, device: torch.device, where: str) -> tuple[Any, Any]:
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        raise WrongType(f"{where}: a {type(batch).__name__}; expected a pair (inputs, target)")
    inputs, target = tree_map_only(Tensor, lambda tensor: tensor.detach().to(device, copy=True), tuple(batch))
    if not isinstance(inputs, Tensor | tuple | list | Mapping):
        raise WrongType(f"{where}: inputs are a {type(inputs).__name__}; expected a tensor, a tuple or a dict of them")
    for tensor in tree_leaves(inputs):
        if isinstance(tensor, Tensor) and not tensor.isfinite().all():
            raise UsageError(f"{where}: the inputs hold NaN or infinite values")
    return inputs, target


def _shapes(inputs: Any) -> str:
    return ", ".join(str(tuple(tensor.shape)) for tensor in tree_leaves(inputs) if isinstance(tensor, Tensor))


def _check_loss(value: Any, where: str) -> None:
    if not isinstance(value, Tensor):
        raise WrongType(f"{where}: the loss is a {type(value).__name__}; expected a scalar tensor")
    if value.numel() != 1:
        raise UsageError(f"{where}: the loss has shape {tuple(value.shape)}; expected a scalar")
    if not value.isfinite().all():
        raise UsageError(f"{where}: the loss is {value.item()}")
    if not value.requires_grad:
        raise UsageError(f"{where}: the loss does not depend on the network's weights; expected one with a gradient")
