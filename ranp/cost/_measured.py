"""What a training step takes where it really runs, beside what was predicted."""

import gc
import resource
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from ranp.cost._training import Step, Taking, checkpointed_
from ranp.errors import UnsupportedError, saying
from ranp.inputs import Inputs, map_tensors
from ranp.modules import copy_with, undisturbed

_STEPS = 2  # the second finds the optimizer's state made


@dataclass(frozen=True)
class MeasuredMemory:
    """What training steps took on a device.

    Args:
        bytes: that were added at the most.
        device: where.
        of: what was looked at, in words.
    """

    bytes: int
    device: str
    of: str

    def to_dict(self) -> dict[str, int | str]:
        """Return the figures by name."""
        return asdict(self)


def measure_training_memory(
    model: nn.Module, inputs: Inputs, step: Step, device: str | torch.device = "cpu"
) -> MeasuredMemory:
    """Take real training steps with a copy of a network, and return what they added to what was taken before.

    On CUDA these are the bytes that tensors and libraries' workspaces were given. On the CPU it is the resident memory
    of the whole process: pages that were there before and are used again are not seen, the allocator's own are.

    Args:
        model: untouched.
        inputs: a tensor, a tuple of positional inputs, or a dict of keyword inputs.
        step: how; its target is taken to be zero everywhere.
        device: where.

    Raises:
        UnsupportedError: the step does not run there.
    """
    where = torch.device(device)
    gc.collect()
    before = _taken(where, fresh=True)
    with saying(UnsupportedError, f"a training step on {where}"), undisturbed():
        copied = copy_with(model).to(where).train()
        checkpointed_(copied, step.checkpoint)
        given = map_tensors(inputs, lambda tensor: tensor.to(where))
        target = step.target
        if target is not None:
            target = map_tensors(target, lambda tensor: torch.zeros(tensor.shape, dtype=tensor.dtype, device=where))
        taking = Taking(copied, step, where.type)
        for _ in range(_STEPS):
            taking.step(given, target)
    of = "tensors and workspaces on the device" if where.type == "cuda" else "the resident memory of the process"
    return MeasuredMemory(max(0, _taken(where, fresh=False) - before), str(where), of)


def _taken(device: torch.device, *, fresh: bool) -> int:
    """Return the bytes that are taken now, and begin to look for the most; or the most since then."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        if fresh:
            torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device) if fresh else torch.cuda.max_memory_allocated(device)
    status, marks = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    try:
        if fresh:
            marks.write_text("5")  # Linux begins anew to remember the most
        kilobytes = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(kilobytes["VmRSS" if fresh else "VmHWM"].split()[0]) * 1024
    except (OSError, KeyError):  # another system, or one that does not let us: the most since the process began
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
