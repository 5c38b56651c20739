"""Build a module with the kept indices of every parameter, and put its modules' own sizes right."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ranp.graph.graph import Graph, Mask
from ranp.graph.sizes import set_number
from ranp.modules import Module, copy_with

NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)  # the modules a shape is asked for


def resized(graph: Graph, model: Module, kept: Mask, *, private: bool = True) -> Module:
    """Return a smaller copy of a module: each parameter and buffer sliced, each module's size attributes set.

    Args:
        graph: of the module.
        model: the full module, on any device; it is untouched.
        kept: mask of the units that stay, shape (count,).
        private: see `copy_with`.
    """
    slim = copy_with(model, lambda name, tensor: graph.sliced(name, tensor, kept), private=private)
    widths = channel_widths(graph, kept)
    full = dict(model.named_modules())
    for path, module in slim.named_modules():
        resize_(module, full[path], widths.get(path))
    modules = dict(slim.named_modules())
    for size in graph.sizes:
        if (number := size.under(graph, kept)) is not None:
            set_number(modules[size.module], size.key, number)
    return slim


def channel_widths(graph: Graph, kept: Mask) -> dict[str, tuple[int, ...]]:
    """Return the input shape under a plan of each norm without a weight that was called in the runs, by path."""
    shapes: dict[str, tuple[int, ...]] = {}
    for run in graph.runs.values():
        for call in run.calls:
            if call.module in shapes or not issubclass(call.kind, NORMS) or f"{call.module}.weight" in graph.parameters:
                continue
            shapes[call.module] = graph.slim_shape(call.inputs, kept)
    return shapes


def resize_(module: nn.Module, full: nn.Module, inputs: tuple[int, ...] | None) -> None:
    """Set the size attributes of a module from its parameters, or from its input where it has none.

    Args:
        module: the slim one, changed in place.
        full: the same module of the full network.
        inputs: shape of its first input under the plan, if it was called.
    """
    for kinds, action in _RESIZERS:
        if isinstance(module, kinds):
            action(module, full, inputs)
            return


def sets_sizes(module: nn.Module) -> bool:
    """Whether `resize_` sets the size attributes of a module's kind."""
    return any(isinstance(module, kinds) for kinds, _ in _RESIZERS)


def _weight(module: nn.Module, name: str = "weight") -> torch.Tensor | None:
    """Return a tensor of a module, or the one of the same shape that a reparametrisation computes it from."""
    if nn.utils.parametrize.is_parametrized(module, name):
        parametrised: Any = module.parametrizations
        holder, names = parametrised[name], ["original1", "original"]  # a weight norm keeps lengths and directions
    else:
        holder, names = module, [f"{name}_orig", f"{name}_v", name]
    candidates = [getattr(holder, candidate, None) for candidate in names]
    return next((candidate for candidate in candidates if isinstance(candidate, torch.Tensor)), None)


def _conv(module: Any, full: Any, inputs: tuple[int, ...] | None) -> None:
    weight = _weight(module)
    assert weight is not None
    first, second = weight.shape[0], weight.shape[1]
    if isinstance(module, nn.modules.conv._ConvTransposeNd):
        if full.groups > 1 and full.groups == full.in_channels:
            module.groups = first
        module.in_channels, module.out_channels = first, second * module.groups
        return
    if full.groups > 1 and full.groups == full.in_channels:
        module.groups = first * full.groups // full.out_channels
    module.in_channels, module.out_channels = second * module.groups, first


def _linear(module: Any, full: Any, inputs: tuple[int, ...] | None) -> None:
    weight = _weight(module)
    assert weight is not None
    module.out_features, module.in_features = weight.shape


def _channels(name: str) -> Callable[[Any, Any, tuple[int, ...] | None], None]:
    def action(module: Any, full: Any, inputs: tuple[int, ...] | None) -> None:
        width = _own_width(module)
        if width is None and inputs is not None and len(inputs) > 1 and getattr(full, name):
            width = inputs[1]
        if width is not None:
            setattr(module, name, width)
        if isinstance(module, nn.GroupNorm) and full.num_groups == full.num_channels:
            module.num_groups = module.num_channels

    return action


def _own_width(module: nn.Module) -> int | None:
    for name in ("weight", "running_mean", "bias"):
        weight = _weight(module, name)
        if weight is not None:
            return int(weight.shape[0])
    return None


def _layer_norm(module: Any, full: Any, inputs: tuple[int, ...] | None) -> None:
    weight = _weight(module)
    if weight is not None:
        module.normalized_shape = tuple(weight.shape)
    elif inputs is not None:
        module.normalized_shape = tuple(inputs[-len(full.normalized_shape) :])


def _prelu(module: Any, full: Any, inputs: tuple[int, ...] | None) -> None:
    module.num_parameters = module.weight.shape[0]


def _recurrent(module: Any, full: Any, inputs: tuple[int, ...] | None) -> None:
    module.input_size = module.weight_ih_l0.shape[1]
    module.hidden_size = module.weight_hh_l0.shape[0] // (full.weight_hh_l0.shape[0] // full.hidden_size)
    if full.proj_size:
        module.proj_size = module.weight_hr_l0.shape[0]


def _cell(module: Any, full: Any, inputs: tuple[int, ...] | None) -> None:
    module.input_size = module.weight_ih.shape[1]
    module.hidden_size = module.weight_hh.shape[0] // (full.weight_hh.shape[0] // full.hidden_size)


def _embedding(module: Any, full: Any, inputs: tuple[int, ...] | None) -> None:
    module.num_embeddings, module.embedding_dim = module.weight.shape


_RESIZERS: list[tuple[Any, Callable[[Any, Any, tuple[int, ...] | None], None]]] = [
    (nn.modules.conv._ConvNd, _conv),
    (nn.Linear, _linear),
    (nn.modules.batchnorm._NormBase, _channels("num_features")),
    (nn.GroupNorm, _channels("num_channels")),
    ((nn.LayerNorm, nn.RMSNorm), _layer_norm),
    (nn.PReLU, _prelu),
    (nn.RNNBase, _recurrent),
    (nn.RNNCellBase, _cell),
    (nn.Embedding, _embedding),
]
