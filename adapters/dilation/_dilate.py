"""Turn strides into dilations without training again (Chen et al., "DeepLab", TPAMI 2018; Yu and Koltun, ICLR 2016).

A layer's stride goes, and the dilation and padding of every convolution and pool after it are multiplied by it. What
the network computed before is computed still, at every r-th position, r being the factor by which strides were removed;
the positions between are new. Whatever else looks at more than one position is refused, or said: a feature that is
resized to a given size (the logits of DeepLab) is exact until then.

Differs from what is usual: where a stride goes with a window that shrinks the feature (a pool over 2 x 2), the end is
padded, so that as many positions stay as there were and parallel paths still fit together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from ranp.adapters.dilation._strides import MAX_POOLS, MEAN_POOLS, PADS, End, Step, Strided, kernel_of
from ranp.adapters.dilation._windows import Axis, DilatedPool, OnLattice, Padding, on_lattice
from ranp.errors import CheckFailed, UnsupportedError, UsageError, named, saying
from ranp.figures import spell
from ranp.inputs import Inputs, flatten
from ranp.modules import copy_with, unwrapped

TOLERANCE = 1e-4
"""Largest |difference| / largest |value| at the positions there were before, in the network's own precision."""


@dataclass(frozen=True)
class Dilated:
    """A network whose strides are dilations.

    Args:
        network: the copy.
        changed: what became of each layer, by its path.
        compared: how many of the network's tensors were compared: outputs, and features before they are resized.
        difference: largest |difference| / largest |value| among those.
        exact: whether the outputs are among those.
    """

    network: nn.Module
    changed: dict[str, str]
    compared: int
    difference: float
    exact: bool


def dilate(
    model: nn.Module, output_stride: int | Sequence[int] = 8, *, example_inputs: Inputs | None = None
) -> nn.Module:
    """Return a copy of `model` whose features have at most a stride, with the same weights; the model is untouched.

    What every feature held before it holds at every r-th position, r being its stride there was / `output_stride`.
    Convolutions keep their class and names. Pools become `DilatedPool`; those to a fixed size look at the positions
    there were before. The two networks are run on the example and compared.

    Args:
        model: of images or volumes, in 1, 2 or 3 dimensions, whose strides are in modules of torch.
        output_stride: the largest stride that stays, for all dimensions or for each.
        example_inputs: what it is tried on; None guesses one from the first convolution.

    Raises:
        UsageError: no whole number, one the strides do not pass, one no stride is above, or a network that does not
            run on the example.
        UnsupportedError: an op or a layer that looks at several positions in another way; its name and module.
        CheckFailed: the outputs differ.

    >>> network = nn.Sequential(nn.Conv2d(1, 2, 3, stride=2, padding=1), nn.Conv2d(2, 2, 3, padding=1)).eval()
    >>> dense = dilate(network, 1)
    >>> dense
    Sequential(
      (0): Conv2d(1, 2, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))
      (1): Conv2d(2, 2, kernel_size=(3, 3), stride=(1, 1), padding=(2, 2), dilation=(2, 2))
    )
    >>> image = torch.rand(1, 1, 9, 9)
    >>> torch.allclose(dense(image)[..., ::2, ::2], network(image), atol=1e-6)
    True
    """
    return dilated(model, output_stride, example_inputs).network


def dilated(model: nn.Module, output_stride: int | Sequence[int] = 8, example_inputs: Inputs | None = None) -> Dilated:
    """Do what `dilate` does, and say what was changed; see there.

    Raises:
        UsageError: as `dilate`.
        UnsupportedError: likewise.
        CheckFailed: likewise.
    """
    model = unwrapped(model)
    inputs = _example(model) if example_inputs is None else example_inputs
    image = next((each.shape[2:] for each in flatten(inputs) if each.ndim > 2), None)
    if image is None:
        raise UsageError("example_inputs: holds no image; expected (B, C, *spatial)")
    wanted = _wanted(output_stride, len(image))
    before = Strided(copy_with(model), wanted, tuple(image))
    with saying(UsageError, "the network does not run on the example"):
        outputs = before.run(inputs)
    steps = {path: before.steps[module] for path, module in _modules(before.model) if module in before.steps}
    network, changed = _applied(copy_with(model, private=False), steps)
    if not changed:
        most = [int(max(each[axis] for each in before.strides)) for axis in range(len(image))] or [1]
        raise UsageError(
            f"{named('output_stride', spell(wanted))}: no stride is above it, the largest is {spell(most)}; expected "
            "less"
        )
    after = Strided(copy_with(network), (2**62,) * len(image), tuple(image))
    with saying(UnsupportedError, "the dilated network does not run; what it has joins features of other sizes"):
        after.run(inputs)
    difference = _difference(before.ends, after.ends)
    ends = before.ends[len(before.ends) - len(outputs) :]
    return Dilated(network, changed, sum(end.exact for end in before.ends), difference, all(end.exact for end in ends))


def _wanted(output_stride: int | Sequence[int], dims: int) -> tuple[int, ...]:
    given = tuple(output_stride) if isinstance(output_stride, Sequence) else (output_stride,) * dims
    if len(given) != dims or not all(type(each) is int and each > 0 for each in given):
        raise UsageError(
            f"{named('output_stride', output_stride)}: expected a whole number from 1 on, or {dims} of them"
        )
    return given


