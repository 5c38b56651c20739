"""What a slim network frees, spent as nnU-Net's planner would: on a larger patch or a larger batch.

The planner shrinks a patch, axis by axis, until a proxy of its memory fits: the elements of all outputs of convolutions
for one sample. Here a patch grows the other way, along the axis that is smallest beside the median image, for as long
as ranp's figure of a training step fits: of nnU-Net's step, SGD with Nesterov's momentum under autocast to float16.
A patch stays divisible by the strides of its axes and no larger than the median image, a batch covers at most 5 % of
the voxels of the data set (`default_experiment_planner.py` of nnU-Net 2.8).
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from math import ceil, prod
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ranp.adapters.nnunet._network import network
from ranp.adapters.nnunet._plans import Configuration
from ranp.cost import Step, largest, training_peak
from ranp.data import losses
from ranp.errors import InfeasibleError, named
from ranp.figures import read_bytes, size, spell
from ranp.inputs import flatten

_COVERED = 0.05  # share of the data set's voxels in a batch
_LEAST = 2  # samples in a batch of nnU-Net


@dataclass(frozen=True)
class Spending:
    """What is bought, and for how much.

    Args:
        on: a larger patch, or a larger batch.
        memory: such as 8GiB.
    """

    on: Literal["patch", "batch"]
    memory: str


def spend(asked: Spending, slim: nn.Module, base: Configuration, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the patch and the batch that fit into memory.

    Args:
        asked: what is bought.
        slim: the network.
        base: the configuration that the patch and the batch are of so far.
        settings: of the full network.

    Returns:
        `patch_size`, `batch_size`, `memory` (bytes of a training step), `proxy` (nnU-Net's, elements of one sample),
        and the same of the full network at its own patch and batch: `full`.

    Raises:
        InfeasibleError: the patch and the batch of the configuration take more as they are.
    """
    limit, patch, batch = read_bytes(asked.memory, "memory"), base.patch, int(base.values.get("batch_size", _LEAST))
    now = memory(slim, base.channels, patch, batch)
    if now > limit:
        said = f"{named('memory', asked.memory)}: a training step of the slim network takes {size(now)} at"
        raise InfeasibleError(f"{said} the patch {spell(patch)} and the batch {batch} it has", now)
    if asked.on == "patch":
        patch, now = _largest_patch(slim, base, batch, limit)
    else:
        most = max(batch, _batch_covered(base))
        cost_of = partial(memory, slim, base.channels, patch)
        batch, now = largest(cost_of, limit, least=batch, most=most)
    full = network(**{**settings, "deep_supervision": True})
    before, batch_before = base.patch, int(base.values.get("batch_size", _LEAST))
    return {
        "on": asked.on, "patch_size": list(patch), "batch_size": batch, "memory": now,
        "proxy": proxy(slim, base.channels, patch),
        "full": {
            "patch_size": list(before), "batch_size": batch_before,
            "memory": memory(full, base.channels, before, batch_before), "proxy": proxy(full, base.channels, before),
        },
    }  # fmt: skip


def memory(module: nn.Module, channels: int, patch: tuple[int, ...], batch: int) -> int:
    """Return the bytes of a training step as nnU-Net takes it."""
    loss = losses.get("ce-dice", supervision="nnunet")
    target = torch.empty((batch, *patch), dtype=torch.int64, device="meta")
    step = Step(loss, target, partial(torch.optim.SGD, lr=0.01, momentum=0.99, nesterov=True), "fp16", 12.0)
    return training_peak(supervised(module, True), torch.empty(batch, channels, *patch, device="meta"), step)


def proxy(module: nn.Module, channels: int, patch: tuple[int, ...]) -> int:
    """Return how many elements the outputs of all convolutions have for one sample, without deep supervision.

    >>> proxy(nn.Conv2d(1, 4, 3, padding=1), 1, (8, 8))
    256
    """
    alone = supervised(module, False).to("meta").eval()
    counts: list[int] = []

    def count(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        counts.append(sum(part.numel() for part in flatten(output)))

    for each in alone.modules():
        if isinstance(each, nn.modules.conv._ConvNd):
            each.register_forward_hook(count)
    with torch.no_grad():
        alone(torch.empty(1, channels, *patch, device="meta"))
    return sum(counts)


def supervised(module: nn.Module, on: bool) -> nn.Module:
    """Return a copy of a network with deep supervision switched on or off, if it has any."""
    other = copy.deepcopy(module)
    for each in other.modules():
        if isinstance(getattr(each, "deep_supervision", None), bool):
            each.deep_supervision = on  # type: ignore[assignment]
    return other


def _largest_patch(slim: nn.Module, base: Configuration, batch: int, limit: float) -> tuple[tuple[int, ...], int]:
    """Grow a patch along the axis that is smallest beside the median image, then along those that can still grow."""
    strides = [stride if isinstance(stride, list) else [stride] * len(base.patch) for stride in _strides(base)]
    steps = [prod(stride[axis] for stride in strides) for axis in range(len(base.patch))]
    median = base.values.get("median_image_size_in_voxels", base.patch)
    median = [float(each) for each in median][-len(base.patch) :]
    most = [ceil(length / step) * step for length, step in zip(median, steps, strict=True)]
    patch, spent = base.patch, memory(slim, base.channels, base.patch, batch)
    open_axes = set(range(len(patch)))
    while open_axes:
        axis = min(open_axes, key=lambda each: (patch[each] / median[each], each))
        wider = tuple(length + steps[axis] * (each == axis) for each, length in enumerate(patch))
        cost = memory(slim, base.channels, wider, batch) if wider[axis] <= most[axis] else limit + 1
        if cost > limit:
            open_axes.remove(axis)
        else:
            patch, spent = wider, int(cost)
    return patch, spent


def _strides(base: Configuration) -> list[Any]:
    return list(base.values["architecture"]["arch_kwargs"]["strides"])


def _batch_covered(base: Configuration) -> int:
    """Return the batch whose patches cover 5 % of the data set, at least two."""
    whole = base.plans["configurations"].get("3d_fullres", {}) if len(base.patch) == 2 else base.values
    median = whole.get("median_image_size_in_voxels") or base.values.get("median_image_size_in_voxels", base.patch)
    voxels = prod(map(float, median)) * int(base.dataset.get("numTraining", 1))
    return max(round(voxels * _COVERED / prod(base.patch)), _LEAST)