def _example(model: nn.Module) -> Tensor:
    """Return an image for the first convolution."""
    first = next((module for module in model.modules() if isinstance(module, _ConvNd)), None)
    if first is None:
        raise UsageError("example_inputs: is missing, and the network has no convolution to guess it from")
    sizes = (1, first.in_channels, *(128 if len(first.kernel_size) < 3 else 64,) * len(first.kernel_size))
    return torch.randn(sizes, generator=torch.Generator().manual_seed(0)).to(first.weight)


def _modules(model: nn.Module) -> list[tuple[str, nn.Module]]:
    return list(model.named_modules(remove_duplicate=False))


def _applied(network: nn.Module, steps: dict[str, Step]) -> tuple[nn.Module, dict[str, str]]:
    """Change the layers of a network, and return it with what became of them."""
    changed: dict[str, str] = {}
    done: dict[int, tuple[nn.Module, str]] = {}
    for path, module in _modules(network):
        if id(module) not in done and path in steps:
            step = steps[path]
            says = [f"stride {spell(step.kept)}"] if step.kept != _strides(module, len(step.kept)) else []
            says += [f"dilation times {spell(step.removed)}"] if max(step.removed) > 1 else []
            if says:
                done[id(module)] = _layer(path, module, step), ", ".join(says)
        if id(module) not in done:
            continue
        layer, changed[path] = done[id(module)]
        if layer is not module and path:
            network.set_submodule(path, layer)
        elif layer is not module:
            network = layer
    return network, changed


def _strides(module: nn.Module, dims: int) -> tuple[int, ...]:
    return kernel_of(module, "stride", dims) if hasattr(module, "stride") else (1,) * dims


def _layer(path: str, module: Any, step: Step) -> Any:
    """Return what stands for a layer: a convolution and a padding as they are, changed; another module for a pool."""
    dims = len(step.kept)
    if type(module) in PADS:
        factors = [removed for removed in reversed(step.removed) for _ in range(2)]  # the last dimension first
        module.padding = tuple(side * removed for side, removed in zip(module.padding, factors, strict=True))
        return module
    if isinstance(module, _ConvNd):
        return _convolved(path, module, step)
    if not isinstance(module, MAX_POOLS + MEAN_POOLS):
        return OnLattice(module, step.removed)
    if getattr(module, "return_indices", False):
        raise UnsupportedError(f"{path}: returns the places of its maxima, which an unpooling takes for those it had")
    mean = isinstance(module, MEAN_POOLS)
    kernels, paddings = kernel_of(module, "kernel_size", dims), kernel_of(module, "padding", dims)
    apart = (1,) * dims if mean else kernel_of(module, "dilation", dims)
    axes = [
        Axis(kernel, stride, (pad, pad), dilation, removed, kept, bool(module.ceil_mode))
        for kernel, stride, pad, dilation, removed, kept in zip(
            kernels, _strides(module, dims), paddings, apart, step.removed, step.kept, strict=True
        )
    ]
    count = bool(getattr(module, "count_include_pad", True))
    pool = DilatedPool(axes, mean=mean, count_padding=count, divisor=getattr(module, "divisor_override", None))
    return pool.train(module.training)


def _convolved(path: str, module: Any, step: Step) -> Any:
    """Change stride, dilation and padding of a convolution."""
    reach = [apart * (kernel - 1) for apart, kernel in zip(module.dilation, module.kernel_size, strict=True)]
    if module.padding == "same":
        pads = [(each // 2, each - each // 2) for each in reach]
    else:
        pads = [(pad, pad) for pad in ((0,) * len(reach) if module.padding == "valid" else module.padding)]
    axes = tuple(
        Axis(kernel, stride, pad, dilation, removed, kept)
        for kernel, stride, pad, dilation, removed, kept in zip(
            module.kernel_size, module.stride, pads, module.dilation, step.removed, step.kept, strict=True
        )
    )
    plain = all(axis.same and axis.padding[0] == axis.padding[1] for axis in axes)
    if module.padding_mode != "zeros" and any(map(any, pads)) and not (plain and max(step.removed) == 1):
        raise UnsupportedError(
            f"{path}: padding_mode={module.padding_mode!r} looks at other positions at the border; expected zeros"
        )
    module.stride = step.kept
    module.dilation = tuple(axis.dilation * axis.removed for axis in axes)
    if plain:
        module.padding = tuple(axis.padding[0] * axis.removed for axis in axes)
    else:
        module.padding = (0,) * len(axes)
        module.register_forward_pre_hook(Padding(axes))
    return module


def _difference(before: Sequence[End], after: Sequence[End]) -> float:
    """Return the largest difference of two runs at the positions there were before, relative to the largest value.

    Raises:
        CheckFailed: it is more than `TOLERANCE`, or sizes differ.
    """
    largest = 0.0
    for (old, removed, exact), (new, *_) in zip(before, after, strict=True):
        if not exact or not old.numel():
            continue
        new = on_lattice(new, removed)
        if old.shape != new.shape:
            raise CheckFailed(f"the dilated network gives {tuple(new.shape)} where {tuple(old.shape)} was expected")
        old, new = old.double(), new.double()
        largest = max(largest, float((new - old).abs().max()) / (float(old.abs().max()) or 1.0))
    if not largest <= TOLERANCE:
        raise CheckFailed(f"the dilated network differs by {largest:.1e} of the largest value, more than {TOLERANCE:g}")
    return largest
